"""What fits into the budget: how many documents are worked on, and how many steps of training."""

from __future__ import annotations

from dataclasses import dataclass

from neural_sparse.adapt.estimate import Estimate
from neural_sparse.planning.table import duration

LEAST_STEPS = 30  # of fewer, training does not move a model enough to be judged
MOST_EPOCHS = 10
LEAST_DOCUMENTS = 1000  # judged whatever the budget
FIXED_SHARE = 0.5  # of the time left that teachers and evaluation may take
ENDING = 30.0  # seconds of timing queries, the page and the export
SAFE = 0.9  # of the time left is planned with, for a machine may have other work
LEAST_BUDGET = 60.0  # seconds left, of which a measurement and a training can make something


@dataclass(frozen=True)
class Plan:
    """Attributes:
    documents: worked on at most, in training and when judged.
    train: whether there is time to train. reason: why not, or what the figures mean.
    seconds_per_step: measured here; evaluating: seconds that are kept for what follows training.
    """

    documents: int
    train: bool
    reason: str
    seconds_per_step: float = 0.0
    evaluating: float = 0.0


def too_small(budget: float, spent: float) -> Plan | None:
    """The plan of a budget that is not worth a measurement."""
    if budget - spent >= LEAST_BUDGET:
        return None
    reason = (
        f"{duration(max(0.0, budget - spent))} of the budget of {duration(budget)} are left: too little to train "
        "in, so only what costs nothing is tried"
    )
    return Plan(LEAST_DOCUMENTS, False, reason)


def plan(budget: float, spent: float, measured: Estimate, steps: int, documents: int) -> Plan:
    """Documents and steps for a budget.

    Args:
        spent: seconds so far.
        measured: seconds for all `documents` and for `steps` steps.
    """
    left = SAFE * (budget - spent) - ENDING
    fixed = measured.teachers + measured.evaluating
    share = min(1.0, FIXED_SHARE * left / fixed) if fixed > 0 else 1.0
    worked_on = documents if share >= 1 else max(LEAST_DOCUMENTS, int(share * documents))
    worked_on = min(worked_on, documents)
    fixed *= worked_on / max(1, documents)
    per_step = measured.training / steps
    if (left - fixed) < LEAST_STEPS * per_step:
        reason = (
            f"teachers and evaluation take {duration(fixed)} and {LEAST_STEPS} steps of training "
            f"{duration(LEAST_STEPS * per_step)} on this machine; {duration(max(0.0, budget - spent))} of the "
            "budget are left: only what costs nothing is tried"
        )
        # Then documents are encoded once, by the start, and by no teacher.
        once = measured.once
        fit = documents if once <= 0 else int(documents * max(0.0, left) / once)
        return Plan(min(documents, max(LEAST_DOCUMENTS, fit)), False, reason)
    evaluating = measured.evaluating * worked_on / max(1, documents)
    reason = f"a step takes {per_step:.2f} s here, teachers and evaluation {duration(fixed)}"
    return Plan(worked_on, True, reason, seconds_per_step=per_step, evaluating=evaluating)


def seconds_of_training(left: float, plan: Plan) -> float:
    """Of the seconds left, those that training may take; where steps take longer than planned, it ends with them."""
    return max(1.0, left - plan.evaluating - ENDING)


def steps_within(left: float, plan: Plan, pairs: int, batch_size: int) -> int:
    """Steps for the seconds left, at most ten times through the pairs; 0 where too few fit."""
    time = SAFE * left - plan.evaluating - ENDING
    fit = int(time / plan.seconds_per_step) if plan.seconds_per_step > 0 else 0
    most = max(2 * LEAST_STEPS, -(-MOST_EPOCHS * pairs // batch_size))
    return 0 if fit < LEAST_STEPS else min(fit, most)
