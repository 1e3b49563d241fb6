"""The order of examples, and a batch's tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.losses.idf_aware import QueryTerms
from neural_sparse.losses.vocabulary_sample import VocabularySample
from neural_sparse.model.encoding import packed_features
from neural_sparse.text.tokens import tokenize
from neural_sparse.work import ranks

Example = tuple[int, np.ndarray]  # example number, rows of its hard negatives
TermTargets = Callable[[np.ndarray], sp.csr_matrix]  # document rows -> what they should be [rows, vocabulary]


class Teachers(Protocol):
    """What gives targets for a batch: `PreparedEnsemble`, for one."""

    def scores(
        self, query_rows: np.ndarray, doc_rows: np.ndarray, own: np.ndarray
    ) -> tuple[Tensor, Tensor]: ...


class Schedule(Dataset[Example]):
    """Every example of a whole run in the order of use.

    The order and the negatives depend on the seed and the position alone, so a run that resumes at a
    position goes on exactly as one that was never stopped.

    With several sources a batch comes from one of them, for the other documents of a batch are a query's
    negatives, and those of another kind of text would be too easy. Sources take turns so that after any
    number of batches each has had its share, to within a few batches.

    Args:
        data: the examples.
        length: examples in the whole run; those of a source are shuffled anew each time all have been used.
        num_negatives: hard negatives drawn per example from those it has (fewer if it has fewer).
        batch_size: consecutive positions that make one (micro-)batch.
    """

    def __init__(
        self, data: TrainingSet, length: int, num_negatives: int, seed: int, batch_size: int = 1
    ) -> None:
        self.data = data
        self.length = length
        self.num_negatives = num_negatives
        self.seed = seed
        self.batch_size = batch_size
        self._members = [
            np.flatnonzero(data.sources == source) for source, weight in enumerate(data.shares) if weight
        ]
        self._orders: dict[int, tuple[int, np.ndarray]] = {}
        if len(self._members) > 1:
            shares = np.array([weight for weight in data.shares if weight])
            self._batch_source, self._batch_number = _turns(shares, -(-length // batch_size), seed)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> Example:
        if not 0 <= position < self.length:
            raise IndexError(position)
        source, use = 0, position
        if len(self._members) > 1:
            batch, place = divmod(position, self.batch_size)
            source = int(self._batch_source[batch])
            use = int(self._batch_number[batch]) * self.batch_size + place
        example = self._example(source, use)
        negatives = self.data.negatives[example]
        if len(negatives) > self.num_negatives:
            draw = np.random.default_rng((self.seed, 1, position))
            negatives = draw.choice(negatives, self.num_negatives, replace=False)
        return example, negatives

    def _example(self, source: int, use: int) -> int:
        """The `use`-th example drawn from a source."""
        members = self._members[source]
        epoch, place = divmod(use, len(members))
        if source not in self._orders or self._orders[source][0] != epoch:
            key = (self.seed, 0, epoch) if len(self._members) == 1 else (self.seed, 0, epoch, source)
            self._orders[source] = epoch, np.random.default_rng(key).permutation(len(members))
        return int(members[self._orders[source][1][place]])


def _turns(shares: np.ndarray, batches: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Source of each batch, and which of that source's batches it is: int64 [batches] each.

    Multiples of the golden ratio, from a start the seed gives, fill the unit interval evenly at any length.
    """
    start = np.random.default_rng((seed, 2)).random()
    points = (start + np.arange(batches) * ((5**0.5 - 1) / 2)) % 1
    source = np.searchsorted(np.cumsum(shares / shares.sum())[:-1], points, side="right")
    number = np.empty(batches, np.int64)
    for one in range(len(shares)):
        mine = source == one
        number[mine] = np.arange(mine.sum())
    return source, number


class Batches(Sampler[range]):
    """The positions of each whole batch, in order; those a resumed run skips cost next to nothing."""

    def __init__(self, length: int, batch_size: int) -> None:
        self.length = length
        self.batch_size = batch_size

    def __len__(self) -> int:
        return self.length // self.batch_size

    def __iter__(self) -> Iterator[range]:
        for batch in range(len(self)):
            yield range(batch * self.batch_size, (batch + 1) * self.batch_size)


class Collator:
    """Turns examples into tensors: packed documents, queries, targets.

    Args:
        data: where the texts are.
        tokenizer: the student's; a copy is used, for the student may tokenize at the same time in another thread.
        max_length: tokens per document.
        teachers: None for losses that need no teacher.
        terms: what terms the documents should have; None where no loss asks.
        pack: what the encoder takes for tokenized documents, and for `columns=`, if it is to give only these.
        in_batch: compare a query with all documents of the batch; False: with its own candidates alone.
        siamese: queries go through the encoder as well, packed as documents are.
    """

    def __init__(
        self,
        data: TrainingSet,
        tokenizer: Any,
        max_length: int,
        teachers: Teachers | None,
        terms: TermTargets | None = None,
        pack: Callable[..., dict[str, Any]] = packed_features,
        in_batch: bool = True,
        siamese: bool = False,
    ) -> None:
        self.in_batch = in_batch
        self.siamese = siamese
        self.data = data
        self.tokenizer = copy.deepcopy(tokenizer)
        self.max_length = max_length
        self.teachers = teachers
        self.terms = terms
        self.pack = pack

    def __call__(self, examples: Sequence[Example], sample: VocabularySample | None = None) -> dict[str, Any]:
        """
        Args:
            sample: the tokens of the vocabulary that the step looks at; all if None.

        Returns:
            documents: the encoder's features of the batch's documents, each once; on several ranks of this rank's
                share of them, while all else speaks of all, in the order of ranks;
            query_ids, query_mask [queries, tokens], and query_terms;
            queries: the encoder's features of all queries (if `siamese`);
            positive [queries]: column of each query's relevant document;
            other_relevant [queries, documents]: documents that are no negatives of a query: others known to be relevant
                to it, and where `in_batch` is not set all but its own candidates;
            targets, mask [queries, documents]: teachers' scores (absent without teachers);
            terms: rows, columns and values of what this rank's documents should have (absent without `terms`);
            sample (absent without one).
        """
        query_rows = np.array([example for example, _ in examples], np.int64)
        positives = self.data.positives[query_rows]
        doc_rows = np.unique(np.concatenate([positives, *(negatives for _, negatives in examples)]))
        if len(doc_rows) < ranks.world_size():
            raise InputError(
                f"a batch has {len(doc_rows)} documents for {ranks.world_size()} devices; raise batch_size"
            )
        order = ranks.order(len(doc_rows))
        column = np.argsort(order)  # of each document, in their ascending order
        positive = column[np.searchsorted(doc_rows, positives)]
        own = np.zeros((len(examples), len(doc_rows)), bool)
        own[np.arange(len(examples)), positive] = True
        for row, (_, negatives) in enumerate(examples):
            own[row, column[np.searchsorted(doc_rows, negatives)]] = True
        mine = doc_rows[ranks.share(len(doc_rows))]
        doc_rows = doc_rows[order]

        other_relevant = np.array([np.isin(doc_rows, list(self.data.relevant[row])) for row in query_rows])
        if not self.in_batch:
            other_relevant |= ~own
        other_relevant[np.arange(len(examples)), positive] = False

        documents = tokenize(
            [self.data.documents[row] for row in mine],
            self.tokenizer,
            self.max_length,
            special_tokens=True,
        )
        queries = [self.data.queries[row] for row in query_rows]
        query_ids, query_mask = pad(tokenize(queries, self.tokenizer))
        batch = {
            "documents": self.pack(documents)
            if sample is None
            else self.pack(documents, columns=sample.columns),
            "query_ids": query_ids,
            "query_mask": query_mask,
            "query_terms": QueryTerms.of(query_ids, query_mask),
            "positive": torch.from_numpy(positive),
            "other_relevant": torch.from_numpy(other_relevant),
        }
        if self.siamese:
            asked = tokenize(queries, self.tokenizer, self.max_length, special_tokens=True)
            batch["queries"] = {**self.pack(asked), "task": "query"}
        if sample is not None:
            batch["sample"] = sample
        if self.teachers is not None:
            targets, mask = self.teachers.scores(query_rows, doc_rows, own)
            if not torch.isfinite(targets[mask]).all():
                raise InputError(
                    "a teacher gave a score that is not a number; check it with `neural-sparse evaluate`"
                )
            if not self.in_batch:
                mask = mask & torch.from_numpy(own)
            batch["targets"], batch["mask"] = targets, mask
        if self.terms is not None:
            wanted = self.terms(mine).tocoo()
            batch["terms"] = tuple(
                torch.from_numpy(part)
                for part in (wanted.row.astype(np.int64), wanted.col.astype(np.int64), wanted.data)
            )
        return batch


def pad(tokens: Any) -> tuple[Tensor, Tensor]:
    """Token ids [texts, longest], 0 where a text has ended, and the mask of real tokens (at least one column)."""
    lengths = tokens.lengths
    mask = np.arange(max(1, lengths.max(initial=0))) < lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = tokens.ids
    return torch.from_numpy(ids), torch.from_numpy(mask)
