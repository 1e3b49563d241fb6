"""Files for engines hold the vectors they were made from, and what an engine does not take is told first."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.engines.formats import write_vectors
from neural_sparse.engines.limits import Limits
from neural_sparse.engines.pgvector import sparsevec
from neural_sparse.engines.read_back import read_export
from neural_sparse.engines.vectors import VectorSource, vector_source
from neural_sparse.io.files import read_json
from neural_sparse.opensearch.features import stored
from neural_sparse.text.tokens import vocabulary

FORMATS = ("elasticsearch", "qdrant", "milvus", "pgvector", "vespa", "pinecone")
AWKWARD = ["A .. b", "", "tab\tand\nline \\ \\t", "half \ud83d", "plain"]


def source_of(folder: Path, tmp_path: Path) -> VectorSource:
    model = NeuralSparseEncoder(folder, 32, device="cpu")
    model.set_query_weights(
        {name: 0.5 + index / 50 for index, name in enumerate(vocabulary(model.tokenizer))}
    )
    model.save_pretrained(str(tmp_path / "model"))
    (tmp_path / "corpus").mkdir()
    rows = [{"_id": f"d {row}/{row}", "text": text} for row, text in enumerate(AWKWARD)]
    (tmp_path / "corpus" / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "corpus" / "queries.jsonl").write_text('{"_id": "q", "text": "brown fox b"}\n')
    source = vector_source(str(tmp_path / "model"), tmp_path / "corpus", None, None)
    source.documents.data[source.documents.indptr[1] : source.documents.indptr[2]] = 0
    source.documents.eliminate_zeros()  # a document without a token
    return source


@pytest.fixture(scope="module")
def source(tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> VectorSource:
    return source_of(tiny_model(), tmp_path_factory.mktemp("source"))


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_written_is_read_back(source: VectorSource, tmp_path: Path, kind: str) -> None:
    about = write_vectors(kind, tmp_path / "out", source)
    back = read_export(tmp_path / "out")
    kept = [row for row in range(5) if kind not in ("milvus", "pinecone") or source.documents[row].nnz]
    assert about["documents"] == len(kept)
    assert list(back.doc_ids) == [source.doc_ids[row] for row in kept]
    texts = [source.texts[row].encode("utf-16", "surrogatepass").decode("utf-16", "replace") for row in kept]
    assert list(back.texts) == texts
    expected = stored(source.documents) if kind == "elasticsearch" else source.documents
    assert abs(back.documents - expected[kept]).max() == 0
    assert back.fingerprint == source.fingerprint
    assert back.side is not None
    assert source.side is not None
    np.testing.assert_array_equal(back.side.weights, source.side.weights)
    if kind in ("milvus", "pinecone"):
        assert "1 documents have no token and are left out" in about["remarks"][0]
    compile((tmp_path / "out" / "client.py").read_text(), "client.py", "exec")
    assert (tmp_path / "out" / "query" / "query_encoder.py").is_file()


@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta"])
def test_tokenizers_without_names_of_their_own_get_numbers(
    tiny_model: Callable[..., Path], tmp_path: Path, architecture: str
) -> None:
    """SentencePiece and byte-level tokens, refused where names are needed, are told apart."""
    source = source_of(tiny_model(architecture), tmp_path)
    assert source.numbered
    for kind in (*FORMATS, "rank_features", "sparse_vector", "ciff"):
        about = write_vectors(kind, tmp_path / kind, source)
        if kind in FORMATS:
            back = read_export(tmp_path / kind)
            expected = stored(source.documents) if kind == "elasticsearch" else source.documents
            kept = np.diff(expected.indptr) > 0 if about["documents"] < 5 else np.full(5, True)
            assert abs(back.documents - expected[kept]).max() == 0


def test_a_client_refuses_queries_of_another_model(source: VectorSource, tmp_path: Path) -> None:
    write_vectors("qdrant", tmp_path / "out", source)
    about = read_json(tmp_path / "out" / "export.json")
    assert about["fingerprint"]["documents"] == source.fingerprint.documents  # type: ignore[union-attr]
    (tmp_path / "out" / "export.json").write_text(json.dumps({**about, "queries_by": "0" * 64}))
    with pytest.raises(InputError, match=r"whose queries are 00000000; its query/ makes queries"):
        read_export(tmp_path / "out")


@pytest.mark.parametrize("kind", ["rank_features", "sparse_vector"])
def test_indexes_of_opensearch_say_whose_vectors_they_hold(
    source: VectorSource, tmp_path: Path, kind: str
) -> None:
    write_vectors(kind, tmp_path / "out", source)
    said = read_json(tmp_path / "out" / "index.json")["mappings"]["_meta"]["neural_sparse"]["fingerprint"]
    assert source.fingerprint is not None
    assert said == source.fingerprint.as_json()


def test_clients_need_nothing_of_this_package(source: VectorSource, tmp_path: Path) -> None:
    write_vectors("vespa", tmp_path / "out", source)
    command = [
        sys.executable,
        "-S",
        "-c",
        "import ast; print(ast.parse(open('client.py').read()) is not None)",
    ]
    done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
    assert "neural_sparse" not in (tmp_path / "out" / "client.py").read_text()


def test_limits_are_told_first(source: VectorSource) -> None:
    with pytest.raises(InputError, match=r"at most 3 weights of a document, and 4 of 5 .*--top-k 3"):
        Limits("Some engine", nonzero=3).check(source)
    with pytest.raises(InputError, match=r"at most 1 tokens of a query, and 1 have more .*'q'"):
        Limits("Some engine", clauses=1).check(source)
    with pytest.raises(InputError, match="longer than the 3 bytes"):
        Limits("Some engine", id_bytes=3).check(source)
    assert Limits("Some engine").check(source) == []
    heavy = replace(source, queries=source.queries * 100)
    limits = Limits("Some engine", query_weight=64.0)
    (told,) = limits.check(heavy)
    assert "1 queries with a heavier one are scaled down as a whole" in told
    scaled = limits.scaled(heavy.queries)
    assert scaled.max() == pytest.approx(64)
    np.testing.assert_allclose(
        scaled.data / scaled.max(), heavy.queries.data / heavy.queries.max(), rtol=1e-6
    )
    assert limits.scaled(source.queries) is source.queries


def test_pgvector(source: VectorSource, tmp_path: Path) -> None:
    assert sparsevec([], [], 4) == "{}/4"
    wide = sp.csr_matrix(np.ones((1, 1001), np.float32))
    many = replace(source, doc_ids=["a"], texts=[""], documents=wide)
    assert (
        "more than the 1,000 weights that an HNSW index takes"
        in write_vectors("pgvector", tmp_path / "o", many)["remarks"][0]
    )


def test_pinecone_takes_ascii_ids(source: VectorSource, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 have others \(first: 'é'\)"):
        write_vectors("pinecone", tmp_path / "out", replace(source, doc_ids=["é", *source.doc_ids[1:]]))
    assert not (tmp_path / "out").exists()


def test_an_export_without_documents_is_no_source(source: VectorSource, tmp_path: Path) -> None:
    write_vectors("ciff", tmp_path / "out", source)
    with pytest.raises(InputError, match=r"\(ciff\) holds no vectors that can be read back"):
        read_export(tmp_path / "out")
