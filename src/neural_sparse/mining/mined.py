"""Mined negatives as arrays and as files: JSON lines, or prepared data of any size whose mixture stays what it is."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from neural_sparse.data.assembly import DOCUMENTS, EXAMPLES, QUERIES, write_examples
from neural_sparse.data.prepared import MANIFEST, PreparedSet
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.io.files import file_sums, replacing, replacing_folder, write_json
from neural_sparse.text.ragged import RowLists

# Why candidates were dropped, in the order of the filters.
COUNTS = ("known_relevant", "equal", "near_duplicate", "teacher", "cross_encoder")


@dataclass
class Mined:
    """Negatives of consecutive examples.

    Attributes:
        negatives: int32 [examples, wanted], document rows, hardest first; -1 behind where there are fewer.
        scores: float32 [examples, 1 + wanted], a teacher's scores of the positive and of the negatives,
            NaN behind; None without a teacher.
        counts: candidates; dropped ones by reason (`COUNTS`); kept; queries; queries with fewer than wanted
            and with none.
    """

    negatives: NDArray[np.int32]
    scores: NDArray[np.float32] | None
    counts: dict[str, int]

    @classmethod
    def join(cls, parts: Sequence[Mined]) -> Mined:
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(part.counts)
        scores = [part.scores for part in parts if part.scores is not None]
        return cls(
            np.concatenate([part.negatives for part in parts]),
            np.concatenate(scores) if scores else None,
            {name: counts[name] for name in parts[0].counts},
        )

    def rows(self) -> RowLists:
        """One array per example, as `TrainingSet.negatives` holds them."""
        return RowLists.of_matrix(self.negatives)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file."""
        arrays: dict[str, NDArray] = {"negatives": self.negatives}
        if self.scores is not None:
            arrays["scores"] = self.scores
        metadata = {"counts": json.dumps(self.counts)}
        Path(path).write_bytes(save(arrays, metadata))

    @classmethod
    def load(cls, path: str | Path) -> Mined:
        """
        Raises:
            InputError: no such file, or not one of `save`.
        """
        try:
            with safe_open(str(path), "numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dict)
                counts = json.loads(file.metadata()["counts"])
            return cls(arrays["negatives"], arrays.get("scores"), counts)
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file") from error
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: no mined negatives ({error}); delete it to mine again") from error


def write_jsonl(
    path: str | Path, data: TrainingSet, parts: Iterable[Mined], with_scores: bool = False
) -> None:
    """Write {query, pos, negs} per example, or {query, docs, scores} with the positive first.

    Where there are several sources, each line has its "source" too, and its "weight" if they have weights.

    Args:
        parts: of consecutive examples, in order.

    Raises:
        InputError: the file cannot be written.
    """
    mixed = len(data.shares) > 1  # a batch comes from one source, so what is mined keeps its own
    example = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for part in parts:
            for place, row in enumerate(part.negatives):
                negatives = [data.documents[doc] for doc in row.tolist() if doc >= 0]
                line: dict[str, object] = {"query": data.queries[example]}
                positive = data.documents[int(data.positives[example])]
                if with_scores and part.scores is not None:
                    line["docs"] = [positive, *negatives]
                    line["scores"] = [
                        float(f"{score:.7g}") for score in part.scores[place, : 1 + len(negatives)].tolist()
                    ]
                else:
                    line |= {"pos": positive, "negs": negatives}
                if mixed:
                    source = int(data.sources[example])
                    line["source"] = str(source)
                    if data.weights:
                        line["weight"] = data.weights[source]
                out.write(_json(line) + "\n")
                example += 1


def _json(line: dict[str, object]) -> str:
    text = json.dumps(line, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can carry
        return json.dumps(line)
    return text


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
            positives=data.positives,
            negatives=found,
            scores=scored,
            sources=data.sources,
        )
        manifest = {
            **data.manifest,
            "settings": {"mined": settings, "from": data.manifest["settings"]},
            "files": file_sums(folder, (DOCUMENTS, EXAMPLES, QUERIES)),
        }
        write_json(folder / MANIFEST, manifest)
