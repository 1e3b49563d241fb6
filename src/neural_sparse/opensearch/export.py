"""A model as a folder that OpenSearch can be given: packages, requests, and the proof that nothing changed."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from neural_sparse.errors import InputError
from neural_sparse.io.files import check_output_folder, replacing_folder, write_json, write_text
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.opensearch.deploy.exported import MANIFEST, Exported
from neural_sparse.opensearch.deploy.requests_file import requests_file
from neural_sparse.opensearch.guards import (
    MIN_QUERY_WEIGHT,
    check_query_side,
    check_vocabulary,
    query_weight_problems,
    servable_query_weights,
    served_name,
    server_names,
)
from neural_sparse.opensearch.onnx_file import OnnxDocuments, int8_encoder, write_onnx
from neural_sparse.opensearch.packages import (
    Package,
    document_tokenizer,
    query_tokenizer,
    save_torchscript,
    sparse_encoding_package,
    sparse_tokenize_package,
)
from neural_sparse.opensearch.parity import (
    AWKWARD_TEXTS,
    SERVER_TOKENS,
    Check,
    Rankings,
    ServedDocuments,
    ServedQueries,
    compare_lengths,
    compare_queries,
    compare_shipped,
    compare_texts,
    query_side,
    require,
    too_long,
)
from neural_sparse.opensearch.shipped import PRUNE, TwoPhase
from neural_sparse.opensearch.traced import (
    LIBTORCH,
    ServedEncoder,
    bound_devices,
    check_operators,
    example_features,
    graph_operators,
    served_encoder,
    trace,
)

if TYPE_CHECKING:
    from neural_sparse.corpora.collection import Collection
    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.opensearch.parity import Rankings

logger = logging.getLogger(__name__)

SAMPLE_TEXT = "Return a new sorted list from the items in iterable."
SAMPLE_QUERY = "sort a list"


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported.

    Attributes:
        name: of the model on the server; the folder's name if None.
        version: of the model on the server.
        libtorch: versions whose operators the traced model may use.
        int8: also write a quantised document side. onnx: also write the document side as ONNX.
        clip_query_weights: move query weights outside (0, 64] into it instead of refusing them.
        uniform_query_weights: accept a query table of nothing but ones.
        prune: share of a document's greatest weight below which its ingest pipeline drops weights, as the parity table
            looks at it; None: no such row. Say the same to `deploy`.
        two_phase: also look at what a two-phase search would find. Both need a collection for rankings.
    """

    name: str | None = None
    version: str = "1.0.0"
    libtorch: Sequence[str] = LIBTORCH
    int8: bool = False
    onnx: bool = False
    clip_query_weights: bool = False
    uniform_query_weights: bool = False
    prune: float | None = PRUNE
    two_phase: bool = True

    def __post_init__(self) -> None:
        if self.prune is not None and not 0 < self.prune < 1:
            raise InputError(f"prune is a share between 0 and 1, or none, not {self.prune:g}")


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        folder: holds encoder/, query/, deploy.http and export.json.
        packages: document side, query side, then the quantised document side if asked for.
        checks: the parity run. operators: what the traced graph uses, and how often.
    """

    folder: Path
    packages: list[Package]
    checks: list[Check]
    operators: dict[str, int]
    remarks: list[str] = field(default_factory=list)


def export_model(
    model: NeuralSparseEncoder,
    output: str | Path,
    collection: Collection | None = None,
    options: ExportOptions | None = None,
) -> Export:
    """Write a model for OpenSearch, and compare what was written with the model.

    Args:
        output: a folder that does not exist yet, or is empty.
        collection: documents, queries and judgements on which rankings are compared too.

    Raises:
        InputError: `output` holds something; the model cannot be served (see `guards`, `operators`); the
            export differs from the model by more than 1e-4. Nothing is left behind.
    """
    options = options or ExportOptions()
    output = check_output_folder(output)
    name = served_name(options.name or model.name)
    check_vocabulary(model)
    if model.max_length > SERVER_TOKENS:
        raise InputError(
            f"the model reads {model.max_length:,} tokens of a document, and OpenSearch cuts every text at "
            f"{SERVER_TOKENS}: export with --max-length {SERVER_TOKENS}, and split longer documents (text_chunking)"
        )
    names = server_names(model.tokenizer)
    table = None if model.query_encoder != "inference-free" else _table(model, names, options)
    silent = [index for index, token in enumerate(names) if not token]
    with replacing_folder(output) as folder:
        work = _Work(model, folder, name=name, options=options, names=names, silent=silent)
        encoder, documents, operators = work.document_side("encoder", served_encoder(model))
        asked = list(collection.queries.values()) if collection else []
        checks = [compare_texts(model, documents, names), *compare_lengths(model, documents, silent)]
        if table is None:
            queries = encoder
            if model.query_encoder == "own":
                queries, *_ = work.document_side("query", served_encoder(model, "query"))
        else:
            queries = sparse_tokenize_package(
                _made(folder / "query"),
                f"{name}-query",
                version=options.version,
                tokenizer=query_tokenizer(model.tokenizer),
                idf=table.weights,
                description=f"Query weights of {name}: tokens are looked up, no model runs",
            )
        lookup = query_side(queries)
        if isinstance(lookup, ServedDocuments):
            checks.append(
                compare_texts(model, lookup, names, what="query vectors, awkward texts", queries=True)
            )
        elif (
            table is not None and not table.problems
        ):  # clipped weights differ from the model's, as asked for
            limit = 1.1 * MIN_QUERY_WEIGHT if table.zeros else 0.0
            checks += compare_queries(model, lookup, names, [*AWKWARD_TEXTS.values(), *asked], limit=limit)
            if cut := too_long(lookup, asked):
                logger.warning(
                    "%d queries have more than %d tokens, and query models of the server read no more: send "
                    "query_tokens for these (deploy --query tokens)",
                    cut,
                    SERVER_TOKENS,
                )
        require(checks)
        packages = [encoder] if queries is encoder else [encoder, queries]
        rankings = None
        checks += compare_shipped(model, options.prune)
        if collection is not None:
            rankings = Rankings(model, collection)
            checks += rankings.truncated()
            two_phase = TwoPhase() if options.two_phase else None
            looked_up = lookup if isinstance(lookup, ServedQueries) else None
            checks += rankings.shipped(looked_up, names, options.prune, two_phase)
        if options.int8:
            package, more = work.int8(rankings)
            packages.append(package)
            checks += more
        if options.onnx:
            checks += work.onnx({} if table is None else table.weights, rankings)
        exported = Exported(folder, name, version=options.version, encoder=encoder, queries=queries)
        requests = requests_file(
            exported,
            SAMPLE_TEXT,
            sample_query=SAMPLE_QUERY,
            expected_text=documents.weights(SAMPLE_TEXT),
            expected_query=lookup.weights(SAMPLE_QUERY),
        )
        write_text(folder / "deploy.http", requests)
        manifest = {
            "model": model.name,
            "name": name,
            "version": options.version,
            "max_length": model.max_length,
            "activation": model.activation,
            "own_words": model.own_words is not None,
            "query_encoder": model.query_encoder,
            "fingerprint": Fingerprint.of(model).as_json(),
            "libtorch": list(options.libtorch),
            "operators": operators,
            "packages": [
                {**package.config(), "file": str(package.path.relative_to(folder))} for package in packages
            ],
            "parity": [check.to_dict() for check in checks],
            "remarks": [] if table is None else table.remarks,
        }
        write_json(folder / MANIFEST, manifest)
    moved = [_moved(package, folder, output) for package in packages]
    remarks = [] if table is None else table.remarks
    return Export(output, moved, checks=checks, operators=operators, remarks=remarks)


@dataclass(frozen=True)
class _Table:
    """Query weights as a server takes them.

    Attributes:
        zeros: whether some were 0. problems: of those outside (0, 64], moved as asked for. remarks: on both.
    """

    weights: dict[str, float]
    zeros: bool
    problems: list[str]
    remarks: list[str]


def _table(model: NeuralSparseEncoder, names: Sequence[str], options: ExportOptions) -> _Table:
    if not options.uniform_query_weights:
        check_query_side(model)
    table = {
        token: weight for token, weight in zip(names, model.query_weights.tolist(), strict=True) if token
    }
    remarks = []
    if zeros := [token for token, weight in table.items() if weight == 0]:
        # A token that training or a table leaves without weight: the server drops none, and refuses 0.
        table |= dict.fromkeys(zeros, MIN_QUERY_WEIGHT)
        remarks.append(f"{len(zeros):,} query weights are 0, such as that of {zeros[0]!r}")
    problems = query_weight_problems(table)
    weights = servable_query_weights(table, options.clip_query_weights)
    return _Table(weights, bool(zeros), problems, remarks + problems)


@dataclass(frozen=True)
class _Work:
    """What all forms of the document side are made from."""

    model: NeuralSparseEncoder
    folder: Path
    name: str
    options: ExportOptions
    names: list[str]
    silent: list[int]

    def document_side(
        self, kind: str, module: ServedEncoder
    ) -> tuple[Package, ServedDocuments, dict[str, int]]:
        """Trace `module` and write its package to the folder `kind`."""
        traced = trace(module, example_features(self.model))
        operators = graph_operators(traced)
        check_operators(operators, self.options.libtorch)
        if devices := bound_devices(traced):
            logger.warning(
                "%s: its traced form runs on %s only, not on nodes with another device",
                type(module.mlm).__name__,
                ", ".join(sorted(devices)),
            )
        what = "queries" if kind == "query" else "documents"
        name = f"{self.name}-query" if kind == "query" else self.name + kind.removeprefix("encoder")
        with tempfile.TemporaryDirectory() as scratch:
            torchscript = Path(scratch) / "model.pt"
            save_torchscript(traced, torchscript)
            package = sparse_encoding_package(
                _made(self.folder / kind),
                name,
                version=self.options.version,
                torchscript=torchscript,
                tokenizer=document_tokenizer(self.model.tokenizer, self.model.max_length),
                description=f"Sparse encoder of {what} {name}, {self.model.max_length} tokens at most",
            )
        return package, ServedDocuments(package.path), dict(sorted(operators.items()))

    def int8(self, rankings: Rankings | None) -> tuple[Package, list[Check]]:
        """The quantised document side, and what quantisation costs."""
        package, documents, _ = self.document_side("encoder-int8", int8_encoder(self.model))
        checks = [compare_texts(self.model, documents, self.names, what="int8: document vectors", limit=None)]
        if rankings is not None:
            checks += rankings.compare("int8 against float32", rankings.encoded_by(documents.output))
        return package, checks

    def onnx(self, weights: dict[str, float], rankings: Rankings | None) -> list[Check]:
        """onnx/: model.onnx, tokenizer.json and idf.json."""
        folder = _made(self.folder / "onnx")
        write_onnx(self.model, folder / "model.onnx")
        tokenizer = document_tokenizer(self.model.tokenizer, self.model.max_length)
        write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
        write_json(folder / "idf.json", weights)
        documents = OnnxDocuments(folder / "model.onnx", tokenizer)
        checks = [
            compare_texts(self.model, documents, self.names, what="ONNX: document vectors"),
            *compare_lengths(self.model, documents, self.silent, what="ONNX: "),
        ]
        require(checks)
        if rankings is not None:
            checks += rankings.compare("ONNX against torch", rankings.encoded_by(documents.output))
        return checks


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _moved(package: Package, before: Path, after: Path) -> Package:
    return replace(package, path=after / package.path.relative_to(before))
