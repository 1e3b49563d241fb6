"""Document frequencies as a file: what may be counted in pieces, merged, and added to later."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neural_sparse.errors import InputError
from neural_sparse.files import replacing

_FORMAT = "document_frequencies"


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many documents each token occurs.

    Attributes:
        counts: int64 [vocabulary].
        documents: how many were counted.
        tokenizer: `tokens.fingerprint` of the tokenizer that counted.
        sources: sha256 of each corpus file in the counts; none for texts that came from no file.
    """

    counts: np.ndarray
    documents: int
    tokenizer: str
    sources: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, in one step."""
        from safetensors.numpy import save

        about = {
            "documents": self.documents,
            "tokenizer": self.tokenizer,
            "sources": self.sources,
        }
        # One entry: safetensors writes several in any order, and equal counts should be equal files.
        content = save({"counts": np.ascontiguousarray(self.counts, np.int64)}, {_FORMAT: json.dumps(about)})
        with replacing(path) as temporary:
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: str | Path) -> DocumentFrequencies:
        """
        Raises:
            InputError: no such file, or it holds no document frequencies.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                if _FORMAT not in metadata:
                    raise InputError(
                        f"{path}: holds no document frequencies; `neural-sparse idf --counts` writes them"
                    )
                about: dict[str, Any] = json.loads(metadata[_FORMAT])
                counts = file.get_tensor("counts")
        except SafetensorError as error:
            raise InputError(f"{path}: holds no document frequencies ({error})") from error
        return cls(counts, about["documents"], about["tokenizer"], tuple(about["sources"]))


def merge(pieces: Iterable[DocumentFrequencies]) -> DocumentFrequencies:
    """The frequencies of all documents of all pieces, which must not share any.

    Raises:
        InputError: nothing to merge, pieces of different tokenizers, a corpus file that is in two of them.
    """
    pieces = list(pieces)
    if not pieces:
        raise InputError("no document frequencies to merge")
    first = pieces[0]
    for piece in pieces[1:]:
        if piece.tokenizer != first.tokenizer or len(piece.counts) != len(first.counts):
            raise InputError(
                f"these counts belong to different tokenizers (of {len(first.counts):,} and "
                f"{len(piece.counts):,} tokens, fingerprints {first.tokenizer[:12]} and {piece.tokenizer[:12]}); "
                "count every part with the same model"
            )
    sources = [source for piece in pieces for source in piece.sources]
    if twice := {source for source in sources if sources.count(source) > 1}:
        raise InputError(
            f"a corpus file is already in these counts (sha256 {min(twice)[:12]}...); "
            "counting its documents twice would be wrong"
        )
    counts = first.counts.copy()
    for piece in pieces[1:]:
        counts += piece.counts
    return DocumentFrequencies(
        counts, sum(piece.documents for piece in pieces), first.tokenizer, tuple(sources)
    )
