"""tokenizer.json as the server needs it."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer


def document_tokenizer(tokenizer: Any, max_length: int) -> Tokenizer:
    """A copy that cuts at `max_length`, special tokens included: a longer text would have no positions."""
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.enable_truncation(max_length)
    pad = tokenizer.pad_token_id
    if pad is None:
        copy.no_padding()
    else:
        copy.enable_padding(pad_id=pad, pad_token=tokenizer.pad_token)
    return copy


def query_tokenizer(tokenizer: Any) -> Tokenizer:
    """A copy that cuts nothing: looking weights up has no limit."""
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy
