"""Mining that can be stopped: block by block into a folder beside the output, here or on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from neural_sparse.data.prepared import PreparedSet
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.io.files import check_output, check_output_folder
from neural_sparse.io.parts import Parts, alone
from neural_sparse.io.resources import require_space
from neural_sparse.io.urls import Location, Url, location, work_folder, written_to
from neural_sparse.mining.mined import Mined, write_jsonl, write_prepared
from neural_sparse.mining.miner import BLOCK, Miner
from neural_sparse.text.ragged import Indices, RowLists
from neural_sparse.work.workers import Advance, DoPiece, Engine, in_workers

SAMPLE = 1000  # documents


def mine_to_file(
    miner: Miner,
    output: str | Location,
    with_scores: bool = False,
    engine: Engine | None = None,
    prepared: PreparedSet | None = None,
) -> dict[str, int]:
    """Mine all examples and write a JSONL file, or a prepared folder, that `load_training_set` reads.

    Stopped and called again with the same arguments, it goes on where it was and writes the same bytes.

    Args:
        output: {query, pos, negs} per line, in the order of the examples. May be a URL: blocks then wait in
            outputs/, and the file is uploaded when all are there.
        with_scores: {query, docs, scores} instead, the positive first, scored by `miner.scorer`.
        engine: mines the blocks elsewhere, such as `RayEngine`, where texts and vectors are sent; the scores of a
            cross-encoder are then not kept in the teacher cache.
        prepared: what the miner's data were loaded from: `output` becomes a folder like it, with the negatives
            (and scores) in it.

    Where the miner mines `only` for some examples, the others keep the negatives that they bring.

    Returns:
        `Mined.counts` over the examples that were mined for.

    Raises:
        InputError: scores asked for without a scorer, or for some examples only; half-finished work of other
            settings; too little room on the disk (with what is needed); a prepared folder for a URL.
    """
    output = location(output)
    work = work_folder(output)
    if with_scores and miner.scorer is None:
        raise InputError("scores are a teacher's: name one that scores the pairs, or leave the scores out")
    if with_scores and miner.only is not None:
        raise InputError(
            "scores are of mined negatives; those that the data bring have none, so mine for all"
        )
    if prepared is not None:
        if isinstance(output, Url):
            raise InputError(
                f"{output}: a prepared folder is memory-mapped; write it to a disk, or name a .jsonl"
            )
        check_output_folder(output)
    else:
        check_output(output)
    _require_space(miner, work.parent, prepared is not None)
    settings = miner.settings()
    with alone(work, output):
        parts = Parts(work, settings, miner.blocks, "safetensors")
        mine_parts(miner, parts, engine)
        counts: dict[str, int] = {}

        def read() -> Iterator[Mined]:
            for file in parts.files():
                part = Mined.load(file)
                for name, count in part.counts.items():
                    counts[name] = counts.get(name, 0) + count
                yield part

        found = read() if miner.only is None else _beside_the_given(miner.data, miner.only, read())
        if prepared is not None and isinstance(output, Path):
            write_prepared(output, prepared, parts=found, with_scores=with_scores, settings=settings)
        else:
            with written_to(output) as file:
                write_jsonl(file, miner.data, found, with_scores)
        parts.remove()
        return counts


def mine_parts(miner: Miner, parts: Parts, engine: Engine | None = None) -> None:
    """Mine the blocks that `parts`, one for each block, lack; says how far it is.

    Args:
        engine: as of `mine_to_file`.
    """
    missing = parts.missing()
    with tqdm(total=len(miner), desc="mining", unit=" queries", disable=None) as progress:
        progress.update(len(miner) - sum(len(miner.examples(block)) for block in missing))
        run: Engine = engine or in_workers
        for block, mined in run(_start, (miner,), missing, 1 if engine is None else None, progress.update):
            with parts.write(block) as temporary:
                mined.save(temporary)


def _beside_the_given(data: TrainingSet, only: Indices, mined: Iterator[Mined]) -> Iterator[Mined]:
    """All examples: `only` with what was mined for them, the others with what they bring."""
    parts = [part.rows() for part in mined]
    found = RowLists.join(parts, [0] * len(parts))
    lists = RowLists.of(data.with_negatives(only, found).negatives)
    for start in range(0, len(lists), BLOCK):
        yield Mined(lists.matrix(start, start + BLOCK), None, {})


def _require_space(miner: Miner, folder: Path, as_rows: bool) -> None:
    """Before the start, as if all wanted ones were found; texts by the mean length of a sample."""
    data, wanted = miner.data, miner.options.num_negatives
    example = wanted * (4 if miner.scorer is None else 8)  # in a part
    if as_rows:
        example += 12 * wanted
    else:
        count = min(SAMPLE, len(data.documents))
        rows = np.unique(np.linspace(0, len(data.documents) - 1, count).astype(int)).tolist()
        lengths = [len(data.documents[row].encode("utf-8", "replace")) for row in rows]
        example += (1 + wanted) * sum(lengths) // count
    require_space(folder, example * len(data), f"mining {wanted} negatives for {len(data):,} queries")


def _start(miner: Miner, worker: int) -> DoPiece[Mined]:
    """What mines a block."""

    def do(block: int, advance: Advance) -> Mined:
        mined = miner.mine(block)
        advance(len(mined.negatives))
        return mined

    return do
