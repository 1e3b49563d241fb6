"""sentence-transformers' trainer, given our batches and our loss."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from sentence_transformers import SparseEncoderTrainer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neural_sparse.errors import DivergedError
from neural_sparse.io.files import follow_umask, write_text, writing
from neural_sparse.losses.idf_aware import IDFAwareLoss
from neural_sparse.losses.vocabulary_sample import VocabularySampler
from neural_sparse.model.layout import map_tensors
from neural_sparse.training.batches import Batches, Collator, Schedule
from neural_sparse.training.cost_target import CostTarget
from neural_sparse.training.low_rank import LowRank
from neural_sparse.training.monitor import CollapseGuard, DimensionMonitor, teacher_agreement
from neural_sparse.training.prefetch import Prefetch
from neural_sparse.training.vocabulary import PlacedExamples, RunVocabulary, SamplingCollator
from neural_sparse.training.weight_average import WeightAverage
from neural_sparse.work import ranks

QUERY_WEIGHTS = r"sub_modules\.query\.0\.weight$"  # name of the query table's parameter
OWN_WORDS = r"sub_modules\.document\.2\.strength$"  # and of the strengths of own words
COMPLETE = "complete"  # written into a checkpoint folder last
WRITTEN_SO_FAR = (
    "complete checkpoints are kept; make room (save_total_limit=1) and start the same command again"
)
# How safetensors and torch say that a file could not be written, which are no OSErrors.
_FAILED_WRITES = ("os error", "PytorchStreamWriter", "inline_container")


class Objective(nn.Module):
    """Model and loss together, as sentence-transformers' trainer wants them: it optimises this module's parameters."""

    def __init__(self, model: nn.Module, loss: IDFAwareLoss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.dimensions = DimensionMonitor(loss.idf > 0)
        self.cost: CostTarget | None = None
        self.vocabulary: RunVocabulary | None = None

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Named components of the loss, and statistics of the batch."""
        features = self.model(batch["documents"])
        documents = features["sentence_embedding"]
        queries = None
        if "queries" in batch:
            queries = self.model(batch["queries"])["sentence_embedding"]
        targets, mask, sample = batch.get("targets"), batch.get("mask"), batch.get("sample")
        parts = self.loss(
            batch["query_ids"],
            batch["query_mask"],
            documents,
            targets,
            mask=mask,
            positive=batch["positive"],
            other_relevant=batch["other_relevant"],
            query_weights=features.get("query_weights"),
            terms=batch.get("terms"),
            query_terms=batch["query_terms"],
            sample=sample,
            queries=queries,
        )
        scores = parts.pop("scores")
        self.dimensions.update(documents, sample)
        if self.cost is not None:
            self.cost.see(documents, partial(self._without_dropout, batch), sample)
        if self.vocabulary is not None and sample is not None:
            self.vocabulary.see(documents, sample)
        present = documents.detach() != 0
        terms = present.sum().float() if sample is None else (present.float() @ sample.weights).sum()
        parts["nonzero_terms"] = ranks.summed(terms) / scores.shape[1]
        if queries is not None:
            parts["nonzero_query_terms"] = (queries.detach() != 0).sum(1).float().mean()
        if targets is not None and mask is not None:
            parts["teacher_agreement"] = teacher_agreement(scores, targets, mask)
        return parts

    def _without_dropout(self, batch: dict[str, Any]) -> Tensor:
        # Not through DistributedDataParallel, which would expect a backward pass.
        model: Any = getattr(self.model, "module", self.model)
        model.eval()
        with torch.no_grad():
            documents = model(batch["documents"])["sentence_embedding"]
        model.train()
        return documents


class NonNegative(TrainerCallback):
    """Keeps trained query weights and strengths of own words at 0 or above, as an index and its postings need them."""

    def __init__(self, weights: list[nn.Parameter]) -> None:
        self.weights = weights

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        with torch.no_grad():
            for weights in self.weights:
                weights.clamp_(min=0)


class StepClock(TrainerCallback):
    """Tells the loss the optimiser step, which drives its lambda: not micro-batches, and right after resuming."""

    def __init__(self, loss: IDFAwareLoss) -> None:
        self.loss = loss

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.loss.step = state.global_step


class NeuralSparseTrainer(SparseEncoderTrainer):
    """Trains on a `Schedule`, in its order.

    Checkpoints are sentence-transformers folders plus the state of the run; one that was not written to
    its end is not resumed from.
    """

    def __init__(
        self,
        *,
        loss: IDFAwareLoss,
        schedule: Schedule,
        collator: Collator,
        cost: CostTarget | None = None,
        collapse_guard: bool = True,
        sampler: VocabularySampler | None = None,
        ema_decay: float | None = None,
        adapter: LowRank | None = None,
        **kwargs: Any,
    ) -> None:
        self.schedule = schedule
        self.collator = collator
        self.batches: Prefetch[dict[str, Any]] | None = None  # those of the run, while it trains
        self._readable: dict[str, int] = {}
        # Step, its learning rate, and the figures of each micro-batch since they were last looked at.
        self._unseen: list[tuple[int, float, dict[str, Tensor]]] = []
        self.collapse = CollapseGuard(len(loss.idf), loss.ramp_steps) if collapse_guard else None
        super().__init__(loss=Objective(kwargs["model"], loss), data_collator=collator, **kwargs)  # type: ignore[arg-type]
        self.add_callback(StepClock(loss))
        floored = [
            weights
            for name, weights in kwargs["model"].named_parameters()
            if re.search(f"{QUERY_WEIGHTS}|{OWN_WORDS}", name) and weights.requires_grad
        ]
        if floored:
            self.add_callback(NonNegative(floored))
        self.adapter = adapter
        self.average: WeightAverage | None = None
        if ema_decay is not None:
            self.average = WeightAverage(kwargs["model"], ema_decay)
            self.add_callback(self.average)
        self.cost = cost
        if cost is not None:
            self.loss.cost = cost  # type: ignore[union-attr,assignment,attr-defined]
            self.add_callback(cost)
        self.vocabulary: RunVocabulary | None = None
        if sampler is not None:
            self.vocabulary = RunVocabulary(
                sampler, loss.idf.device, partial(self.read_until, of="vocabulary")
            )
            self.loss.vocabulary = self.vocabulary  # type: ignore[union-attr,assignment,attr-defined]
            self.add_callback(self.vocabulary)

    def get_train_dataloader(self) -> DataLoader:
        # Not divided among the ranks: each sees the whole batch, and the collator gives it its documents.
        examples: Any = self.schedule
        collate: Any = self.data_collator
        if self.vocabulary is not None:
            per_step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
            collate = SamplingCollator(self.collator, self.vocabulary, examples, per_step)
            examples = PlacedExamples(examples)
        return DataLoader(
            examples,
            batch_sampler=Batches(len(examples), self.args.per_device_train_batch_size),  # type: ignore[arg-type]
            collate_fn=collate,
        )

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> Any:
        if self.batches is None:
            made = _pinned(epoch_iterator, device) if device.type == "cuda" else epoch_iterator
            self._first_step = self.state.global_step
            self.batches = Prefetch(made, max(2, num_batches), self._batches_until())
        return super().get_batch_samples(self.batches, num_batches, device)

    def read_until(self, step: int, of: str = "negatives") -> None:
        """Let batches of the steps before `step` be made, and no others yet; without it, all may be made.

        Args:
            of: what batches are made of that is known so far; the least of these steps holds.
        """
        self._readable[of] = step
        if self.batches is not None:
            self.batches.allow(self._batches_until())

    def _batches_until(self) -> int | None:
        """As `Prefetch` counts them, from the step at which this run began or went on."""
        if not self._readable:
            return None
        return (min(self._readable.values()) - self._first_step) * self.args.gradient_accumulation_steps

    def train(self, *args: Any, **kwargs: Any) -> Any:
        try:
            done = super().train(*args, **kwargs)
            self._end_with_average()
            if self.adapter is not None:
                self.adapter.merge()
            return done
        finally:
            if self.batches is not None:
                self.batches.close()
                self.batches = None

    def _end_with_average(self) -> None:
        """The model is the average, that of the best checkpoint where the best one was loaded."""
        if self.average is None:
            return
        best = self.state.best_model_checkpoint
        if self.args.load_best_model_at_end and best is not None:
            self.average.load(Path(best))
        self.average.apply()

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        # The parent's copies would wait for all that the device has been given to do.
        return map_tensors(inputs, lambda tensor: tensor.to(self.args.device, non_blocking=True))

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        # A query weight that no batch has touched is the token's IDF, and stays so.
        return [
            name
            for name in super().get_decay_parameter_names(model)
            if not re.search(f"{QUERY_WEIGHTS}|{OWN_WORDS}", name)
        ]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        objective: Any = self.loss
        if model is self.model_wrapped and objective.model is not model:
            objective.model = model
        parts = objective(inputs)
        loss = parts.pop("loss")
        pressure = objective.loss.current_lambda * parts["flops"]
        figures = {"loss": loss, "pressure": pressure, **parts}
        figures = {name: figure.detach().to(loss.dtype) for name, figure in figures.items()}
        self._unseen.append((self.state.global_step, self._get_learning_rate(), figures))
        self.track_loss_components(parts)
        return (loss, {}) if return_outputs else loss

    def look(self) -> None:
        """Judge the micro-batches since the last look: only here a step is waited for.

        Raises:
            DivergedError: a loss that was not finite, or documents that have become empty or dense; with the step at
                which that began, though later ones may have been trained since.
        """
        unseen, self._unseen = self._unseen, []
        if not unseen:
            return
        loss = self.loss.loss  # type: ignore[union-attr,attr-defined]
        settings = (
            f"now lambda_flops={loss.lambda_flops:g}, flops_ramp_steps={loss.ramp_steps}, "
            f"learning_rate={self.args.learning_rate:g}, warmup_steps={self.args.warmup_steps}; "
            + how_to_change(str(self.args.output_dir))
        )
        values = iter(torch.stack([figure for *_, figures in unseen for figure in figures.values()]).tolist())
        for step, learning_rate, figures in unseen:
            parts = {name: next(values) for name in figures}
            total, pressure = parts.pop("loss"), parts.pop("pressure")
            if not math.isfinite(total):
                raise DivergedError(_diverged(step, self.args, parts))
            if self.collapse is not None:
                terms = parts["nonzero_terms"]
                self.collapse.check(
                    step, terms, settings, flops=pressure, rest=total - pressure, learning_rate=learning_rate
                )

    def track_loss_components(self, loss: dict[str, Tensor]) -> None:
        # As the parent does, which asks the device whether each is finite.
        sums = self.accum_loss_components["train"]
        if "steps" not in sums:
            sums["steps"] = torch.zeros((), dtype=torch.int64, device=self.args.device)
        steps = sums["steps"]
        for name, value in loss.items():
            value = value.detach()
            before = sums[name] if name in sums else torch.zeros_like(value)
            # One that is not a number (an agreement where there is nothing to agree on) is left out of the mean.
            sums[name] = before + torch.where(value.isfinite(), value, before / steps.clamp(min=1))
        steps += 1

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        self.look()
        if "loss" in logs:
            objective: Any = self.loss
            logs = logs | objective.dimensions.take() | {"lambda": float(objective.loss.current_lambda)}
            logs |= self.cost.figures() if self.cost is not None else {}
        super().log(logs, *args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # The parent also pickles its arguments; ours are in training_config.json.
        model = self.model if self.adapter is None else self.adapter.merged()
        model.save_pretrained(str(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.adapter is not None:
            self.adapter.load(Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        self.look()
        with nullcontext() if self.average is None else self.average.applied():
            return super().evaluate(*args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self.look()
        # A finite loss can have a gradient that is not; the next step would notice, after this one was saved.
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise DivergedError(_diverged(self.state.global_step, self.args, {"weights": math.nan}))
        output = Path(str(self.args.output_dir))
        folder = output / f"checkpoint-{self.state.global_step}"
        with writing(folder, output, WRITTEN_SO_FAR):
            try:
                super()._save_checkpoint(*args, **kwargs)
                if self.is_world_process_zero():
                    self._save_own(folder)
            except (SafetensorError, RuntimeError) as error:
                if not any(words in str(error) for words in _FAILED_WRITES):
                    raise
                raise OSError(str(error).splitlines()[0]) from error

    def _save_own(self, folder: Path) -> None:
        for part in (self.cost, self.vocabulary, self.average, self.adapter):
            if part is not None:
                part.save(folder)
        follow_umask(folder)
        write_text(folder / COMPLETE, "")


def _pinned(batches: Iterator[dict[str, Any]], device: torch.device) -> Iterator[dict[str, Any]]:
    with torch.cuda.device(device):  # a thread of its own would open the first GPU, whichever rank this is
        for batch in batches:
            yield map_tensors(batch, Tensor.pin_memory)


def checkpoints(output: str | Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    found = [
        (int(match[1]), folder)
        for folder in Path(output).glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", folder.name)) and (folder / COMPLETE).is_file()
    ]
    return [folder for _, folder in sorted(found)]


def how_to_change(output: str | Path) -> str:
    """How a run that has stopped is continued with changed keys."""
    saved = checkpoints(output)
    if not saved:
        return "nothing was saved yet, so the same command with changed keys starts anew"
    return f"with changed keys --resume-anyway goes on from {saved[-1]}, and --overwrite starts anew"


def _diverged(step: int, args: TrainingArguments, parts: dict[str, float]) -> str:
    values = ", ".join(f"{name} {value:.4g}" for name, value in parts.items())
    broken = [name for name, value in parts.items() if not math.isfinite(value)]
    saved = checkpoints(str(args.output_dir))
    kept = f"the last good checkpoint is {saved[-1]}" if saved else "no checkpoint had been written yet"
    return (
        f"the loss is not finite at step {step} ({values}; not finite: {', '.join(broken) or 'the sum'}); {kept}. "
        f"Try a smaller learning_rate (now {args.learning_rate:g}), more warmup_steps (now {args.warmup_steps}), "
        f"bf16=false, or max_grad_norm=1; {how_to_change(str(args.output_dir))}"
    )
