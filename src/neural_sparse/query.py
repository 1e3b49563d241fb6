"""Queries without torch: what a service needs to ask an index that an inference-free model filled.

A query is its tokens, each with its weight from a table (arXiv 2411.04403, section 3): tokenizers and numpy are enough.
This file imports nothing else, so that it can be copied into another code base; `neural-sparse export --format query`
writes it beside a model's tokenizer and weights, as `query_encoder.py`.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

TOKENIZER, WEIGHTS = "tokenizer.json", "model.safetensors"
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


class QueryEncoder:
    """The query side of a model: the vectors that `NeuralSparseEncoder.encode_queries` makes, without torch.

        encoder = QueryEncoder("outputs/mine/final_model")
        encoder.tokens("sort a list")  # {"sort": 5.1, "list": 3.9}, as OpenSearch's query_tokens

    Args:
        folder: of a trained model, or what `neural-sparse export --format query` wrote.
        count_repeats: a token weighs as often as it is there, as in BM25; engines that tokenize count it once.

    Attributes:
        weights: float32 [vocabulary], 0 for special tokens.

    Raises:
        ValueError: a folder without the two files, a damaged one, weights of another vocabulary.
    """

    def __init__(self, folder: str | Path, *, count_repeats: bool = False) -> None:
        home = _home(Path(folder))
        content = (home / TOKENIZER).read_text(encoding="utf-8")
        try:
            self.tokenizer = Tokenizer.from_str(content)
        except Exception as error:  # tokenizers raises plain exceptions
            raise ValueError(f"{home / TOKENIZER}: not a tokenizer ({error})") from error
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.weights = _read_weights(home / WEIGHTS)
        if self.tokenizer.get_vocab_size() != len(self.weights):
            raise ValueError(
                f"{home}: {len(self.weights):,} weights for {self.tokenizer.get_vocab_size():,} tokens; "
                f"{WEIGHTS} and {TOKENIZER} are of different models"
            )
        special = [one for one, token in self.tokenizer.get_added_tokens_decoder().items() if token.special]
        self.weights[special] = 0.0
        self.count_repeats = count_repeats

    def vector(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Token ids, int32 [tokens] in ascending order, and their weights, float32 [tokens], all above 0.

        A query of unknown words alone is empty.
        """
        ids = np.asarray(self._encode([text])[0], np.int32)
        ids, often = np.unique(ids, return_counts=True)
        weights = self.weights[ids] * often if self.count_repeats else self.weights[ids]
        known = weights > 0
        return ids[known], weights[known].astype(np.float32)

    def tokens(self, text: str) -> dict[str, float]:
        """{token: weight}, as engines that store names of tokens are asked."""
        ids, weights = self.vector(text)
        return {
            str(self.tokenizer.id_to_token(token)): weight
            for token, weight in zip(ids.tolist(), weights.tolist(), strict=True)
        }

    def vectors(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of several queries, as the arrays of a compressed sparse row matrix [queries, vocabulary].

        Returns:
            ids, int32 [tokens]; weights, float32 [tokens]; offsets, int64 [queries + 1].
        """
        parts = [self.vector(text) for text in texts]
        offsets = np.cumsum([0, *(len(ids) for ids, _ in parts)], dtype=np.int64)
        ids = np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in parts)])
        return ids, np.concatenate([np.empty(0, np.float32), *(weights for _, weights in parts)]), offsets

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of tokens and weights: equal for the query sides that make the same vectors."""
        return query_fingerprint(self.tokenizer.get_vocab(), self.weights)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        texts = [text if text.isascii() else unicodedata.normalize("NFC", text) for text in texts]
        try:
            encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        except TypeError:  # half a surrogate pair
            whole = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
            encodings = self.tokenizer.encode_batch_fast(whole, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]


def query_fingerprint(vocabulary: Mapping[str, int], weights: np.ndarray) -> str:
    """Hex sha256 of {token: id} and of weights, float32 [vocabulary], 0 for special tokens."""
    names = sorted(vocabulary.items(), key=lambda item: item[1])
    digest = hashlib.sha256(json.dumps(names).encode())
    digest.update(weights.astype("<f4").tobytes())
    return digest.hexdigest()


def _home(folder: Path) -> Path:
    """Where the tokenizer and the weights lie."""
    for home in (folder, *sorted(folder.glob("query_*_SparseStaticEmbedding"))):
        if (
            (home / TOKENIZER).is_file()
            and (home / WEIGHTS).is_file()
            and not (home / "modules.json").is_file()
        ):
            return home
    raise ValueError(
        f"{folder}: neither a trained inference-free model nor a query package: write one with "
        "`neural-sparse export MODEL --format query --output FOLDER`"
    )


def _read_weights(path: Path) -> np.ndarray:
    """The one tensor of a safetensors file, float32 [vocabulary]."""
    try:
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        about = header["weight"]
        begin, end = about["data_offsets"]
        values = np.frombuffer(content[start + begin : start + end], _DTYPES[about["dtype"]])
        (size,) = about["shape"]
        if len(values) != size or not np.isfinite(values).all() or (values < 0).any():
            raise ValueError("not a table of weights that are finite and 0 or more")
        return values.astype(np.float32)
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: no table of query weights ({type(error).__name__}: {error})") from error
