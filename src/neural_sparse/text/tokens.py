"""Text to token ids, as flat arrays: the one place where texts are tokenized."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.text.ragged import offsets_of, ranges, segment_ids

# Of a window: a tokenizer takes some 8 KB for a text of 60 words until its ids are copied out.
WINDOW_TEXTS = 16_384
WINDOW_CHARACTERS = 1 << 23


@dataclass(frozen=True)
class Tokens:
    """Token ids of several texts, one after the other.

    Attributes:
        ids: int64 [tokens].
        offsets: int64 [texts + 1]; text i is ids[offsets[i]:offsets[i + 1]].
        truncated: number of texts cut at the length limit.
    """

    ids: np.ndarray
    offsets: np.ndarray
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> Tokens:
        """The texts of `rows`, in that order."""
        lengths = self.lengths[rows]
        return Tokens(self.ids[ranges(self.offsets[rows], lengths)], offsets_of(lengths))


class TokenizerFile:
    """What texts need of a saved tokenizer.json, without transformers.

    Attributes:
        backend_tokenizer, all_special_ids: as of a transformers tokenizer.

    Raises:
        InputError: the file is no tokenizer.
    """

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self.backend_tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises plain exceptions
            raise InputError(f"{file}: not a tokenizer ({error})") from error
        added = self.backend_tokenizer.get_added_tokens_decoder()
        self.all_special_ids = [number for number, token in added.items() if token.special]

    def get_vocab(self) -> dict[str, int]:
        vocabulary: dict[str, int] = self.backend_tokenizer.get_vocab()
        return vocabulary

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """{"input_ids"} of one text, neither cut nor padded."""
        self.backend_tokenizer.no_truncation()
        self.backend_tokenizer.no_padding()
        encoding = self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return {"input_ids": encoding.ids}


def tokenize(
    texts: Sequence[str], tokenizer: Any, max_length: int | None = None, special_tokens: bool = False
) -> Tokens:
    """Tokenize texts in their composed form, NFC: canonically equal texts have equal tokens with every tokenizer.

    Args:
        texts: any number of strings; an empty one has no tokens but its special ones.
        tokenizer: a transformers tokenizer (the fast kind is used in parallel).
        max_length: cut each text to this many tokens, special ones included.
        special_tokens: add those of the tokenizer's single-text template ([CLS] text [SEP]).

    Raises:
        InputError: an entry that is no string, with its position.
    """
    refuse_one_string(texts)
    if not isinstance(texts, list):
        texts = list(texts)
    _check_strings(texts)
    prefix, suffix = special_token_template(tokenizer) if special_tokens else ((), ())
    ids_of_texts = _token_ids([nfc(text) for text in texts], tokenizer)
    lengths = np.fromiter(map(len, ids_of_texts), np.int64, len(texts))
    total = int(lengths.sum())
    ids = np.fromiter(chain.from_iterable(ids_of_texts), np.int64, total)
    truncated = 0
    if max_length is not None:
        room = max_length - len(prefix) - len(suffix)
        if room < 1:
            raise InputError(
                f"max_length {max_length} leaves no room beside {len(prefix) + len(suffix)} special tokens"
            )
        truncated = int((lengths > room).sum())
        if truncated:
            starts, lengths = offsets_of(lengths)[:-1], np.minimum(lengths, room)
            ids = ids[ranges(starts, lengths)]
    offsets = offsets_of(lengths)
    if prefix or suffix:
        extra = len(prefix) + len(suffix)
        framed_offsets = offsets + extra * np.arange(len(offsets))
        framed = np.empty(framed_offsets[-1], np.int64)
        framed[ranges(framed_offsets[:-1] + len(prefix), lengths)] = ids
        for place, token in enumerate(prefix):
            framed[framed_offsets[:-1] + place] = token
        for place, token in enumerate(suffix):
            framed[framed_offsets[1:] - len(suffix) + place] = token
        ids, offsets = framed, framed_offsets
    return Tokens(ids, offsets, truncated)


def tokenize_windows(
    texts: Sequence[str], tokenizer: Any, max_length: int | None = None, special_tokens: bool = False
) -> Iterator[Tokens]:
    """As `tokenize`, of consecutive texts at a time, in memory that does not grow with their number.

    Args:
        texts: read once, in order; a window ends after `WINDOW_TEXTS` of them, or with the one that brings it to
            `WINDOW_CHARACTERS`, so where windows end depends on the texts alone.
    """
    refuse_one_string(texts)
    if isinstance(texts, (list, tuple)):
        _check_strings(texts)  # before the work; other sequences are read but once
    window: list[str] = []
    first = characters = 0
    for text in texts:
        window.append(text)
        characters += len(text) if isinstance(text, str) else 0
        if len(window) == WINDOW_TEXTS or characters >= WINDOW_CHARACTERS:
            _check_strings(window, first)
            yield tokenize(window, tokenizer, max_length, special_tokens)
            first += len(window)
            window, characters = [], 0
    if window:
        _check_strings(window, first)
        yield tokenize(window, tokenizer, max_length, special_tokens)


def _check_strings(texts: Sequence[Any], first: int = 0) -> None:
    for position, text in enumerate(texts, first):
        if not isinstance(text, str):
            raise InputError(f"text {position} is {type(text).__name__}, not a string: {text!r:.80}")


def nfc(text: str) -> str:
    """The text with composed characters, Unicode's normal form C: macOS writes names of files without."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _token_ids(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    # transformers sets both again at each of its own calls, so nothing is lost by clearing them here.
    # Only where there is something to clear: another thread may be tokenizing with it just now.
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    try:
        encodings = backend.encode_batch_fast(texts, add_special_tokens=False)
    except TypeError:  # half a surrogate pair, as JSON of text cut inside an emoji holds
        whole = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
        encodings = backend.encode_batch_fast(whole, add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


def special_token_template(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids the tokenizer puts before and after a single text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a")["input_ids"]
    for start in range(len(framed) - len(bare) + 1):
        if framed[start : start + len(bare)] == bare:
            return tuple(framed[:start]), tuple(framed[start + len(bare) :])
    raise InputError(
        f"{type(tokenizer).__name__} does not put its special tokens around the text; not supported"
    )


def fingerprint(tokenizer: Any) -> str:
    """Hex sha256 of all that decides a tokenizer's ids: vocabulary, normalisation, splitting, added tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        content: Any = [type(tokenizer).__name__, vocabulary(tokenizer)]
    else:
        content = json.loads(backend.to_str())
        for irrelevant in ("truncation", "padding", "post_processor", "decoder"):
            content.pop(irrelevant, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# Each of these works within words: no character beyond a space decides what becomes of one.
_WORD_NORMALIZERS = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"}
_WORD_SPLITTERS = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
_SPLITTERS_OF_WORDS = _WORD_SPLITTERS | {"UnicodeScripts"}  # behind one that splits at spaces


def tokenizes_words_apart(tokenizer: Any) -> bool:
    """Whether the tokens of a text are those of its words (what is between spaces), one after the other.

    True for BERT's kind of tokenizer; False where it is not certain.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return False
    plan = json.loads(backend.to_str())
    splitter = plan["pre_tokenizer"] or {"type": None}
    first, *others = splitter["pretokenizers"] if splitter["type"] == "Sequence" else [splitter]
    if first["type"] not in _WORD_SPLITTERS or any(one["type"] not in _SPLITTERS_OF_WORDS for one in others):
        return False
    normalizer = plan["normalizer"] or {"type": "Lowercase"}
    steps = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    if any(step["type"] not in _WORD_NORMALIZERS for step in steps):
        return False
    return not any(
        any(map(str.isspace, token["content"])) or token["normalized"] for token in plan["added_tokens"]
    )


def vocabulary(tokenizer: Any) -> list[str]:
    """Token strings by id.

    Raises:
        InputError: ids that are not 0 .. n-1 (such a vocabulary cannot be the columns of a matrix).
    """
    ids = tokenizer.get_vocab()
    names = [""] * len(ids)
    try:
        for name, index in ids.items():
            names[index] = name
    except IndexError as error:
        raise InputError(f"the tokenizer's {len(ids)} tokens are not numbered 0 to {len(ids) - 1}") from error
    return names


def encode_queries(
    texts: Sequence[str], tokenizer: Any, weights: np.ndarray, count_repeats: bool = False
) -> sp.csr_matrix:
    """Query vectors, csr float32 [queries, vocabulary]: the weight of each token present, however often.

    Tokens that weigh 0 (special ones, [UNK] among them) are left out; a query of nothing else is empty.

    Args:
        count_repeats: a token weighs as often as it is there, as in BM25.
    """
    tokens = tokenize(texts, tokenizer)
    rows = segment_ids(tokens.lengths)
    present, often = np.unique(rows * len(weights) + tokens.ids, return_counts=True)
    rows, columns = present // len(weights), present % len(weights)
    values = weights[columns] * often if count_repeats else weights[columns]
    known = values > 0
    return sp.csr_matrix(
        (values[known], (rows[known], columns[known])), shape=(len(tokens), len(weights)), dtype=np.float32
    )


def top_terms(vector: sp.csr_matrix, names: Sequence[str], k: int | None = None) -> list[tuple[str, float]]:
    """(token, weight) of a single vector [1, vocabulary], heaviest first; equal weights by id."""
    row = vector if isinstance(vector, sp.csr_matrix) else sp.csr_matrix(vector)
    order = np.lexsort((row.indices, -row.data))[:k]
    tokens, weights = row.indices[order].tolist(), row.data[order].tolist()
    return [(names[token], weight) for token, weight in zip(tokens, weights, strict=True)]
