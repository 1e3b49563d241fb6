"""Whether a start reads the documents' language, told by what its tokenizer makes of their words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neural_sparse.text.shingles import words
from neural_sparse.text.tokens import tokenize

LOOKED_AT = 1000  # documents
SPLIT = 4.0  # tokens per word: 1.2 to 1.5 in English prose, 2.2 in program code, 5.7 in Korean for an English tokenizer
UNKNOWN = 0.05  # share of the tokens


@dataclass(frozen=True)
class Reading:
    """Attributes:
    tokens_per_word: where scripts have no spaces, per character.
    unknown: share of the tokens that are [UNK].
    own_vocabulary: whether a start with a vocabulary of the documents takes the model's place.
    """

    tokens_per_word: float = 0.0
    unknown: float = 0.0
    own_vocabulary: bool = False

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Any) -> Reading:
        tokens = tokenize(texts, tokenizer)
        count = max(1, len(tokens.ids))
        unknown = (
            int((tokens.ids == tokenizer.unk_token_id).sum()) if tokenizer.unk_token_id is not None else 0
        )
        return cls(len(tokens.ids) / max(1, sum(len(words(text)) for text in texts)), unknown / count)

    @property
    def knows(self) -> bool:
        return self.tokens_per_word < SPLIT and self.unknown < UNKNOWN

    def told(self, init: str) -> list[str]:
        """What a reader of the page should know.

        Args:
            init: the model that was asked for.
        """
        if self.knows and not self.own_vocabulary:
            return []
        said = []
        if not self.knows:
            said = [
                f"{init} takes {self.tokens_per_word:.1f} tokens for a word, {self.unknown:.0%} of them unknown: "
                "it hardly knows this language."
            ]
        if self.own_vocabulary:
            said.append(
                "The start is a model that knows nothing but a vocabulary learnt from the documents; one that reads "
                "their language (--init, with teachers that read it: -t) would know more."
            )
        else:
            said.append(
                "Start from a model that does (--init), or from the documents' own words (--init own-vocabulary)."
            )
        return said
