"""Cross-encoder teachers: query and document through one model, one pair at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder

from neural_sparse.errors import InputError
from neural_sparse.model.location import content_hash, model_folder
from neural_sparse.teachers.bi_encoder import BiEncoderTeacher
from neural_sparse.teachers.cache import EncodingJob, TeacherCache
from neural_sparse.teachers.loading import (
    checked_precision,
    computing_in,
    load_model,
    read_config,
    without_cached,
)
from neural_sparse.teachers.rows import Matrix
from neural_sparse.teachers.teacher import PairTexts, PreparedPairs
from neural_sparse.teachers.token_batches import by_tokens, token_lengths, warn_if_truncated

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


class CrossEncoderTeacher:
    """Raw logits of a reranker with one output, cached by pair. Arguments as of `BiEncoderTeacher`."""

    in_batch = False
    kind = "cross-encoder"

    def __init__(
        self,
        name: str,
        *,
        batch_size: int | None = None,
        device: str | None = None,
        max_length: int = 512,
        precision: str = "float32",
        trust_remote_code: bool = False,
    ) -> None:
        self.name = name
        self.batch_size = batch_size or BiEncoderTeacher.default_batch_size
        self._bounded = batch_size is not None
        self.device = device
        self.max_length = max_length
        self.precision = checked_precision(precision)
        self.trust_remote_code = trust_remote_code

    @cached_property
    def folder(self) -> Path:
        return model_folder(self.name)

    @cached_property
    def identity(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "weights": content_hash(self.folder),
            "max_length": self.max_length,
            "precision": self.precision,
        }

    @cached_property
    def model(self) -> CrossEncoder:
        architectures = read_config(self.folder, "config.json").get("architectures") or []
        saved = (self.folder / "modules.json").is_file()
        if not saved and not any(name.endswith("ForSequenceClassification") for name in architectures):
            raise InputError(
                f"teacher {self.name!r} is no cross-encoder: its config.json names "
                f"{architectures or 'nothing'}, and "
                "without a ...ForSequenceClassification its scores would be random"
            )
        model = load_model(
            CrossEncoder,
            self.name,
            self.folder,
            device=self.device,
            max_length=self.max_length,
            trust_remote_code=self.trust_remote_code,
            activation_fn=torch.nn.Identity(),
        )
        if model.num_labels != 1:
            raise InputError(
                f"teacher {self.name!r} has {model.num_labels} outputs; a teacher needs exactly one"
            )
        return model

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of a batch, at most."""
        if self._bounded:
            return self.batch_size * (self.model.max_seq_length or self.max_length)
        tokens = BiEncoderTeacher.default_tokens
        return tokens.get(self.model.device.type, tokens["cuda"])

    def batches(self, pairs: list[tuple[str, str]]) -> list[slice]:
        """Pairs that are scored at once."""
        limit = self.model.max_seq_length or self.max_length
        return by_tokens(token_lengths(pairs, self.model.tokenizer, limit), self.batch_tokens)

    def encode(self, pairs: list[tuple[str, str]]) -> Matrix:
        """Scores of a batch of pairs: float32 [pairs, 1]."""
        with computing_in(self.precision, self.model.device):
            scores = (
                self.model.predict(
                    pairs, batch_size=len(pairs), show_progress_bar=False, convert_to_tensor=True
                )
                .float()
                .cpu()
                .numpy()
            )
        return np.asarray(scores, dtype=np.float32).reshape(-1, 1)

    def jobs(
        self, queries: Sequence[str], documents: Sequence[str], pairs: NDArray[np.int64] | None = None
    ) -> list[EncodingJob]:
        """What the cache has to hold before training: the score of each pair of texts.

        Raises:
            InputError: no `pairs`: scoring every query against every document would take for ever.
        """
        if pairs is None:
            raise InputError(
                f"teacher {self.name!r} scores pairs: pass prepare(..., pairs=[[query row, document "
                "row], ...]) with the candidates of each query"
            )
        items = PairTexts(queries, documents, pairs)
        warn = partial(warn_if_truncated, self, documents)
        return [
            EncodingJob(
                self.name,
                self.identity,
                items=items,
                encode=self.encode,
                batch_size=self.batch_size,
                at_start=warn,
                batches=self.batches,
            )
        ]

    def prepare(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        pairs: NDArray[np.int64] | None,
        cache: TeacherCache,
    ) -> PreparedPairs:
        """As `jobs`, and score what the cache lacks."""
        (job,) = self.jobs(queries, documents, pairs)
        assert pairs is not None
        return PreparedPairs.cached(
            self.name, job, cache=cache, queries=queries, documents=documents, pairs=pairs
        )

    def __getstate__(self) -> dict[str, Any]:
        """Settings alone: another process loads the model itself."""
        return without_cached(self)
