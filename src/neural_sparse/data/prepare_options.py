"""How training data are prepared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neural_sparse.data.cleaning import Cleaning
from neural_sparse.data.from_documents import WAYS
from neural_sparse.errors import InputError, check_seed

ROWS_PER_PART = 10_000


@dataclass(frozen=True)
class PrepareOptions:
    """How data are prepared.

    Attributes:
        cleaning: see `Cleaning`.
        weights: share of training batches per source, only ratios matter; by size if empty.
        samples: examples to keep per source (one number for all, or one each; 0: all); None: what the registry
            says, all of own data.
        seed: of every draw.
        fields: unusual names of the columns "query", "positive", "negative".
        queries_from: how to make queries where there are none: "auto", "title", "heading", "first-sentence",
            "none" or the user's own "module:function".
        split: judgements of a collection to train on.
        accept_licences: public sets whose terms the user accepts; "all" for all.
        workers: processes that clean.
        rows_per_part: rows that are read, cleaned and written together; what a killed run has to repeat.
    """

    cleaning: Cleaning = field(default_factory=Cleaning)
    weights: tuple[float, ...] = ()
    samples: tuple[int, ...] | None = None
    seed: int = 42
    fields: Mapping[str, str] = field(default_factory=dict)
    queries_from: str = "auto"
    split: str = "train"
    accept_licences: tuple[str, ...] = ()
    workers: int = 1
    rows_per_part: int = ROWS_PER_PART

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.workers < 1 or self.rows_per_part < 1:
            raise InputError("workers and rows_per_part must be at least 1")
        if any(weight <= 0 for weight in self.weights):
            raise InputError("weights must be above 0; leave a source out instead")
        if any(sample < 0 for sample in self.samples or ()):
            raise InputError("samples must be positive, or 0 for all")
        if unknown := sorted(set(self.fields) - {"query", "positive", "negative", "label"}):
            raise InputError(
                f"fields: unknown {', '.join(unknown)}; known are query, positive, negative and label"
            )
        if ":" not in self.queries_from and self.queries_from not in WAYS:
            raise InputError(
                f"queries from {self.queries_from!r}: choose {', '.join(WAYS)}, or module:function of your own"
            )
