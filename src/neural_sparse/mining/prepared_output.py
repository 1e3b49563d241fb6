"""Mined negatives of prepared data, written as prepared data: at any size, and the mixture stays what it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from neural_sparse.data.assembly import DOCUMENTS, EXAMPLES, QUERIES, write_examples
from neural_sparse.data.prepared import MANIFEST, PreparedSet
from neural_sparse.data.row_lists import RowLists
from neural_sparse.files import file_sums, replacing_folder, write_json
from neural_sparse.mining.mined import Mined


def write_prepared(
    output: Path, data: PreparedSet, parts: Iterable[Mined], with_scores: bool, settings: dict[str, Any]
) -> None:
    """A folder like `data`, with the mined negatives in place of its own; texts are linked where they can be.

    Args:
        parts: of consecutive examples, in order.
        with_scores: keep the scores of positives and negatives, for the precomputed teacher.
        settings: of the mining, for the manifest.
    """
    negatives, scores = [], []
    for part in parts:
        negatives.append(part.rows())
        if with_scores and part.scores is not None:
            present = np.column_stack([np.ones(len(part.negatives), bool), part.negatives >= 0])
            scores.append(RowLists.of_lengths(part.scores[present], present.sum(1)))
    found = RowLists.join(negatives, [0] * len(negatives))
    scored = RowLists.join(scores, [0] * len(scores)) if scores else RowLists.empty(len(found))
    with replacing_folder(output) as folder:
        for name in (QUERIES, DOCUMENTS):
            try:
                os.link(data.folder / name, folder / name)
            except OSError:  # another disk, or one that has no links
                shutil.copyfile(data.folder / name, folder / name)
        write_examples(
            folder / EXAMPLES,
            data.query_rows,
            data.positives,
            found,
            scored,
            data.sources,
        )
        manifest = {
            **data.manifest,
            "settings": {"mined": settings, "from": data.manifest["settings"]},
            "files": file_sums(folder, (DOCUMENTS, EXAMPLES, QUERIES)),
        }
        write_json(folder / MANIFEST, manifest)
