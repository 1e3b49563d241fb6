"""Vectors read back from what was written for an engine, so that it is the files that are proven."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from neural_sparse.corpora.collection import Collection
from neural_sparse.engines.document_files import QUERY_SIDE
from neural_sparse.engines.vectors import QuerySide, VectorSource, token_names, vector_source
from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.opensearch.export import MANIFEST
from neural_sparse.query import QueryEncoder
from neural_sparse.text.tokens import encode_queries

_Row = tuple[str, str, dict[int, float]]  # id, text, {token id: weight}


def judged_source(
    what: str, collection: Collection, most: int | None = None
) -> tuple[VectorSource, dict[str, dict[str, int]]]:
    """Documents of an export or an encoded folder, with a collection's judged queries.

    Args:
        most: of the queries, the first.

    Returns:
        The source, and the judgements of its queries.

    Raises:
        InputError: neither an export nor an encoded folder; one of another collection.
    """
    folder = Path(what)
    if (folder / MANIFEST).is_file():
        source = read_export(folder)
    elif folder.is_dir() and (folder / "encoded.json").is_file():
        source = vector_source(what, None, idf=None, max_length=None)
    else:
        raise InputError(
            f"{what} is neither an export for an engine nor an encoded folder: make one with `neural-sparse encode` or "
            "`neural-sparse export --format`"
        )
    held = set(source.doc_ids)
    if not any(doc_id in held for grades in collection.qrels.values() for doc_id in grades):
        raise InputError(
            f"{what} holds none of the documents judged in {collection.name}: another collection's?"
        )
    ids = [query_id for query_id in collection.queries if query_id in collection.qrels][:most]
    texts = [collection.queries[query_id] for query_id in ids]
    assert source.side is not None
    queries = encode_queries(texts, source.side.tokenizer, source.side.weights)
    qrels = {query_id: dict(collection.qrels[query_id]) for query_id in ids}
    return replace(source, query_ids=ids, query_texts=texts, queries=queries), qrels


def read_export(folder: Path) -> VectorSource:
    """Documents of an export, without queries.

    Raises:
        InputError: an export that holds no vectors that can be read back, or whose query side is another's.
    """
    from transformers import PreTrainedTokenizerFast

    about = read_json(folder / MANIFEST)
    kind = about.get("format", "opensearch")
    if kind not in _READERS or not (folder / QUERY_SIDE).is_dir():
        raise InputError(
            f"{folder} ({kind}) holds no vectors that can be read back: give an encoded folder, or an export of "
            f"{', '.join(_READERS)}"
        )
    try:
        encoder = QueryEncoder(folder / QUERY_SIDE)
    except ValueError as error:
        raise InputError(f"{folder}: {error}") from error
    if encoder.fingerprint != about["queries_by"]:
        raise InputError(
            f"{folder} holds documents of {about['model']!r}, whose queries are {about['queries_by'][:8]}; its "
            f"{QUERY_SIDE}/ makes queries {encoder.fingerprint[:8]}: export both again"
        )
    special = [
        token.content for token in encoder.tokenizer.get_added_tokens_decoder().values() if token.special
    ]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=encoder.tokenizer, additional_special_tokens=special)
    names, numbered = token_names(tokenizer)
    rows = list(_READERS[kind](folder, {name: token for token, name in enumerate(names) if name}))
    indptr = np.cumsum([0, *(len(vector) for _, _, vector in rows)])
    indices = np.fromiter((token for _, _, vector in rows for token in vector), np.int32, indptr[-1])
    data = np.fromiter(
        (weight for _, _, vector in rows for weight in vector.values()), np.float32, indptr[-1]
    )
    width = len(encoder.weights)
    documents = sp.csr_matrix((data, indices, indptr), shape=(len(rows), width))
    return VectorSource(
        names,
        [doc_id for doc_id, _, _ in rows],
        texts=[text for _, text, _ in rows],
        documents=documents,
        query_ids=[],
        query_texts=[],
        queries=documents[:0],
        side=QuerySide(tokenizer, encoder.weights, about["model"]),
        fingerprint=Fingerprint.read(about["fingerprint"]) if "fingerprint" in about else None,
        numbered=numbered,
    )


def _lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _qdrant(folder: Path, names: Mapping[str, int]) -> Iterator[_Row]:
    for point in _lines(folder / "documents.jsonl"):
        vector = point["vector"]["sparse"]
        yield point["payload"]["id"], point["payload"]["text"], _zipped(vector)


def _pinecone(folder: Path, names: Mapping[str, int]) -> Iterator[_Row]:
    for record in _lines(folder / "documents.jsonl"):
        yield record["id"], record["metadata"].get("text", ""), _zipped(record["sparse_values"])


def _milvus(folder: Path, names: Mapping[str, int]) -> Iterator[_Row]:
    for row in _lines(folder / "documents.jsonl"):
        yield row["id"], row["text"], {int(token): weight for token, weight in row["vector"].items()}


def _vespa(folder: Path, names: Mapping[str, int]) -> Iterator[_Row]:
    for line in _lines(folder / "documents.jsonl"):
        fields = line["fields"]
        cells = fields["vector"]["cells"]
        yield fields["id"], fields["text"], {int(token): weight for token, weight in cells.items()}


def _elasticsearch(folder: Path, names: Mapping[str, int]) -> Iterator[_Row]:
    lines = _lines(folder / "documents.ndjson")
    for head in lines:
        document = next(lines)
        vector = {names[name]: weight for name, weight in document.get("vector", {}).items()}
        yield head["index"]["_id"], document["text"], vector


def _pgvector(folder: Path, names: Mapping[str, int]) -> Iterator[_Row]:
    with (folder / "documents.tsv").open(encoding="utf-8", newline="\n") as file:
        for line in file:
            _, doc_id, text, literal = (_plain(cell) for cell in line.removesuffix("\n").split("\t"))
            inside = literal[1 : literal.index("}")]
            cells = (cell.split(":") for cell in inside.split(",") if cell)
            yield doc_id, text, {int(place) - 1: float(weight) for place, weight in cells}


def _plain(cell: str) -> str:
    """What COPY reads in a cell."""
    parts = cell.split("\\\\")
    for escape, character in (("\\t", "\t"), ("\\n", "\n"), ("\\r", "\r")):
        parts = [part.replace(escape, character) for part in parts]
    return "\\".join(parts)


def _zipped(vector: Mapping[str, Any]) -> dict[int, float]:
    return dict(zip(vector["indices"], vector["values"], strict=True))


_READERS: dict[str, Callable[[Path, Mapping[str, int]], Iterator[_Row]]] = {
    "qdrant": _qdrant,
    "milvus": _milvus,
    "pgvector": _pgvector,
    "elasticsearch": _elasticsearch,
    "vespa": _vespa,
    "pinecone": _pinecone,
}
