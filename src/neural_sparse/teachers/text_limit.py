"""What an endpoint's model can read of a text: longer texts are cut, or refused before anything is sent."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from neural_sparse.config import EndpointSettings
from neural_sparse.errors import InputError
from neural_sparse.model.tokenizer import load_tokenizer
from neural_sparse.text.tokens import special_token_template

logger = logging.getLogger(__name__)


class TextLimit:
    """Cuts texts at so many characters, and so many tokens of the model's own tokenizer.

    Args:
        settings: `max_characters`, `max_tokens` with `tokenizer`, `too_long`.
        who: names the teacher in messages.
    """

    def __init__(self, settings: EndpointSettings, who: str) -> None:
        self._settings, self._who = settings, who

    def __bool__(self) -> bool:
        return self._settings.max_characters is not None or self._settings.max_tokens is not None

    def cut(self, text: str, prompt: str = "") -> str:
        """The beginning that the model reads; the prompt counts among the tokens."""
        text = text[: self._settings.max_characters]
        if self._settings.max_tokens is None:
            return text
        # No token of ASCII is less than a character: most texts need no tokenizer.
        if len(prompt) + len(text) <= self._room and text.isascii() and prompt.isascii():
            return text
        while len(ends := self._ends(prompt + text)) > self._room:
            # What is left may come apart into more tokens than it was, so it is counted again.
            text = text[: max(0, min(len(text) - 1, ends[self._room - 1] - len(prompt)))]
            if not text:
                raise InputError(
                    f"{self._who}: the prompt alone has more than max_tokens={self._settings.max_tokens} tokens"
                )
        return text

    def tell(self, texts: Sequence[str], prompt: str = "") -> None:
        """Say how many texts are cut.

        Raises:
            InputError: there are some, and `too_long` is "refuse".
        """
        if not self:
            return
        cut = [row for row, text in enumerate(texts) if len(self.cut(text, prompt)) < len(text)]
        if not cut:
            return
        limits = [
            f"max_{unit}={most:,}"
            for unit, most in (
                ("characters", self._settings.max_characters),
                ("tokens", self._settings.max_tokens),
            )
            if most is not None
        ]
        found = f"{self._who}: {len(cut):,} of {len(texts):,} texts are beyond {' or '.join(limits)}"
        if self._settings.too_long == "refuse":
            first = texts[cut[0]]
            raise InputError(
                f"{found}, the first with {len(first):,} characters: {first[:80]!r}; nothing was sent. Shorten them, "
                "or too_long: cut"
            )
        logger.warning("%s and are cut there", found)

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = load_tokenizer(str(self._settings.tokenizer))
        if not tokenizer.is_fast:
            raise InputError(
                f"{self._who}: the tokenizer {self._settings.tokenizer} cannot say where its tokens end (no fast "
                "form of it); use max_characters"
            )
        return tokenizer

    @cached_property
    def _room(self) -> int:
        special = sum(map(len, special_token_template(self._tokenizer)))
        room = (self._settings.max_tokens or 0) - special
        if room < 1:
            raise InputError(
                f"{self._who}: max_tokens={self._settings.max_tokens} leaves no room beside {special} special tokens"
            )
        return room

    def _ends(self, text: str) -> list[int]:
        """Where each token ends, in characters."""
        clean = text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
        found = self._tokenizer(
            clean, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )
        return [end for _, end in found["offset_mapping"]]


class CutTexts(Sequence[str]):
    """Texts as a limit leaves them, looked up when asked for."""

    def __init__(self, texts: Sequence[str], limit: TextLimit, prompt: str = "") -> None:
        self._texts, self._limit, self._prompt = texts, limit, prompt

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, place: Any) -> Any:
        found = self._texts[place]
        if isinstance(place, slice):
            return CutTexts(found, self._limit, self._prompt)
        return self._limit.cut(found, self._prompt)
