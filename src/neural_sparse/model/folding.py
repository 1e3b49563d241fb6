"""One token for all forms of a word that differ in case, or in whether a space stands before it.

A cased vocabulary has "The" and "the", a byte-level one "the" and " the": a query looks up one of them, and a document
may hold the other. Folded, texts are read in lower case with a space before the first word, and tokens that no text can
bring up any more weigh nothing. All of it is in the tokenizer's file and the weights: the model stays a plain one.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer, normalizers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from neural_sparse.errors import InputError
from neural_sparse.text.tokens import vocabulary

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder

SPACE_MARKS = "\u0120\u2581 "  # byte-level's, SentencePiece's


def folded_tokenizer(tokenizer: Any) -> Any:
    """A tokenizer of the same vocabulary that lower-cases, and puts a space before the first word.

    Raises:
        InputError: it has no tokenizer.json, where that could be said.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            f"fold_variants needs a tokenizer with a tokenizer.json; {type(tokenizer).__name__} has none"
        )
    plan = json.loads(backend.to_str())
    _with_prefix_space(plan["pre_tokenizer"])
    changed = Tokenizer.from_str(json.dumps(plan))
    steps = [normalizers.NFC(), normalizers.Lowercase()]
    changed.normalizer = normalizers.Sequence(steps + ([changed.normalizer] if changed.normalizer else []))
    names = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
    marks = {
        f"{name}_token": mark
        for name in names
        if (mark := getattr(tokenizer, f"{name}_token", None)) is not None
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=changed,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        model_input_names=list(tokenizer.model_input_names),
        **marks,
    )


def _with_prefix_space(plan: Any) -> None:
    if isinstance(plan, list):
        for part in plan:
            _with_prefix_space(part)
    elif isinstance(plan, dict):
        if plan.get("type") == "ByteLevel":
            plan["add_prefix_space"] = True
        if plan.get("type") == "Metaspace" and plan.get("prepend_scheme") == "never":
            plan["prepend_scheme"] = "first"
        _with_prefix_space(plan.get("pretokenizers"))


def readable_tokens(tokenizer: Any) -> list[str]:
    """Tokens by id as text: of byte-level vocabularies what their bytes say, with a space where the mark of one is.

    A token that is a part of a character stays as the vocabulary has it.
    """
    names = vocabulary(tokenizer)
    plan = getattr(tokenizer, "backend_tokenizer", None)
    if plan is None or "ByteLevel" not in json.dumps(json.loads(plan.to_str())["pre_tokenizer"]):
        return names
    byte_of = {mark: byte for byte, mark in _byte_marks().items()}
    special = set(tokenizer.all_special_ids)
    found = []
    for index, name in enumerate(names):
        try:
            text = bytes(byte_of[mark] for mark in name).decode()
        except (KeyError, UnicodeDecodeError):
            text = name
        found.append(name if index in special else text)
    return found


def _byte_marks() -> dict[int, str]:
    """The character that stands for each byte in byte-level vocabularies (GPT-2's)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    marks = {byte: chr(byte) for byte in plain}
    others = (byte for byte in range(256) if byte not in marks)
    marks |= {byte: chr(256 + place) for place, byte in enumerate(others)}
    assert set(marks.values()) == set(ByteLevel.alphabet())
    return marks


def capitals(tokenizer: Any) -> np.ndarray:
    """int64: ids of ordinary tokens that are not in lower case, which a lower-casing tokenizer never gives."""
    special = set(tokenizer.all_special_ids)
    texts = readable_tokens(tokenizer)
    return np.array(
        [index for index, text in enumerate(texts) if index not in special and text != text.lower()], np.int64
    )


def variants(tokenizer: Any) -> dict[str, list[str]]:
    """{form: tokens} of ordinary tokens that differ in case or in the mark of a space alone."""
    special = set(tokenizer.all_special_ids)
    groups: dict[str, list[str]] = {}
    for index, text in enumerate(readable_tokens(tokenizer)):
        if index not in special and (form := text.lower().lstrip(SPACE_MARKS)):
            groups.setdefault(form, []).append(text)
    return {form: tokens for form, tokens in groups.items() if len(tokens) > 1}


def fold_variants(model: NeuralSparseEncoder, silent: float) -> int:
    """Give `model` the folded tokenizer on both sides, and make tokens that it never gives weigh nothing.

    Args:
        silent: bias that no logit lifts above zero.

    Returns:
        How many tokens are silent now.

    Raises:
        InputError: as `folded_tokenizer`; an output projection without a bias.
    """
    if model.projection.bias is None:
        raise InputError(
            f"{model.name}: fold_variants needs an output projection with a bias, which this one has not"
        )
    gone = torch.from_numpy(capitals(model.tokenizer))
    folded = folded_tokenizer(model.tokenizer)
    queries: Any = copy.deepcopy(folded)
    before: Any = model.query_table.tokenizer
    queries.model_max_length = before.model_max_length
    model.transformer.processor = folded
    model.transformer.input_formatter.processor = folded
    model.query_table.tokenizer = queries
    with torch.no_grad():
        model.projection.bias[gone.to(model.device)] = silent
        model.query_weights[gone.to(model.device)] = 0.0
    return len(gone)
