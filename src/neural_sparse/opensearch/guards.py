"""What has to hold before a model can be served by OpenSearch, and the reasons when it does not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neural_sparse.errors import InputError
from neural_sparse.text.tokens import vocabulary

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder

MAX_QUERY_WEIGHT = 64.0  # Lucene's FeatureField takes query weights in (0, 64]
MAX_ID_BYTES = 512  # of a document's _id, in OpenSearch and Elasticsearch
MIN_QUERY_WEIGHT = 1e-6  # the least weight of the published tables


class NamesCollideError(InputError):
    """Tokens cannot be told apart by what engines call them; engines that know tokens by their ids can."""


def server_names(tokenizer: Any) -> list[str]:
    """What OpenSearch calls each id, [vocabulary]: the id decoded on its own.

    "" for special tokens, and for the empty string where the vocabulary has it (no text holds that token): the
    server leaves both out, so they have to weigh 0 on both sides.

    Raises:
        InputError: a tokenizer without a tokenizer.json; special tokens that only one side knows.
        NamesCollideError: two tokens of one name, or a token without one.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(f"{type(tokenizer).__name__} has no tokenizer.json, which OpenSearch needs")
    tokens = vocabulary(tokenizer)
    names = [backend.decode([token], skip_special_tokens=True) for token in range(len(tokens))]
    special = set(tokenizer.all_special_ids)
    marked = {index for index, token in backend.get_added_tokens_decoder().items() if token.special}
    if differing := sorted(special ^ marked):
        shown = ", ".join(repr(tokens[index]) for index in differing[:5])
        raise InputError(
            f"{shown}: special in only one of tokenizer.json and tokenizer_config.json, so the server would "
            "weigh them and the model not; mark them alike in both"
        )
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if index in special or not tokens[index]:
            names[index] = ""
            continue
        if not name or name in seen:
            first = f"{tokens[seen[name]]!r} and {tokens[index]!r} are both {name!r}" if name else ""
            raise NamesCollideError(
                "OpenSearch names tokens by decoding their ids one by one, and this tokenizer's names are not "
                f"one-to-one: {first or f'{tokens[index]!r} has none'}. SentencePiece and byte-level tokenizers "
                "lose word boundaries or parts of characters this way, so different tokens would share one "
                "posting list. Use a model with a WordPiece tokenizer (BERT's, multilingual BERT's), or an engine that "
                "knows tokens by their ids (docs/engines.md)."
            )
        seen[name] = index
    return names


def silent_ids(tokenizer: Any) -> list[int]:
    """Ids without a name on the server. Raises InputError as `server_names`."""
    return [index for index, name in enumerate(server_names(tokenizer)) if not name]


def check_ids(doc_ids: Iterable[str], longest: int | None = MAX_ID_BYTES) -> None:
    """Raises InputError for ids that the engine does not take: it would refuse the whole request.

    Args:
        longest: bytes of an id; None for engines without a limit, which are not asked.
    """
    if longest is None:
        return
    too_long: list[tuple[str, int]] = []
    for place, one in enumerate(doc_ids):
        if not one:
            raise InputError(f"document {place:,} has no id: an empty one is not taken")
        try:
            size = len(one.encode())
        except UnicodeEncodeError:
            raise InputError(
                f"the id {one!r} of document {place:,} is no text: it holds half a surrogate pair, which UTF-8 cannot "
                "carry; give it another id"
            ) from None
        if size > longest:
            too_long.append((one, size))
    if too_long:
        first, size = too_long[0]
        raise InputError(
            f"{len(too_long):,} document ids are longer than the {longest} bytes that OpenSearch and Elasticsearch "
            f"take (first: {first:.60}... of {size:,} bytes): give them shorter ids, such as a hash, and keep the long "
            "one elsewhere"
        )


def check_vocabulary(model: NeuralSparseEncoder) -> None:
    """Raises InputError where the tokenizer, the output projection and the query table differ in size."""
    sizes = {"tokenizer": len(vocabulary(model.tokenizer)), "output projection": model.vocab_size}
    if model.query_encoder == "inference-free":
        sizes["query tokenizer"] = len(vocabulary(model.query_table.tokenizer))
        sizes["query table"] = len(model.query_weights)
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{what} {size:,}" for what, size in sizes.items())
        raise InputError(f"the parts of the model have vocabularies of different sizes: {listed}")


def check_query_side(model: NeuralSparseEncoder) -> None:
    """Raises InputError for a model whose queries have no weights of their own (siamese, or a bare masked LM)."""
    weights = model.query_weights.detach().float().cpu().numpy()
    ordinary = np.delete(weights, model.tokenizer.all_special_ids)
    if (ordinary == 1).all():
        raise InputError(
            f"{model.name} has no query side: every token weighs 1 (a siamese model, or one that was not trained "
            "for looked-up queries). Missing is the table of query weights: make one with `neural-sparse idf` "
            "and give it with --idf, or train a doc-only model with `neural-sparse train`. If 1 for every token "
            "is meant, say --uniform-query-weights"
        )


def query_weight_problems(weights: Mapping[str, float]) -> list[str]:
    """Sentences about weights outside (0, 64]; none if all is well."""
    light = [token for token, weight in weights.items() if not weight > 0]
    heavy = [token for token, weight in weights.items() if weight > MAX_QUERY_WEIGHT]
    problems = []
    if light:
        problems.append(f"{len(light):,} query weights are not above 0 ({_some(light, weights)})")
    if heavy:
        problems.append(
            f"{len(heavy):,} query weights are above {MAX_QUERY_WEIGHT:g} ({_some(heavy, weights)})"
        )
    return problems


def servable_query_weights(weights: Mapping[str, float], clip: bool = False) -> dict[str, float]:
    """`weights`, checked; with `clip` those outside (0, 64] are moved to 1e-6 or 64.

    Raises:
        InputError: weights outside (0, 64], which fail a whole query, unless `clip`; a weight that is no number.
    """
    if broken := [token for token, weight in weights.items() if not np.isfinite(weight)]:
        raise InputError(f"{len(broken):,} query weights are not numbers ({_some(broken, weights)})")
    problems = query_weight_problems(weights)
    if problems and not clip:
        raise InputError(
            f"{'; '.join(problems)}: Lucene refuses a query that holds one of them. Correct the table, or "
            f"have them moved to {MIN_QUERY_WEIGHT:g} and {MAX_QUERY_WEIGHT:g} with --clip-query-weights"
        )
    return {
        token: min(max(weight, MIN_QUERY_WEIGHT), MAX_QUERY_WEIGHT) if problems else weight
        for token, weight in weights.items()
    }


def _some(tokens: Sequence[str], weights: Mapping[str, float]) -> str:
    shown = ", ".join(f"{token!r}: {weights[token]:g}" for token in tokens[:3])
    return shown + (", ..." if len(tokens) > 3 else "")


def served_name(name: str) -> str:
    """A name for server, index and files: the last two parts of a path, in small letters, digits and "-".

    Raises:
        InputError: nothing of it is left.
    """
    parts = [part for part in Path(name).parts if part not in ("/", ".", "..")][-2:]
    served = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")
    if not served:
        raise InputError(f"cannot make a name for the server out of {name!r}; give one with --name")
    return served
