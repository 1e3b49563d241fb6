from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.engines import bulk_files
from neural_sparse.engines.formats import write_vectors
from neural_sparse.engines.impacts import Scales, impacts, write_ciff
from neural_sparse.engines.vectors import VectorSource, vector_source
from neural_sparse.io.files import read_json
from neural_sparse.opensearch.seismic import Seismic, SeismicSearch

TOKENS = ["", "cat", ".", "##s", "한"]


@pytest.fixture
def source() -> VectorSource:
    documents = sp.csr_matrix(np.float32([[9, 1.2345678, 0.5, 0, 0], [0, 0, 0, 0, 0], [0, 0.004, 0, 2, 3]]))
    queries = sp.csr_matrix(np.float32([[0, 1.5, 0.25, 0, 0], [0, 0, 0, 0, 0]]))
    return VectorSource(
        TOKENS,
        ["a", "b b", 'c"'],
        ["A cat.", "", "half \ud83d"],
        documents,
        ["q1", "q2"],
        ["cat .", ""],
        queries,
    )


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rank_features(source: VectorSource, tmp_path: Path) -> None:
    about = write_vectors("rank_features", tmp_path / "out", source)
    assert about == {"format": "rank_features", "documents": 3, "queries": 2, "files": 1}
    assert lines(tmp_path / "out" / "documents-00000.ndjson") == [
        {"index": {"_id": "a"}},
        {"text": "A cat.", "embedding": {"cat": 1.2345678, "%2E": 0.5}},
        {"index": {"_id": "b b"}},
        {"text": ""},
        {"index": {"_id": 'c"'}},
        {"text": "half \ufffd", "embedding": {"cat": 0.004, "##s": 2.0, "한": 3.0}},
    ]
    first, second = lines(tmp_path / "out" / "queries.jsonl")
    assert first["_id"] == "q1"
    assert first["query"] == {
        "bool": {
            "should": [
                {"rank_feature": {"field": "embedding.cat", "linear": {}, "boost": 1.5}},
                {"rank_feature": {"field": "embedding.%2E", "linear": {}, "boost": 0.25}},
            ]
        }
    }
    assert second["query"] == {"match_none": {}}
    index = read_json(tmp_path / "out" / "index.json")
    assert index["mappings"]["properties"]["embedding"] == {"type": "rank_features"}


def test_sparse_vector(source: VectorSource, tmp_path: Path) -> None:
    """Ids for names, no empty vectors, weights clipped nowhere."""
    source.queries.data[0] = 20
    write_vectors("sparse_vector", tmp_path / "out", source)
    assert lines(tmp_path / "out" / "documents-00000.ndjson")[1::2] == [
        {"text": "A cat.", "embedding": {"1": 1.2345678, "2": 0.5}},
        {"text": ""},
        {"text": "half \ufffd", "embedding": {"1": 0.004, "3": 2.0, "4": 3.0}},
    ]
    first, second = lines(tmp_path / "out" / "queries.jsonl")
    method = {"k": 10, "top_n": 10, "heap_factor": 1.0}
    wanted = {"query_tokens": {"1": 20.0, "2": 0.25}, "method_parameters": method}
    assert (first["query"], second["query"]) == ({"neural_sparse": {"embedding": wanted}}, {"match_none": {}})
    index = read_json(tmp_path / "out" / "index.json")
    assert index["settings"]["index"]["sparse"] is True
    parameters = index["mappings"]["properties"]["embedding"]["method"]["parameters"]
    assert (parameters["quantization_ceiling_search"], parameters["quantization_ceiling_ingest"]) == (20, 9)
    for wrong in ({"cluster_ratio": 0}, {"n_postings": 0}, {"quantization_ceiling_search": 0}):
        with pytest.raises(InputError):
            Seismic(**wrong)
    with pytest.raises(InputError, match="top_n is 1 or more"):
        SeismicSearch(top_n=0)


def test_bulk_files_stay_small(source: VectorSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_files, "FILE_BYTES", 100)
    assert write_vectors("rank_features", tmp_path / "out", source)["files"] == 3
    files = sorted((tmp_path / "out").glob("*.ndjson"))
    assert [lines(file)[0]["index"] for file in files] == [{"_id": "a"}, {"_id": "b b"}, {"_id": 'c"'}]


def test_impacts_are_rounded() -> None:
    vectors = sp.csr_matrix(np.float32([[1.2345678, 0.004, 0.0051, 2]]))
    whole = impacts(vectors, 100)
    assert whole.toarray().tolist() == [[123, 0, 1, 200]]
    assert whole.nnz == 3
    with pytest.raises(InputError, match="above 0"):
        Scales(documents=0)


def test_anserini(source: VectorSource, tmp_path: Path) -> None:
    write_vectors("anserini", tmp_path / "out", source, Scales(100, 4))
    assert lines(tmp_path / "out" / "documents.jsonl") == [
        {"id": "a", "contents": "A cat.", "vector": {"cat": 123, ".": 50}},
        {"id": "b b", "contents": "", "vector": {}},
        {"id": 'c"', "contents": "half \ufffd", "vector": {"##s": 200, "한": 300}},
    ]
    assert (tmp_path / "out" / "topics.tsv").read_text() == "q1\tcat cat cat cat cat cat .\nq2\t\n"


def messages(data: bytes) -> Iterator[list[tuple[int, int | bytes]]]:
    """Protobuf messages, each after its length, as lists of (field, value): a reader apart from the writer."""

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = data[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at

    def fields(at: int, end: int) -> list[tuple[int, int | bytes]]:
        found: list[tuple[int, int | bytes]] = []
        while at < end:
            tag, at = varint(at)
            if tag & 7 == 0:
                value, at = varint(at)
                found.append((tag >> 3, value))
            elif tag & 7 == 1:
                found.append((tag >> 3, data[at : at + 8]))
                at += 8
            else:
                length, at = varint(at)
                found.append((tag >> 3, data[at : at + length]))
                at += length
        return found

    at = 0
    while at < len(data):
        length, at = varint(at)
        yield fields(at, at + length)
        at += length


def test_ciff(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dense = rng.integers(0, 400, (300, 6)) * (rng.random((300, 6)) < 0.3)
    names = ["b", "a", "", "ä", "c", "never"]
    dense[:, 5] = 0
    dense[0, 0] = 7  # a posting of document 0
    ids = [f"d{row}" for row in range(300)]
    write_ciff(tmp_path / "index.ciff", sp.csr_matrix(dense), ids, names, "about")
    header, *rest = (list(message) for message in messages((tmp_path / "index.ciff").read_bytes()))
    total = int(dense.sum())
    assert header == [
        (1, 1), (2, 4), (3, 300), (4, 4), (5, 300), (6, total), (7, struct.pack("<d", total / 300)), (8, b"about"),
    ]  # fmt: skip
    rebuilt = np.zeros_like(dense)
    for message in rest[:4]:
        term = dict(message[:3])
        column = names.index(term[1].decode())  # type: ignore[union-attr]
        doc = 0
        for field, value in message[3:]:
            assert field == 4
            posting = dict(next(messages(bytes([len(value)]) + value)))  # type: ignore[arg-type]
            doc += posting.get(1, 0)  # type: ignore[operator]
            rebuilt[doc, column] = posting[2]  # type: ignore[call-overload]
        assert (term[2], term[3]) == (int((dense[:, column] > 0).sum()), int(dense[:, column].sum()))
    rebuilt[:, 2] = dense[:, 2]  # the column without a name is left out
    assert (rebuilt == dense).all()
    assert [dict(message)[1] for message in rest[:4]] == [b"a", b"b", b"c", "ä".encode()]
    documents = [dict(message) for message in rest[4:]]
    assert [(d.get(1, 0), d[2].decode(), d.get(3, 0)) for d in documents] == [  # type: ignore[union-attr]
        (row, ids[row], int(dense[row].sum())) for row in range(300)
    ]


def test_a_format_refuses_what_it_cannot_write(source: VectorSource, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose from rank_features, sparse_vector, elasticsearch"):
        write_vectors("parquet", tmp_path / "out", source)
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(InputError, match="exists"):
        write_vectors("ciff", tmp_path, source)
    heavy = VectorSource(**{**vars(source), "queries": source.queries * 100})
    with pytest.raises(InputError, match=r"query 'q1': 1 query weights are above 64"):
        write_vectors("rank_features", tmp_path / "out", heavy)
    assert not (tmp_path / "out").exists()


def test_documents_of_a_model_and_of_an_encoded_folder(
    doc_only_model: NeuralSparseEncoder, texts: list[str], tmp_path: Path
) -> None:
    from neural_sparse.search.doc_ids import DocumentIds
    from neural_sparse.search.encoded import EncodedCollection
    from neural_sparse.search.snapshot import PackedTexts

    corpus = tmp_path / "collection"
    corpus.mkdir()
    rows = ({"_id": str(row), "text": text} for row, text in enumerate(texts))
    (corpus / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (corpus / "queries.jsonl").write_text('{"_id": "q", "text": "brown fox"}\n')
    doc_only_model.save_pretrained(str(tmp_path / "model"))
    fresh = vector_source(str(tmp_path / "model"), corpus, None, 20)
    assert list(fresh.doc_ids) == [str(row) for row in range(len(texts))]
    assert fresh.documents.nnz > 0
    ids, packed = DocumentIds.of(fresh.doc_ids), PackedTexts.of(fresh.texts)
    EncodedCollection.write(tmp_path / "encoded", doc_only_model, [fresh.documents], ids, [packed], {})
    kept = vector_source(str(tmp_path / "encoded"), corpus, None, None)
    assert abs(kept.documents - fresh.documents).max() == 0
    assert abs(kept.queries - fresh.queries).max() == 0
    assert (kept.tokens, list(kept.texts)) == (fresh.tokens, list(fresh.texts))
    with pytest.raises(InputError, match="give --corpus"):
        vector_source(str(tmp_path / "model"), None, None, None)
    with pytest.raises(InputError, match="encoded already"):
        vector_source(str(tmp_path / "encoded"), corpus, None, 20)


def test_the_loading_script_needs_an_address(source: VectorSource, tmp_path: Path) -> None:
    write_vectors("rank_features", tmp_path / "out", source)
    environment = {key: value for key, value in os.environ.items() if key != "SEARCH_URL"}
    command = ["bash", str(tmp_path / "out" / "load.sh"), "name"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode != 0
    assert "set SEARCH_URL" in done.stderr
