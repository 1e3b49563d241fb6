"""Documents and queries as lines of an engine's own format, with what fills and asks it beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import scipy.sparse as sp

from neural_sparse.engines.vectors import VectorSource
from neural_sparse.io.files import write_text

DOCUMENTS, QUERIES, CLIENT, QUERY_SIDE = "documents.jsonl", "queries.jsonl", "client.py", "query"


def rows(vectors: sp.csr_matrix) -> Iterator[tuple[list[int], list[str]]]:
    """Ids and weights of each row; weights in the fewest digits that give the same float32 back."""
    csr = sp.csr_matrix(vectors)
    csr.sort_indices()
    for start, end in zip(csr.indptr[:-1].tolist(), csr.indptr[1:].tolist(), strict=True):
        yield csr.indices[start:end].tolist(), csr.data[start:end].astype(str).tolist()


def pairs(ids: Sequence[int], weights: Sequence[str]) -> str:
    """JSON {"indices": [...], "values": [...]}.

    >>> pairs([3, 7], ["0.5", "2.0"])
    '{"indices":[3,7],"values":[0.5,2.0]}'
    """
    return f'{{"indices":[{",".join(map(str, ids))}],"values":[{",".join(weights)}]}}'


def by_name(ids: Sequence[int], weights: Sequence[str], names: Sequence[str]) -> str:
    """JSON {"name": weight}; tokens without a name are left out.

    >>> by_name([0, 2], ["0.5", "2.0"], ["", "", "cat"])
    '{"cat":2.0}'
    """
    known = zip(ids, weights, strict=True)
    return "{" + ",".join(f"{_text(names[one])}:{weight}" for one, weight in known if names[one]) + "}"


def write_documents(
    folder: Path,
    source: VectorSource,
    line: Callable[[int, str, str, list[int], list[str]], str],
    empty: bool = True,
    file: str = DOCUMENTS,
) -> int:
    """Write one line a document; how many.

    Args:
        line: of row, id and text as JSON, token ids and weights.
        empty: also documents without a token.
    """
    written = 0
    with (folder / file).open("w", encoding="utf-8") as out:
        for row, (ids, weights) in enumerate(rows(source.documents)):
            if ids or empty:
                head = _text(source.doc_ids[row]), _text(source.texts[row])
                out.write(line(row, *head, ids, weights) + "\n")
                written += 1
    return written


def write_queries(folder: Path, source: VectorSource) -> None:
    """queries.jsonl: {_id, text, indices, values} a line."""
    with (folder / QUERIES).open("w", encoding="utf-8") as out:
        for row, (ids, weights) in enumerate(rows(source.queries)):
            text = _text(source.query_texts[row])
            head = f'{{"_id":{_text(source.query_ids[row])},"text":{text},'
            out.write(head + pairs(ids, weights)[1:] + "\n")


def write_client(folder: Path, engine: str) -> None:
    """client.py, which fills the engine with the documents and asks it."""
    write_text(
        folder / CLIENT, files("neural_sparse.engines.clients").joinpath(f"{engine}.py").read_text("utf-8")
    )


def counts(source: VectorSource, written: int, told: Sequence[str]) -> dict[str, Any]:
    """What export.json says of the documents."""
    return {
        "documents": written,
        "queries": len(source.query_ids),
        "vocabulary": source.documents.shape[1],
        "remarks": list(told),
    }


def _text(text: str) -> str:
    """JSON of a text; half a surrogate pair becomes U+FFFD."""
    return json.dumps(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), ensure_ascii=False)
