"""The documents of a collection into a deployed index: encoded by the cluster, or here."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neural_sparse.errors import InputError
from neural_sparse.opensearch.bulk import BulkReport, BulkSettings, Progress, send, text_json
from neural_sparse.opensearch.deploy.plan import ENCODED_BY, TEXT_FIELD, VECTOR_FIELD, Plan
from neural_sparse.opensearch.deploy.server import Server
from neural_sparse.opensearch.features import vector_objects
from neural_sparse.opensearch.guards import check_ids
from neural_sparse.opensearch.parity import ServedDocuments, compare_texts
from neural_sparse.search.doc_ids import DocumentIds

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder

logger = logging.getLogger(__name__)

_NOT_LOADED = "Model not ready yet"
_ATTEMPTS = (
    6  # to have such a node load it, with pauses that grow: a model may be called deployed before it answers
)
_LOOKED_UP = 500  # of one _mget
_WINDOW = 2000  # encoded here, and sent, at a time
_ENCODED_THERE = 32  # of one _bulk: the cluster answers once it has encoded them all
_CUT_THERE = 8  # of one _bulk, where each is several passages


@dataclass(frozen=True)
class Documents:
    """What a deployed index is filled with.

    Args:
        model: encodes here, for deployments without an ingest pipeline.
        queries: by which the rankings are proven; beginnings of documents if there are none.

    Raises:
        InputError: ids that are not unique, or that the server would refuse.
    """

    doc_ids: Sequence[str]
    texts: Sequence[str]
    model: NeuralSparseEncoder | None = None
    queries: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_ids(self.doc_ids)
        DocumentIds.of(self.doc_ids)

    def check(self, plan: Plan) -> None:
        """Raises InputError: nobody, or two, to encode; a model that is not the export's."""
        if plan.options.ingest:
            if self.model is not None:
                raise InputError(
                    "the cluster encodes documents by its ingest pipeline: leave --model out, or --no-ingest"
                )
            return
        if self.model is None:
            raise InputError(
                "without an ingest pipeline documents are encoded here: give --model, or leave --no-ingest out"
            )
        if len(plan.exported.tokens) == self.model.vocab_size:
            served = ServedDocuments(plan.exported.encoder.path)
            if compare_texts(self.model, served, plan.exported.tokens).passed:
                return
        raise InputError(
            f"{self.model.name} is not the model of this export, or reads another number of tokens: its vectors of "
            "a few texts differ from the export's"
        )


def load_documents(
    server: Server,
    plan: Plan,
    documents: Documents,
    deploy_again: Callable[[], None] | None = None,
    show_progress: bool = True,
) -> BulkReport:
    """Send what the index lacks, or holds with another text or another encoder's vector.

    A run that was stopped is finished by the next.

    Args:
        deploy_again: has the ingest pipeline's model answer, which a node that restarted has not loaded. Without it
            the documents that met such a node are refused.

    Raises:
        InputError: documents that the server refused, with the first reasons; see `bulk.send`.
    """
    rows = list(_missing(server, plan, documents))
    report = BulkReport(resumed=len(documents.doc_ids) - len(rows))

    def sent(rows: Sequence[int], pipeline: str, size: BulkSettings) -> None:
        part = send(
            server.client,
            plan.index,
            [documents.doc_ids[row] for row in rows],
            sources=_Sources(plan, documents, rows),
            progress=Progress(None, {}),
            settings=size,
            show_progress=show_progress,
            pipeline=pipeline,
        )
        report.indexed += part.indexed
        report.retries += part.retries
        report.failed += part.failed

    if plan.ingest_pipeline is None:
        for start in range(0, len(rows), _WINDOW):  # no more vectors are held than are sent soon
            sent(rows[start : start + _WINDOW], "_none", BulkSettings())
    else:
        # The processor refuses texts of nothing but spaces; such a document has no vector here either.
        empty = [row for row in rows if not documents.texts[row].strip()]
        full = [row for row in rows if documents.texts[row].strip()]
        size = _ENCODED_THERE if plan.options.passages is None else _CUT_THERE
        sent(full, plan.ingest_pipeline, BulkSettings(documents=size))
        for attempt in range(_ATTEMPTS):
            away = {one.doc_id for one in report.failed if _NOT_LOADED in one.reason}
            if not away or deploy_again is None:
                break
            logger.info("%s: a node restarted and its model is not loaded; deployed again", server.where)
            deploy_again()
            server.patience.wait(server.patience.look * 2**attempt)
            report.failed = [one for one in report.failed if one.doc_id not in away]
            report.retries += 1
            again = [row for row in full if documents.doc_ids[row] in away]
            sent(again, plan.ingest_pipeline, BulkSettings(documents=size))
        if empty:
            sent(empty, "_none", BulkSettings())
    server.ask(server.client.indices.refresh, index=plan.index)
    if report.failed:
        shown = "; ".join(f"{one.doc_id!r}: {one.reason}" for one in report.failed[:3])
        raise InputError(
            f"{server.where}: {len(report.failed):,} of {len(documents.doc_ids):,} documents were refused ({shown}); "
            "the others are in, and the alias was left as it is: mend or leave out those, and run this again"
        )
    return report


class _Sources:
    """JSON of the documents `rows` from one of them on, as `bulk.send` asks for it."""

    def __init__(self, plan: Plan, documents: Documents, rows: Sequence[int]) -> None:
        self.plan, self.documents, self.rows = plan, documents, rows

    def __call__(self, start: int) -> Iterator[str]:
        texts = [self.documents.texts[row] for row in self.rows[start:]]
        model = self.documents.model
        by = f"{json.dumps(ENCODED_BY)}:{json.dumps(self.plan.encoded_by)}"
        if model is None:
            for text in texts:
                yield f"{{{json.dumps(TEXT_FIELD)}:{text_json(text)},{by}}}"
            return
        names = self.plan.exported.tokens
        approximate = self.plan.options.field == "sparse_vector"
        if approximate:  # known by their ids
            names = [str(token) if name else "" for token, name in enumerate(names)]
        vectors = vector_objects(model.encode_documents(texts), names)
        for text, vector in zip(texts, vectors, strict=True):
            # An empty vector, as the first of a field, spoils it for those that follow.
            held = "" if approximate and vector == "{}" else f",{json.dumps(VECTOR_FIELD)}:{vector}"
            yield f"{{{json.dumps(TEXT_FIELD)}:{text_json(text)},{by}{held}}}"


def _missing(server: Server, plan: Plan, documents: Documents) -> Iterator[int]:
    """Rows that the index does not hold with this text, encoded by this export."""
    index = plan.index
    if not int(server.ask(server.client.count, index=index)["count"]):
        yield from range(len(documents.doc_ids))
        return
    for start in range(0, len(documents.doc_ids), _LOOKED_UP):
        ids = list(documents.doc_ids[start : start + _LOOKED_UP])
        answer: dict[str, Any] = server.ask(
            server.client.mget,
            index=index,
            body={"ids": ids},
            params={"_source_includes": f"{TEXT_FIELD},{ENCODED_BY}"},
        )
        for row, found in enumerate(answer["docs"], start=start):
            wanted = {TEXT_FIELD: json.loads(text_json(documents.texts[row])), ENCODED_BY: plan.encoded_by}
            if not found.get("found") or found.get("_source", {}) != wanted:
                yield row
