"""Mined negatives as arrays, and as files that training reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neural_sparse.data.row_lists import RowLists
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.files import replacing

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
        from safetensors.numpy import save

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
        from safetensors import SafetensorError, safe_open

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
