"""Old query weights against new ones on the same documents' vectors, on kept queries and on made ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from neural_sparse.adapt.candidates import QuerySide
from neural_sparse.adapt.corpus import Text, number_of
from neural_sparse.adapt.queries import query_of
from neural_sparse.adapt.split import near_duplicates
from neural_sparse.adapt.verdict import LEVEL, MEASURE, p_text, too_easy
from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.qrels_file import Qrels
from neural_sparse.evaluation.evaluate import evaluate_retriever
from neural_sparse.evaluation.significance import Comparison, compare_scores, holm
from neural_sparse.search import SparseIndex, SparseRetriever

MADE = 250  # queries of the new documents, and of the old ones
KEPT, OF_NEW, OF_OLD = "kept", "made of new documents", "made of old documents"


@dataclass(frozen=True)
class MadeQueries:
    """Attributes:
    queries: id -> text. qrels: id -> document id -> 1.
    hidden: document id -> its text without what became the query, as it is searched then.
    left_out: near-duplicates of such documents, which are not searched.
    """

    queries: dict[str, str]
    qrels: Qrels
    hidden: dict[str, str]
    left_out: frozenset[str]


def made_queries(documents: Sequence[Text], seed: int, most: int = MADE) -> MadeQueries:
    """A title, a heading or a sentence of each of some documents, drawn by their ids."""
    cluster = near_duplicates([one.whole for one in documents])
    order = sorted(range(len(documents)), key=lambda row: number_of(seed, "refresh", documents[row].doc_id))
    chosen: dict[int, Any] = {}
    for row in order:
        if len(chosen) < most and cluster[row] == row and (made := query_of(documents[row], seed)).query:
            chosen[row] = made
    ids = {row: documents[row].doc_id for row in chosen}
    return MadeQueries(
        {f"made-{ids[row]}": made.query for row, made in chosen.items()},
        {f"made-{ids[row]}": {ids[row]: 1} for row in chosen},
        hidden={ids[row]: made.text for row, made in chosen.items()},
        left_out=frozenset(
            documents[row].doc_id
            for row, head in enumerate(cluster.tolist())
            if head != row and head in chosen
        ),
    )


@dataclass(frozen=True)
class Judged:
    """Attributes:
    group: "kept", "made of new documents" or "made of old documents".
    comparison: the new weights against the old ones, nDCG@10. p: after Holm's correction over the groups.
    easy: the old weights answer nearly all of them, so that they say little.
    """

    group: str
    comparison: Comparison
    p: float
    easy: bool

    @property
    def mark(self) -> int:
        """1 where the new weights are significantly better, -1 where worse, else 0."""
        if self.p >= LEVEL:
            return 0
        return 1 if self.comparison.difference > 0 else -1

    def to_dict(self) -> dict[str, Any]:
        return {"group": self.group, **self.comparison.to_dict(), "p_holm": self.p, "easy": self.easy}

    def __str__(self) -> str:
        found = self.comparison
        return (
            f"{found.queries:,} queries {self.group}: {MEASURE} {found.mean_a:.3f} with the old weights, "
            f"{found.mean_b:.3f} with the new ones ({100 * found.difference:+.1f} points, 95% interval "
            f"{100 * found.low:+.1f} to {100 * found.high:+.1f}, p {p_text(self.p)} after Holm)"
        )


@dataclass
class Searched:
    """Documents that are searched.

    Attributes:
        doc_ids, texts: of all. vectors: csr [documents, vocabulary].
    """

    doc_ids: list[str]
    texts: list[str]
    vectors: sp.csr_matrix

    def with_hidden(self, made: MadeQueries, vectors: sp.csr_matrix) -> Searched:
        """Documents that gave a query without it, their near-duplicates left out.

        Args:
            vectors: of `made.hidden`, in its order.
        """
        place = {doc_id: row for row, doc_id in enumerate(made.hidden)}
        kept = [row for row, one in enumerate(self.doc_ids) if one not in made.left_out]
        both = sp.vstack([self.vectors, vectors], format="csr")
        first = self.vectors.shape[0]
        rows = [first + place[one] if (one := self.doc_ids[row]) in place else row for row in kept]
        texts = [made.hidden.get(self.doc_ids[row], self.texts[row]) for row in kept]
        return Searched([self.doc_ids[row] for row in kept], texts, both[rows])


def judge(
    groups: Mapping[str, tuple[Searched, Mapping[str, str], Qrels]],
    tokenizer: Any,
    before: np.ndarray,
    after: np.ndarray,
    count_repeats: bool = False,
) -> list[Judged]:
    """Both query sides over each group's documents.

    Args:
        groups: name -> documents, queries, judgements.
        before, after: query weights, float32 [vocabulary].
    """
    found: dict[str, Comparison] = {}
    easy = {}
    for name, (searched, queries, qrels) in groups.items():
        asked = {key: text for key, text in queries.items() if key in qrels}
        if len(asked) < 2:
            continue
        collection = Collection(name, searched.doc_ids, texts=searched.texts, queries=asked, qrels=qrels)
        index = SparseIndex.build(searched.vectors, searched.doc_ids)
        values = []
        for weights in (before, after):
            side = QuerySide(tokenizer, weights, count_repeats)
            retriever = SparseRetriever(index, side.encode_queries)
            evaluation = evaluate_retriever(retriever, collection, 10, (MEASURE,), latency_queries=0)
            values.append(evaluation.per_query[MEASURE])
        found[name] = compare_scores(values[0], values[1])
        easy[name] = too_easy(values[0])
    adjusted = holm({name: one.p_value for name, one in found.items()})
    return [Judged(name, one, adjusted[name], easy[name]) for name, one in found.items()]


def decide(judged: Sequence[Judged]) -> tuple[bool, str]:
    """Whether the new weights are to be used, and why: unless they are significantly worse on some group.

    Kept queries come first: where they are significantly better, made ones do not speak against them.
    """
    marks = {one.group: one.mark for one in judged}
    if not judged:
        return (
            True,
            "nothing could be judged: no kept queries were given, and none could be made of the documents",
        )
    worse = [name for name, mark in marks.items() if mark < 0]
    better = [name for name, mark in marks.items() if mark > 0]
    if worse and KEPT not in better:
        return False, f"the new weights are worse, and not by chance, on queries {' and '.join(worse)}"
    if better:
        return True, f"the new weights are better, and not by chance, on queries {' and '.join(better)}"
    return (
        True,
        "no difference was found that is more than chance; the new weights fit the documents there are now",
    )
