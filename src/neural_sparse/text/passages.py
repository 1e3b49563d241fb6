"""Long texts parted into passages that end where sentences do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from neural_sparse.errors import InputError
from neural_sparse.text.ragged import Indices
from neural_sparse.text.tokens import special_token_template, tokenize

SENTENCE_END = re.compile(r"[.!?。？！](?=\s|$)|[。？！]")
_BETWEEN_SENTENCES = re.compile(rf"(?:{SENTENCE_END.pattern}|\n\s*\n)\s*")
_BETWEEN_WORDS = re.compile(r"(?<=\s)(?=\S)")


def check_passages(size: int, max_length: int) -> None:
    """
    Raises:
        InputError: passages longer than the model reads.
    """
    if size > max_length:
        raise InputError(
            f"passages of {size:,} tokens are longer than the model reads, {max_length:,}: give fewer"
        )


def passages_of(texts: Sequence[str], tokenizer: Any, size: int) -> tuple[list[str], Indices]:
    """Each text as passages of at most `size` tokens, special ones included: about equally long, parted at the ends of
    sentences, within a sentence only where it is longer than a passage, within a word only where that is.

    The passages of a text, one after another, are the text, character by character.

    Tokens are counted sentence by sentence. Tokenizers for which a space belongs to the word behind it may count one
    more or less where two meet.

    Returns:
        The passages of all texts, and how many each text has, int64 [texts], at least 1.

    Raises:
        InputError: a size that leaves no room beside the special tokens.
    """
    special = sum(map(len, special_token_template(tokenizer)))
    room = size - special
    if room < 1:
        raise InputError(f"passages of {size} tokens leave no room beside {special} special tokens")
    found: list[str] = []
    counts = np.ones(len(texts), np.int64)
    for row, length in enumerate(tokenize(texts, tokenizer).lengths.tolist()):
        parts = [texts[row]] if length <= room else _parted(texts[row], tokenizer, room)
        counts[row] = len(parts)
        found += parts
    return found, counts


def _parted(text: str, tokenizer: Any, room: int) -> list[str]:
    pieces, lengths = _pieces(text, tokenizer, room)
    total = sum(lengths)
    target = total / -(-total // room)
    parts: list[str] = []
    first = filled = 0
    for number, length in enumerate(lengths):
        if filled and (filled + length > room or filled + length / 2 > target):
            parts.append("".join(pieces[first:number]))
            first, filled = number, 0
        filled += length
    parts.append("".join(pieces[first:]))
    return parts


def _pieces(text: str, tokenizer: Any, room: int) -> tuple[list[str], list[int]]:
    """The text in pieces that are each small enough, and their tokens."""
    ways = (_sentences, _words, lambda piece: _letters(piece, max(1, room // 4)))
    pieces, lengths = [text], [room + 1]
    for way in ways:
        parted = [
            way(piece) if length > room else [piece] for piece, length in zip(pieces, lengths, strict=True)
        ]
        if all(len(parts) == 1 for parts in parted):
            continue
        pieces = [piece for parts in parted for piece in parts]
        lengths = tokenize(pieces, tokenizer).lengths.tolist()
    return pieces, lengths


def _sentences(text: str) -> list[str]:
    return _cut(text, [match.end() for match in _BETWEEN_SENTENCES.finditer(text)])


def _words(text: str) -> list[str]:
    return _cut(text, [match.start() for match in _BETWEEN_WORDS.finditer(text)])


def _letters(text: str, count: int) -> list[str]:
    return _cut(text, list(range(count, len(text), count)))


def _cut(text: str, places: list[int]) -> list[str]:
    ends = [place for place in places if 0 < place < len(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
