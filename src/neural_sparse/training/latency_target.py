"""lambda controlled during a run, so that the slowest hundredth of the queries ends within a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from neural_sparse.config import Recipe
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.evaluation.cost import term_share
from neural_sparse.losses.idf_aware import IDFAwareLoss
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.search.query_time import PERCENTILE, QueryTime, calibrate, postings_read
from neural_sparse.training.cost_target import QUERY_SAMPLE, CostTarget
from neural_sparse.work import ranks

logger = logging.getLogger(__name__)

FILE = "query_time.json"  # in a run's folder
DOCUMENTS = 512  # whose postings say how far the slowest queries are from the mean
LOOKS = 20  # at them, during a run


class LatencyTarget(CostTarget):
    """`CostTarget` whose FLOPS are those at which the 99th percentile of query times is a target.

    FLOPS are the postings that the mean query reads, per document; how many more the slowest hundredth reads is looked
    up again and again during the run, on the same documents without dropout, and the target of FLOPS follows.

    Args:
        model: that is trained.
        queries: training queries, csr [queries, vocabulary]: a sample.
        documents: texts, a sample of `DOCUMENTS`.
        query_time: what a query takes here.
        milliseconds: to reach, in a collection of `size` documents.
    """

    def __init__(
        self,
        loss: IDFAwareLoss,
        model: NeuralSparseEncoder,
        queries: sp.csr_matrix,
        documents: Sequence[str],
        *,
        query_time: QueryTime,
        milliseconds: float,
        size: int,
        num_steps: int,
        min_query_weight: float = 0.0,
    ) -> None:
        self.model, self.queries, self.documents = model, queries, list(documents)
        self.query_time, self.size = query_time, size
        self.most = query_time.postings_within(milliseconds, size) / size  # per document
        self.every = max(1, num_steps // LOOKS)
        self.spread = 1.0
        share = torch.from_numpy(term_share(queries)).float()
        super().__init__(
            loss,
            share,
            self.most,
            num_steps,
            query_weights=model.query_weights,
            min_query_weight=min_query_weight,
        )

    def look(self) -> None:
        """How many times the postings of the mean query the slowest hundredth reads now; the target follows."""
        training = self.model.training
        self.model.eval()
        try:
            share = term_share(self.model.encode_documents(self.documents))
            if self.min_query_weight:  # such tokens are taken out at the end
                share *= self.model.query_weights.detach().cpu().numpy() >= self.min_query_weight
        finally:
            self.model.train(training)
        read = postings_read(self.queries, share)
        spread = float(np.percentile(read, PERCENTILE)) / max(float(read.mean()), 1e-9)
        self.spread = float(ranks.summed(torch.tensor(spread))) / ranks.world_size()
        self.control.target = self.most / self.spread

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step % self.every == 0:
            self.look()

    def figures(self) -> dict[str, float]:
        found = super().figures()
        if found:
            postings = self.spread * found["estimated_flops"] * self.size
            found["estimated_p99_ms"] = self.query_time.p99(self.size, postings)
        return found

    def state(self) -> dict[str, Any]:
        return {**super().state(), "spread": self.spread}

    def load(self, folder: Path) -> None:
        self.spread = self.restored(folder)["spread"]


def latency_target(
    recipe: Recipe, model: NeuralSparseEncoder, loss: IDFAwareLoss, data: TrainingSet
) -> LatencyTarget:
    """For `target_p99` of a recipe; the machine is timed once, and what was found is kept in the run's folder.

    Raises:
        InputError: not even a query that reads no posting is so fast.
    """
    milliseconds, size = recipe.target_p99["milliseconds"], int(recipe.target_p99["documents"])
    rng = np.random.default_rng(0)
    asked = [data.queries[row] for row in rng.permutation(len(data.queries))[:QUERY_SAMPLE].tolist()]
    rows = rng.permutation(len(data.documents))[:DOCUMENTS].tolist()
    documents = [data.documents[row] for row in rows]
    file = Path(recipe.output) / FILE
    with ranks.first_rank_first():
        if not file.is_file():
            logger.info("timing the exact index here, for target_p99")
            vectors = model.encode_documents(documents)
            try:
                found = calibrate(vectors, model.encode_queries, asked, size)
            except InputError as error:
                raise InputError(f"target_p99: {error}") from error
            found.save(file)
    query_time = QueryTime.load(file)
    return LatencyTarget(
        loss,
        model,
        model.encode_queries(asked),
        documents,
        query_time=query_time,
        milliseconds=milliseconds,
        size=size,
        num_steps=recipe.num_steps,
        min_query_weight=recipe.min_query_weight,
    )
