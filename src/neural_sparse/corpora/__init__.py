"""Collections (corpus, queries, qrels) wherever they are, read by one reader per kind of file."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.corpora.checks import check_collection
    from neural_sparse.corpora.collection import Collection
    from neural_sparse.corpora.corpus_file import read_corpus, read_queries
    from neural_sparse.corpora.names import expand_names, load_collection, load_queries
    from neural_sparse.corpora.qrels_file import read_qrels

__all__ = [
    "Collection",
    "check_collection",
    "expand_names",
    "load_collection",
    "load_queries",
    "read_corpus",
    "read_qrels",
    "read_queries",
]
__getattr__, __dir__ = lazy(__name__)
