"""Document frequencies that are counted once: kept under a digest of the texts and the tokenizer."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.idf.counting import document_frequencies
from neural_sparse.idf.frequencies import DocumentFrequencies
from neural_sparse.keys import add_texts
from neural_sparse.tokens import fingerprint

logger = logging.getLogger(__name__)


def kept_frequencies(documents: Sequence[str], tokenizer: Any, folder: Path) -> DocumentFrequencies:
    """As `document_frequencies`, or what an earlier call with the same texts and tokenizer has counted.

    Args:
        folder: where the counts are kept, one file for each corpus and tokenizer.

    Raises:
        InputError: an entry that is no string; the folder cannot be written.
    """
    file = folder / f"{_digest(documents, tokenizer)}.safetensors"
    if file.is_file():
        try:
            known = DocumentFrequencies.load(file)
            if known.documents == len(documents) and known.tokenizer == fingerprint(tokenizer):
                logger.info("IDF: %d documents were counted before, in %s", known.documents, file)
                return known
        except (InputError, KeyError, ValueError) as error:
            logger.warning("IDF: %s is damaged (%s); counting anew", file, error)
    started = time.perf_counter()
    counted = document_frequencies(documents, tokenizer)
    logger.info(
        "IDF: counted %d documents in %.0f s, kept in %s",
        counted.documents,
        time.perf_counter() - started,
        file,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    counted.save(file)
    return counted


def _digest(documents: Sequence[str], tokenizer: Any) -> str:
    """Hex digest of texts and tokenizer. Hashing a text costs a small part of counting it: see docs/idf.md."""
    digest = hashlib.sha256(fingerprint(tokenizer).encode())
    try:
        add_texts(digest, documents)
    except AttributeError as error:
        position, text = next(
            (place, text) for place, text in enumerate(documents) if not isinstance(text, str)
        )
        raise InputError(f"text {position} is {type(text).__name__}, not a string: {text!r:.80}") from error
    return digest.hexdigest()[:32]
