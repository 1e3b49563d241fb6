"""A collection encoded by a siamese model: queries go through the query encoder that its folder holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.cli.main import app
from neural_sparse.engines.vectors import vector_source
from neural_sparse.refresh.base import Base
from neural_sparse.refresh.settings import RefreshSettings
from neural_sparse.search.encode_corpus import encode_corpus
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.search.updating import update_corpus

TinyModel = Callable[..., Path]
QUERIES = ["sort a list", "open files and read them as a stream", ""]
KINDS = ("shared", "own")


def saved(folder: Path, start: Path, kind: str, seed: int = 1) -> NeuralSparseEncoder:
    """A tiny siamese model; an own query encoder whose weights are not the documents'."""
    model = NeuralSparseEncoder(start, 24, query_encoder=kind, device="cpu")  # type: ignore[arg-type]
    torch.manual_seed(seed)
    with torch.no_grad():
        for weights in model.routes["query"][0].parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    model.save_pretrained(str(folder))
    return model


@pytest.fixture(scope="module", params=KINDS)
def model(
    request: pytest.FixtureRequest, tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "model"
    saved(folder, tiny_model("bert"), request.param)
    return folder


@pytest.fixture(scope="module")
def encoded(model: Path, texts: list[str]) -> Path:
    """Who changes it takes a copy."""
    rows = [{"_id": f"d{row}", "text": text} for row, text in enumerate(texts)]
    corpus = model.parent / "corpus.jsonl"
    corpus.write_text("\n".join(map(json.dumps, rows)))
    encode_corpus(str(model), corpus, model.parent / "encoded", show_progress=False)
    return model.parent / "encoded"


@pytest.fixture
def copied(encoded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(encoded, tmp_path / "copied"))


def test_queries_are_those_of_the_model(model: Path, copied: Path, texts: list[str]) -> None:
    """In another folder, too: nothing of the model's own is asked for."""
    theirs = NeuralSparseEncoder(model, device="cpu")
    queries, documents = theirs.encode_queries(QUERIES), theirs.encode_documents(texts)
    found = EncodedCollection(copied)
    assert abs(found.encode_queries(QUERIES) - queries).max() == 0
    assert abs(queries - theirs.encode_documents(QUERIES)).max() > 0 or found.query_encoder == "shared"
    assert found.query_encoder == theirs.query_encoder == found.about["query_encoder"]
    assert not (copied / "idf.json").exists()  # which who looks queries up would take for the query side
    scores = (queries @ documents.T).toarray()
    hits = found.search_texts(QUERIES, 3)
    np.testing.assert_allclose(hits.scores, -np.sort(-scores)[:, :3], rtol=1e-5)
    assert hits.ids()[0] == [f"d{row}" for row in np.argsort(-scores[0])[:3]]


def test_queries_are_cut_where_documents_are(model: Path, encoded: Path, tmp_path: Path) -> None:
    encode_corpus(
        str(model), encoded.parent / "corpus.jsonl", tmp_path / "short", max_length=6, show_progress=False
    )
    expected = NeuralSparseEncoder(model, 6, device="cpu").encode_queries(QUERIES)
    assert abs(EncodedCollection(tmp_path / "short").encode_queries(QUERIES) - expected).max() == 0


def test_threads_share_it(encoded: Path) -> None:
    found = EncodedCollection(encoded)
    expected = [found.encode_queries([text]) for text in QUERIES]
    again = EncodedCollection(encoded)  # which loads its model when it is first asked, by several at once
    with ThreadPoolExecutor(4) as pool:
        vectors = list(pool.map(lambda row: again.encode_queries([QUERIES[row % 3]]), range(12)))
    assert all(abs(vector - expected[row % 3]).max() == 0 for row, vector in enumerate(vectors))


def test_it_is_there_after_an_update(model: Path, copied: Path, tmp_path: Path) -> None:
    before = EncodedCollection(copied).encode_queries(QUERIES)
    (tmp_path / "more.jsonl").write_text('{"_id": "new", "text": "read the list"}\n')
    done = update_corpus(str(model), tmp_path / "more.jsonl", copied, delete_missing=True)
    assert (done.added, done.documents) == (1, 1)
    after = EncodedCollection(copied)
    assert abs(after.encode_queries(QUERIES) - before).max() == 0
    assert after.query_encoder == after.about["query_encoder"]
    (copied / "query_encoder" / "modules.json").unlink()
    with pytest.raises(InputError, match=r"modules\.json is missing"):
        EncodedCollection(copied)


def test_another_query_encoder_is_refused(
    tiny_model: TinyModel, encoded: Path, copied: Path, tmp_path: Path
) -> None:
    other = saved(tmp_path / "other", tiny_model("bert"), "shared", seed=2)
    other.save_pretrained(str(tmp_path / "plain"))
    theirs = next((tmp_path / "plain").rglob("model.safetensors"))
    shutil.copyfile(theirs, next((copied / "query_encoder").rglob("model.safetensors")))
    with pytest.raises(InputError, match="is damaged"):
        EncodedCollection(copied)
    unread = EncodedCollection(copied, verify=False)  # of the same size
    with pytest.raises(InputError, match=r"query_encoder.* is not the one .*was encoded with"):
        unread.encode_queries(QUERIES)
    with pytest.raises(InputError, match="differ in the document side's weights"):
        update_corpus(str(tmp_path / "other"), encoded.parent / "corpus.jsonl", encoded)


def test_what_looks_queries_up_refuses_it(model: Path, encoded: Path) -> None:
    found = EncodedCollection(encoded)
    with pytest.raises(InputError, match="has no table of query weights"):
        _ = found.query_weights
    found.count_repeats = True
    with pytest.raises(InputError, match="counts a query's repeated tokens"):
        found.encode_queries(QUERIES)
    for base in (encoded, model):
        settings = RefreshSettings(
            str(base), encoded.parent / "corpus.jsonl", corpus=encoded.parent / "corpus.jsonl"
        )
        with pytest.raises(InputError, match=r"nothing to refresh.*encode --update"):
            Base.of(settings)
    with pytest.raises(InputError, match="has no table of query weights"):
        vector_source(str(encoded), None, None, None)


def test_search_shows_hits_and_why(encoded: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["search", str(encoded), "sort a list", "--explain"])
    assert shown.exit_code == 0, shown.output
    assert "d0" in shown.output
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "sort a list"}\n')
    command = [
        "search",
        str(encoded),
        "--queries",
        str(tmp_path / "queries.jsonl"),
        "-o",
        str(tmp_path / "run"),
    ]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert len((tmp_path / "run").read_text().splitlines()) == 5
