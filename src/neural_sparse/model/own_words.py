"""A document's own words, counted as BM25 counts them, added to what the model gives its tokens.

Max pooling forgets how often a word stands in a document and how long the document is, and a small model has no
weight for words it hardly knows. Both are known without any model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.modules import Module
from torch import Tensor, nn

from neural_sparse.errors import InputError
from neural_sparse.model.word_counts import WordClasses, saturated
from neural_sparse.text.words import token_classes

K1, B = 1.2, 0.75  # Robertson and Zaragoza 2009, section 3.4
MEAN_LENGTH = 60.0  # counted tokens of a document, where no documents say it


def check_own_words(strength: float) -> float:
    """Raises InputError unless 0 (none) or above."""
    if not 0 <= strength < float("inf"):
        raise InputError(f"own_words must be 0 (off) or above, not {strength:g}; 2 did well")
    return float(strength)


@dataclass(frozen=True)
class WordCounts:
    """Own words of several documents, spread over the forms of each word.

    Attributes:
        documents, tokens: int64 [entries], each place once.
        count, length: float32 [entries], how often forms of the word stand in the document, and its counted tokens.
    """

    documents: Tensor
    tokens: Tensor
    count: Tensor
    length: Tensor

    def among(self, columns: Tensor) -> WordCounts:
        """Those whose tokens are among `columns` (int64, ascending), `tokens` then being places there; on the host."""
        places = torch.searchsorted(columns, self.tokens).clamp(max=max(0, len(columns) - 1))
        kept = (
            columns[places] == self.tokens
            if len(columns)
            else torch.zeros_like(self.tokens, dtype=torch.bool)
        )
        return WordCounts(self.documents[kept], places[kept], self.count[kept], self.length[kept])


class OwnWords(Module):
    """Adds strength(t) * n / (n + k1 (1 - b + b length / mean length)) to the weight of every form t of a word.

    n is how often forms of the word stand in the document: tokens of one class, see `token_classes`. This is BM25's
    term frequency (Robertson and Zaragoza 2009, equation 3.14); IDF is the query's. With it a document's vector is the
    sum of a sparse encoder's and BM25's, in one index. Document frequencies and lengths of the collection are not
    needed, so that documents are still encoded one by one.

    As a module of sentence-transformers it stands after SpladePooling. Plain sentence-transformers loads it where this
    package is installed, with `trust_remote_code=True`.

    Args:
        strength: float32 [vocabulary], may be trained.
        classes: int64 [vocabulary], -1 for tokens that are not counted.
        mean_length: counted tokens of an average document.
    """

    config_keys: list[str] = ["k1", "b"]  # noqa: RUF012 - as sentence-transformers declares it

    def __init__(
        self, strength: Tensor, classes: Tensor, mean_length: float, k1: float = K1, b: float = B
    ) -> None:
        super().__init__()
        self.k1, self.b = k1, b
        self.strength = nn.Parameter(strength.float(), requires_grad=False)
        self.classes: Tensor
        self.mean_length: Tensor
        self.register_buffer("classes", classes)
        self.register_buffer("mean_length", torch.tensor(float(mean_length)))
        self._none: Tensor
        self.register_buffer("_none", torch.zeros(0), persistent=False)
        self._sort_members()

    @classmethod
    def of(
        cls, tokenizer: Any, strength: float, mean_length: float = MEAN_LENGTH, language: str = "english"
    ) -> OwnWords:
        """The same strength for all words of `tokenizer` that are counted; their forms are those of `language`.

        Raises:
            InputError: a strength below 0, an unknown language.
        """
        classes = torch.from_numpy(token_classes(tokenizer, language))
        return cls(check_own_words(strength) * (classes >= 0), classes, mean_length)

    def _sort_members(self) -> None:
        self._words = WordClasses(self.classes.cpu().numpy())
        self._none = torch.zeros(self._words.total)

    def saturated(self, count: Tensor, length: Tensor) -> Tensor:
        """Between 0 and 1: of words that stand `count` times in documents of `length` counted tokens."""
        value: Tensor = saturated(count, length, self.mean_length, k1=self.k1, b=self.b)
        return value

    def counts(self, ids: np.ndarray, offsets: np.ndarray) -> WordCounts:
        """What there is to add to packed documents: `ids` [tokens], document i is offsets[i]:offsets[i + 1]."""
        return WordCounts(*map(torch.from_numpy, self._words.counts(ids, offsets)))

    def add(self, weights: Tensor, counts: WordCounts, columns: Tensor | None = None) -> Tensor:
        """Vectors [documents, vocabulary] with their own words; differentiable in `weights` and in `strength`.

        With `columns`, vectors [documents, columns] and the counts `among` them.
        """
        value = self.saturated(counts.count, counts.length)
        strength = self.strength if columns is None else self.strength.index_select(0, columns)
        gain = (strength[counts.tokens] * value).to(weights.dtype)
        return weights.index_put((counts.documents, counts.tokens), gain, accumulate=True)

    def of_padded(self, ids: Tensor, mask: Tensor) -> Tensor:
        """What is added, [batch, vocabulary], for ids and mask [batch, length]; in operators that can be traced."""
        found = self.classes[ids]
        counted = (mask > 0).logical_and(found >= 0).to(torch.float32)
        # Not torch.zeros: a traced file would keep the device of the tracing.
        none = counted[:, :1] * self._none
        count = none.scatter_add(1, found.clamp(min=0), counted)
        value = self.saturated(count, count.sum(1, keepdim=True))
        return value[:, self.classes.clamp(min=0)] * self.strength

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        added = self.of_padded(features["input_ids"], features["attention_mask"])
        return {**features, "sentence_embedding": features["sentence_embedding"] + added}

    def save(self, output_path: str, *args: object, **kwargs: Any) -> None:
        self.save_config(output_path)
        self.save_torch_weights(output_path)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> OwnWords:
        place, options = (model_name_or_path, subfolder), (token, cache_folder, revision, local_files_only)
        config = cls.load_config(*place, None, *options)  # type: ignore[arg-type]
        weights = cls.load_torch_weights(*place, *options)  # type: ignore[arg-type]
        return cls(weights["strength"], weights["classes"], float(weights["mean_length"]), **config)

    def __repr__(self) -> str:
        return f"OwnWords({self.get_config_dict()})"


def mean_word_count(ids: np.ndarray, documents: int, tokenizer: Any, language: str = "english") -> float:
    """Counted tokens of an average document, at least 1; `ids` are those of all documents."""
    return max(1.0, float((token_classes(tokenizer, language)[ids] >= 0).sum()) / max(1, documents))
