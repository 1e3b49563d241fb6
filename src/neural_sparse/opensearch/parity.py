"""The export against the model: vectors, lengths, queries and ranking, as figures with limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch

from neural_sparse.errors import InputError
from neural_sparse.opensearch.texts import AWKWARD_TEXTS

if TYPE_CHECKING:
    from rich.table import Table

    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.opensearch.served import ServedDocuments, ServedQueries

LIMIT = 1e-4  # most that a weight of the export may differ from the model's


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        what: is compared; `cases`: how often.
        difference: the greatest found.
        limit: None where the figure is for information.
        note: about the worst case.
    """

    what: str
    cases: int
    difference: float
    limit: float | None = LIMIT
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.limit is None or self.difference <= self.limit

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare_texts(
    model: NeuralSparseEncoder,
    served: ServedDocuments,
    names: Sequence[str],
    texts: Mapping[str, str] = AWKWARD_TEXTS,
    *,
    what: str = "document vectors, awkward texts",
    limit: float | None = LIMIT,
) -> Check:
    """Greatest difference of a weight, {token: weight} of the server against the model's, text by text."""
    worst, where = 0.0, ""
    for label, text in texts.items():
        vector = model.encode_documents([text])
        ours = _named(vector, names)
        ours.pop("", None)  # tokens the server has no name for weigh 0 in queries too
        difference = _difference(ours, served.weights(text))
        if difference >= worst:
            worst, where = difference, label
    return Check(what, len(texts), worst, limit, f"most: {where}" if where else "")


def compare_lengths(
    model: NeuralSparseEncoder,
    served: ServedDocuments,
    silent: Sequence[int],
    *,
    what: str = "",
    limit: float | None = LIMIT,
) -> tuple[Check, Check]:
    """Random ids of many lengths, and batches with padding, against the model's own forward pass."""
    generator = torch.Generator().manual_seed(0)
    longest = model.max_length
    lengths = sorted({*range(1, min(9, longest + 1)), *np.geomspace(1, longest, 12).astype(int).tolist()})

    def difference(batch: int, length: int) -> float:
        ids = torch.randint(0, model.vocab_size, (batch, length), generator=generator)
        mask = torch.ones_like(ids)
        for row in range(1, batch):
            mask[row, int(torch.randint(1, length + 1, (1,), generator=generator)) :] = 0
        with torch.no_grad():
            expected = model(ids.to(model.device), mask.to(model.device)).float().cpu().clone()
        expected[:, list(silent)] = 0
        return float((served.output(ids, mask) - expected).abs().max())

    alone = [difference(1, length) for length in lengths]
    batches = [(2, min(5, longest)), (3, min(33, longest)), (4, longest)]
    together = [difference(*shape) for shape in batches]
    worst = lengths[int(np.argmax(alone))]
    return (
        Check(
            f"{what}document vectors, shapes [1, L]",
            len(lengths),
            max(alone),
            limit,
            f"L = {lengths[0]} to {lengths[-1]}; most: L = {worst}",
        ),
        Check(
            f"{what}document vectors, padded batches",
            len(batches),
            max(together),
            limit,
            f"up to [4, {longest}]",
        ),
    )


def compare_queries(
    model: NeuralSparseEncoder, served: ServedQueries, names: Sequence[str], texts: Sequence[str]
) -> Check:
    """Query weights of the server against the model's: the same tokens, equal to the last bit."""
    vectors = model.encode_queries(texts)
    worst, where = 0.0, ""
    for row, text in enumerate(texts):
        difference = _difference(_named(vectors[row], names), served.weights(text))
        if difference > worst:
            worst, where = difference, f"most: {text[:30]!r}"
    return Check("query weights", len(texts), worst, 0.0, where)


def _named(vector: sp.csr_matrix, names: Sequence[str]) -> dict[str, float]:
    """{token: weight} of a row [1, vocabulary]."""
    places, weights = vector.indices.tolist(), vector.data.tolist()
    return {names[place]: weight for place, weight in zip(places, weights, strict=True)}


def _difference(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float:
    return max((abs(ours.get(name, 0.0) - theirs.get(name, 0.0)) for name in {*ours, *theirs}), default=0.0)


def require(checks: Sequence[Check]) -> None:
    """Raises InputError naming every check that failed."""
    if failed := [check for check in checks if not check.passed]:
        listed = "; ".join(
            f"{check.what} differ by {check.difference:.3g}, more than {check.limit:g} ({check.note})"
            for check in failed
        )
        raise InputError(
            f"the export does not score as the model does, so nothing was written: {listed}. If the model "
            "depends on more than token ids and the attention mask, it cannot be exported this way"
        )


def parity_table(checks: Sequence[Check]) -> Table:
    """A rich table of the checks."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Parity with the model", title_justify="left")
    table.add_column("compared")
    for column in ("cases", "difference", "limit"):
        table.add_column(column, justify="right")
    table.add_column("")
    table.add_column("note", style="dim")
    for check in checks:
        limit = "" if check.limit is None else "0" if check.limit == 0 else f"{check.limit:.0e}"
        verdict = (
            "" if check.limit is None else Text("ok", "green") if check.passed else Text("FAILED", "red")
        )
        table.add_row(check.what, f"{check.cases:,}", _shown(check.difference), limit, verdict, check.note)
    return table


def _shown(difference: float) -> str:
    if difference == 0:
        return "0"
    return f"{difference:.4f}" if abs(difference) >= 1e-4 else f"{difference:.1e}"
