"""Is controlling lambda during one run (target_flops) as good as sweeping it?

    python benchmarks/cost_target.py --work /tmp/cost-target num_steps=120 batch_size=16

On the quickstart's Python documentation: a sweep of lambda, then runs with the sweep's FLOPS as targets, for each
seed. The table says how near each target was hit, and the nDCG@10 reached beside what the sweep has at that cost
(interpolated between its runs, over the logarithm of FLOPS). Started again, it goes on where it stopped.
"""

import argparse
import json
import math
from functools import partial
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--recipe", default="tiny-cpu")
    parser.add_argument("--documents", type=int, default=2500)
    parser.add_argument("--lambdas", default="0.005,0.01,0.02,0.05,0.1")
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("overrides", nargs="*", help="key=value of the recipe")
    options = parser.parse_args()

    from neural_sparse.tuning.grid import read_grid
    from neural_sparse.tuning.judging import Judge
    from neural_sparse.tuning.shared import Shared
    from neural_sparse.tuning.sweep import sweep

    work: Path = options.work
    if not (work / "pairs.jsonl").is_file():
        make_data(work, options.documents)
    fixed = [
        f"train={work}/pairs.jsonl",
        f"corpus={work}/collection/corpus.jsonl",
        f"teacher_cache={work}/cache",
    ]
    shared = Shared(work / "shared")
    rows = []
    for seed in options.seeds.split(","):
        results = []
        settings = f"lambda_flops={options.lambdas}"
        for kind in ("lambda", "target"):
            place = [f"output={work}/{kind}-{seed}", f"seed={seed}"]
            grid = read_grid(options.recipe, [*fixed, *options.overrides, settings, *place])
            judge = Judge.of([run.recipe for run in grid.runs], [str(work / "collection")])
            result = sweep(grid, judge, shared=shared, say=partial(print, flush=True))
            results.append([one for one in result.outcomes if one.status == "finished"])
            settings = "target_flops=" + ",".join(f"{one.figures['FLOPS']:.3g}" for one in results[0])
        rows += compared(seed, *results)
    print_table(rows)


def make_data(work: Path, documents: int) -> None:
    """pairs.jsonl and collection/: the test queries' documents and others, and the training queries of these."""
    from neural_sparse.corpora.python_docs import python_docs
    from neural_sparse.training.dev import sample

    docs = python_docs()
    part = sample(docs.collection, len(docs.collection.queries), documents, 0)
    part.save(work / "collection")
    kept = set(part.texts)
    texts = docs.collection.texts
    pairs = [{"query": query, "pos": texts[row]} for query, row in docs.train if texts[row] in kept]
    (work / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)) + "\n")
    print(
        f"{len(part.texts):,} documents, {len(part.queries):,} test queries, {len(pairs):,} training queries"
    )


def compared(seed: str, swept: list, aimed: list) -> list[dict]:
    """One row per run with a target, beside the sweep at the cost that it reached."""
    line = sorted((math.log(one.figures["FLOPS"]), one.figures["nDCG@10"]) for one in swept)
    rows = []
    for one, origin in zip(aimed, swept, strict=False):
        target, reached = one.run.values["target_flops"], one.figures["FLOPS"]
        beside = float(np.interp(math.log(reached), *zip(*line, strict=True)))
        rows.append(
            {
                "seed": seed,
                "lambda": origin.run.values["lambda_flops"],
                "sweep": origin.figures,
                "target": target,
                "aimed": one.figures,
                "miss": reached / target - 1,
                "gain": 100 * (one.figures["nDCG@10"] - beside),
            }
        )
    return rows


def print_table(rows: list[dict]) -> None:
    print(
        "| seed | lambda | its FLOPS | its nDCG@10 | target | reached | miss | nDCG@10 | against the sweep, points |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        swept, aimed = row["sweep"], row["aimed"]
        print(
            f"| {row['seed']} | {row['lambda']:g} | {swept['FLOPS']:.3f} | {swept['nDCG@10']:.3f} | "
            f"{row['target']:g} | {aimed['FLOPS']:.3f} | {row['miss']:+.1%} | {aimed['nDCG@10']:.3f} | "
            f"{row['gain']:+.2f} |"
        )
    misses, gains = [abs(row["miss"]) for row in rows], [row["gain"] for row in rows]
    print(
        f"\nmean miss {np.mean(misses):.1%}, largest {max(misses):.1%}; nDCG@10 against the sweep at the same cost: "
        f"mean {np.mean(gains):+.2f} points, standard deviation {np.std(gains, ddof=1):.2f}"
    )


if __name__ == "__main__":
    main()
