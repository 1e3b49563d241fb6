"""The same model brought to the same node by opensearch-py-ml and by `neural-sparse deploy`: vectors, steps, seconds.

    python -m venv peer && peer/bin/pip install opensearch-py-ml==1.3.0 "transformers<5" sentence-transformers mdutils
    python benchmarks/deploy_peer.py peer/bin/python

opensearch-py-ml imports a module that Transformers 5 has no longer, and two that it does not ask for, so it has an
environment of its own, whose Python is named.

Starts a single node of OpenSearch (see docs/opensearch.md) for each of the two. Each brings the document model and the
query table, makes an ingest pipeline and an index, and indexes one document; the two clusters' vectors of the awkward
texts of the parity table are then compared with the model's own. opensearch-py-ml reads the query table from a hub and
nowhere else: here it is handed the file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from neural_sparse import NeuralSparseEncoder

MAX_LENGTH = 512  # what opensearch-py-ml takes from the tokenizer
NAME = "peer"
Vector = dict[str, float]


class Steps:
    """Seconds of each step, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def peer(url: str, model: Path, idf: Path, folder: Path) -> tuple[Steps, list[str]]:
    """opensearch-py-ml's way, and what its users then do by hand; returns the two model ids."""
    from opensearch_py_ml.ml_commons import MLCommonClient
    from opensearch_py_ml.ml_models import SparseEncodingModel
    from opensearch_py_ml.ml_models.sparse_tokenize_model import SparseTokenizeModel
    from opensearchpy import OpenSearch

    client = OpenSearch(url, timeout=120)
    step, ids = Steps(), []
    prefix = "plugins.ml_commons."
    with step("settings, by hand"):
        settings = {"only_run_on_ml_node": False, "allow_registering_model_via_local_file": True}
        client.cluster.put_settings(
            body={"persistent": {prefix + key: value for key, value in settings.items()}}
        )
    for what, make in (("document model", SparseEncodingModel), ("query table", SparseTokenizeModel)):
        with (
            step(f"{what}: packed"),
            patch(f"{SparseTokenizeModel.__module__}.hf_hub_download", lambda **_: str(idf)),
        ):
            made = make(str(model), folder_path=str(folder / what), overwrite=True)
            (folder / what).mkdir(parents=True)
            packed = made.save_as_pt(
                ["today is sunny"], model_id=NAME, add_apache_license=False, model_name=f"{NAME}.pt"
            )
            config = made.make_model_config_json(model_name=f"{NAME} {what}")
        with step(f"{what}: uploaded and deployed"):
            ids.append(MLCommonClient(client).register_model(packed, config))
    with step("pipeline and index, by hand"):
        processor = {"sparse_encoding": {"model_id": ids[0], "field_map": {"text": "vector"}}}
        client.ingest.put_pipeline(id=NAME, body={"processors": [processor]})
        fields = {"text": {"type": "text"}, "vector": {"type": "rank_features"}}
        client.indices.create(
            index=NAME,
            body={"mappings": {"properties": fields}, "settings": {"index.default_pipeline": NAME}},
        )
    with step("a document"):
        client.index(index=NAME, id="1", body={"text": "Return a new sorted list."})
    return step, ids


def ours(
    client: Any, model: NeuralSparseEncoder, folder: Path, where: str
) -> tuple[dict[str, float], list[str]]:
    from neural_sparse.opensearch import export_model
    from neural_sparse.opensearch.deploy import DeployOptions, deploy

    step = Steps()
    with step("export, with its proof"):
        export = export_model(model, folder / "export").folder
    with step("deploy --allow-settings, with its proof"):
        found = deploy(client, export, DeployOptions(allow_settings=True), where=where)
    with step("a document"):
        client.index(index=found.plan.index, id="1", body={"text": "Return a new sorted list."})
    return step.seconds, [found.models[role].model_id for role in ("encoder", "queries")]


def differences(found: dict[str, Vector], expected: dict[str, Vector]) -> dict[str, float]:
    """{text: greatest difference of a weight}."""
    return {
        name: max(
            (
                abs(found[name].get(token, 0.0) - vector.get(token, 0.0))
                for token in found[name].keys() | vector.keys()
            ),
            default=0.0,
        )
        for name, vector in expected.items()
    }


def served(client: Any, where: str, ids: list[str]) -> dict[str, dict[str, Any]]:
    """What the cluster's models answer for the awkward texts; an error's first words where they refuse."""
    from neural_sparse.opensearch.deploy import Patience
    from neural_sparse.opensearch.deploy.models import Models
    from neural_sparse.opensearch.deploy.server import Server
    from neural_sparse.opensearch.parity import AWKWARD_TEXTS

    models = Models(Server(client, where, Patience()))
    answers: dict[str, dict[str, Any]] = {"documents": {}, "queries": {}}
    for name, text in AWKWARD_TEXTS.items():
        functions = zip(answers, ("sparse_encoding", "sparse_tokenize"), ids, strict=True)
        for side, function, model_id in functions:
            try:
                answers[side][name] = models.weights(function, model_id, text)
            except Exception as error:  # what a refusal is, is to be seen
                answers[side][name] = str(error)[:200]
    return answers


def on_a_node(version: str, way: Callable[[Any, str], tuple[dict[str, float], list[str]]]) -> dict[str, Any]:
    from neural_sparse.opensearch import connect
    from neural_sparse.opensearch.node import Node

    with Node(version) as node:
        client = connect(node.url)
        seconds, ids = way(client, node.url)
        return {"seconds": seconds, "served": served(client, node.url, ids)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("python", help="of an environment with opensearch-py-ml")
    parser.add_argument(
        "--as-peer", nargs=4, metavar=("URL", "MODEL", "IDF", "FOLDER"), help=argparse.SUPPRESS
    )
    parser.add_argument("--model", default="cognition/model")
    parser.add_argument("--version", default="3.6.0")
    parser.add_argument("--output", type=Path, help="figures as JSON")
    asked = parser.parse_args()
    if asked.as_peer:
        url, *paths = asked.as_peer
        step, ids = peer(url, *map(Path, paths))
        print(json.dumps({"seconds": step.seconds, "ids": ids}))
        return
    from neural_sparse import NeuralSparseEncoder
    from neural_sparse.io.files import write_json
    from neural_sparse.opensearch.parity import AWKWARD_TEXTS

    model = NeuralSparseEncoder(asked.model, MAX_LENGTH, device="cpu")
    vocabulary = model.tokenizer.get_vocab()
    table = {token: 0.1 + (index * 7919 % 1500) / 100 for token, index in vocabulary.items()}
    model.set_query_weights(table)
    model.name = "ours"
    own = {
        "documents": dict(zip(AWKWARD_TEXTS, weights(model, "documents"), strict=True)),
        "queries": dict(zip(AWKWARD_TEXTS, weights(model, "queries"), strict=True)),
    }
    figures: dict[str, Any] = {}
    with TemporaryDirectory() as made:
        folder = Path(made)
        model.save(folder / "model")
        saved, idf = folder / "model/document_0_Transformer", folder / "idf.json"
        write_json(idf, table)

        def as_peer(_: Any, url: str) -> tuple[dict[str, float], list[str]]:
            command = [asked.python, __file__, asked.python, "--as-peer", url, saved, idf, folder / "peer"]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            answer = json.loads(printed.splitlines()[-1])
            return answer["seconds"], answer["ids"]

        figures["opensearch-py-ml"] = on_a_node(asked.version, as_peer)
        figures["neural-sparse"] = on_a_node(
            asked.version, lambda client, where: ours(client, model, folder, where)
        )
    for name, found in figures.items():
        print(f"\n{name}")
        for what, seconds in found["seconds"].items():
            print(f"  {what}: {seconds:.1f} s")
        print(f"  together: {sum(found['seconds'].values()):.1f} s")
        for side, answers in found.pop("served").items():
            refused = {text: answer for text, answer in answers.items() if isinstance(answer, str)}
            good = {text: answer for text, answer in answers.items() if text not in refused}
            apart = differences(good, {text: own[side][text] for text in good})
            found[side] = {"refused": refused, "differences": apart}
            worst = max(apart, key=apart.__getitem__)
            print(
                f"  {side}: {len(good)} of {len(answers)} texts, at most {apart[worst]:.2g} apart ({worst})"
            )
            for text, value in apart.items():
                if value > 1e-3:
                    print(f"    {text}: {value:.3g} apart")
            for text, error in refused.items():
                print(f"    {text}: {error}")
    if asked.output is not None:
        write_json(asked.output, figures)


def weights(model: NeuralSparseEncoder, side: str) -> list[Vector]:
    """{token: weight} of each awkward text, by the model itself."""
    from neural_sparse.opensearch.parity import AWKWARD_TEXTS

    texts = list(AWKWARD_TEXTS.values())
    matrix = (model.encode_documents if side == "documents" else model.encode_queries)(texts).tocsr()
    tokens = model.tokenizer.convert_ids_to_tokens(list(range(matrix.shape[1])))
    return [
        {tokens[column]: float(value) for column, value in zip(row.indices, row.data, strict=True)}
        for row in matrix
    ]


if __name__ == "__main__":
    main()
