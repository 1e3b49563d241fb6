"""Collections of the ir_datasets catalogue (https://ir-datasets.com), an optional dependency."""

from __future__ import annotations

from typing import Any

from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.qrels_file import Qrels
from neural_sparse.errors import InputError

PREFIX = "irds:"


def load_from_ir_datasets(name: str, split: str = "test") -> Collection | None:
    """A collection of ir_datasets, downloaded where needed; None where it does not know the name.

    Names may carry the prefix "irds:". A name without judgements ("beir/scifact") is taken with the
    split appended ("beir/scifact/test").

    Raises:
        InputError: a name with the prefix when ir_datasets is not installed or does not know it; nothing
            judged; a download that failed.
    """
    asked = name.startswith(PREFIX)
    name = name.removeprefix(PREFIX)
    try:
        import ir_datasets
    except ImportError as error:
        if asked or "/" in name:
            raise InputError(
                f"{name}: no such folder; names of ir_datasets need `pip install 'neural-sparse[collections]'`"
            ) from error
        return None
    for candidate in (name, f"{name}/{split}"):
        try:
            dataset = ir_datasets.load(candidate)
        except KeyError:
            continue
        if dataset.has_docs() and dataset.has_queries() and dataset.has_qrels():
            return from_ir_dataset(dataset, candidate)
    if asked or _known(ir_datasets, name):
        raise InputError(f"{name}: ir_datasets has no judged collection of that name or {name}/{split}")
    return None


def from_ir_dataset(dataset: Any, name: str) -> Collection:
    """A collection from an ir_datasets data set that has documents, queries and judgements.

    Raises:
        InputError: a download that failed, or nothing judged.
    """
    try:
        corpus = {str(doc.doc_id): _text(doc) for doc in dataset.docs_iter()}
        queries = {str(query.query_id): _text(query) for query in dataset.queries_iter()}
        qrels: Qrels = {}
        for judged in dataset.qrels_iter():
            qrels.setdefault(str(judged.query_id), {})[str(judged.doc_id)] = judged.relevance
    except (RuntimeError, OSError) as error:
        raise InputError(f"{name}: ir_datasets cannot fetch it ({str(error)[:200]})") from error
    return Collection.of(corpus, queries, qrels, name)


def _text(item: Any) -> str:
    """Title, a space and text where there are such fields, else what ir_datasets takes as the text."""
    if hasattr(item, "text"):
        return f"{getattr(item, 'title', '') or ''} {item.text}".strip()
    return str(item.default_text())


def _known(ir_datasets: Any, name: str) -> bool:
    try:
        ir_datasets.load(name)
    except KeyError:
        return False
    return True
