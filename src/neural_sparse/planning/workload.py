"""What there is to do: a recipe over a corpus of some size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from neural_sparse.config import Recipe
from neural_sparse.data.training_set import load_training_set
from neural_sparse.errors import InputError
from neural_sparse.model.tokenizer import load_tokenizer
from neural_sparse.planning.estimate import Basis, Figure, assumed, given, measured
from neural_sparse.text.ragged import RowLists
from neural_sparse.text.tokens import tokenize

SAMPLE = 2000  # texts whose tokens are counted
MS_MARCO_QUERIES = 502_939  # with a judged passage, in its training split


@dataclass(frozen=True)
class Workload:
    """
    Attributes:
        documents, queries: of the corpus, and of the training data.
        document_tokens, query_tokens: mean, special tokens included.
        document_bytes: of a line of the corpus.
        id_bytes: of a document's id.
        terms: non-zero entries per document of the finished model.
        teacher_terms: of a sparse teacher.
        words: distinct words per document, of which BM25 has a posting each.
        negatives: candidates per query that the teachers score, beside the relevant one.
        mined: share of the queries whose negatives have to be mined.
    """

    documents: Figure
    queries: Figure
    document_tokens: Figure
    query_tokens: Figure
    document_bytes: Figure
    id_bytes: Figure
    terms: Figure
    teacher_terms: Figure
    words: Figure
    negatives: Figure
    mined: float

    def of(self, documents: float) -> Workload:
        """The same kind of texts, another number of them; queries are given, or no more than documents."""
        queries = self.queries
        if queries.value > documents and queries.basis is not Basis.given:
            queries = assumed(documents, "no more than documents")
        return replace(self, documents=given(documents), queries=queries)


def workload_of(
    recipe: Recipe, documents: float | None = None, queries: float | None = None, terms: float | None = None
) -> Workload:
    """The work that a recipe means; its training data are looked at where they are on this machine.

    Args:
        documents, queries: how many there will be; counted in the data if None.
        terms: per document of the finished model.

    Raises:
        InputError: no data here, and no number of documents given; data that cannot be read.
    """
    found = _counted(recipe)
    if found is None and documents is None:
        raise InputError(
            f"none of the training data ({', '.join(recipe.train)}) is here to be counted: say how many --documents "
            "and --queries there will be"
        )
    base = found or Workload(
        documents=given(0),
        queries=assumed(MS_MARCO_QUERIES, "MS MARCO's training queries"),
        document_tokens=assumed(80, "a passage of MS MARCO"),
        query_tokens=assumed(8, "a query of MS MARCO"),
        document_bytes=assumed(400, "a passage of MS MARCO as a JSON line"),
        id_bytes=assumed(7, "MS MARCO"),
        terms=assumed(119, "a SPLADE-like model, as in docs/search.md"),
        teacher_terms=assumed(200, "a siamese SPLADE, which is denser"),
        words=assumed(35, "a passage of MS MARCO without stopwords"),
        negatives=assumed(recipe.negatives_pool, "negatives_pool of the recipe"),
        mined=float(bool(recipe.num_hard_negatives)),
    )
    if queries is not None:
        base = replace(base, queries=given(queries))
    if terms is not None:
        base = replace(base, terms=given(terms))
    return base if documents is None else base.of(documents)


def _counted(recipe: Recipe) -> Workload | None:
    places = [*recipe.train, *([recipe.corpus] if recipe.corpus else [])]
    if not all(Path(place).exists() for place in places):
        return None
    data = load_training_set(recipe.train, recipe.corpus)
    source = "counted in the training data"
    sampled = f"{source} (sample)"
    rows = np.unique(np.linspace(0, len(data.documents) - 1, SAMPLE).astype(np.int64))
    documents = [data.documents[row] for row in rows]
    queries = [data.queries[row] for row in range(min(SAMPLE, len(data)))]
    tokenizer = load_tokenizer(recipe.init)
    lengths = tokenize(documents, tokenizer, recipe.max_length, special_tokens=True).lengths
    words = [len(set(text.lower().split())) for text in documents]
    brought = RowLists.of(data.negatives).lengths
    mined = float(np.mean(brought == 0))
    candidates = float(np.where(brought == 0, recipe.negatives_pool, brought).mean())
    return Workload(
        documents=measured(len(data.documents), source),
        queries=measured(len(data), source),
        document_tokens=measured(float(lengths.mean()), sampled),
        query_tokens=measured(float(tokenize(queries, tokenizer).lengths.mean()), sampled),
        document_bytes=measured(float(np.mean([len(text.encode()) for text in documents])) + 40, sampled),
        id_bytes=assumed(7, "MS MARCO"),
        terms=assumed(119, "a SPLADE-like model, as in docs/search.md; --measure or --terms"),
        teacher_terms=assumed(200, "a siamese SPLADE, which is denser"),
        words=measured(float(np.mean(words)), sampled),
        negatives=(
            assumed(recipe.negatives_pool, "negatives_pool of the recipe")
            if mined == 1
            else measured(candidates, source)
        ),
        mined=mined if recipe.num_hard_negatives else 0.0,
    )
