"""What is known of a backbone before training: its head, vocabulary and languages, and which keys help."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from neural_sparse.doctor.model import SAMPLE_TEXTS, UNKNOWN
from neural_sparse.errors import InputError
from neural_sparse.finding import Finding, ok, problem, warning
from neural_sparse.model.calibration import LARGE, LogitRange, logit_range
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.folding import variants
from neural_sparse.model.location import lacks_head, model_folder
from neural_sparse.model.tokenizer import load_tokenizer
from neural_sparse.text.tokens import tokenize, vocabulary
from neural_sparse.training.tokenizer_rules import tokenizer_findings

MANY_VARIANTS = 0.02  # share of the vocabulary; of BERT's uncased one .0004 are
MANY_TOKENS = 3.0  # per word; BERT has 1.2 for English
MANY_TOKENS_PER_CHARACTER = 1.5  # of languages without spaces
WITHOUT_SPACES = ("Japanese", "Chinese")
FEW_POSITIONS = 256  # tokens of a document, the training guide's


def head_norm(found: LogitRange) -> Finding:
    """Whether the logits are of a size that training can move."""
    said = (
        f"rows of the projection {found.row_norm:.2f} long, what enters it {found.hidden_norm:.1f}; a token's logits "
        f"spread by {found.spread:.2g}"
    )
    if found.spread > LARGE:
        return warning(
            "head",
            said,
            f"large: documents become all-active and stay so (arXiv 2606.18811); logit_scale={found.scale:g}",
        )
    return ok("head", said)


def active_share(found: LogitRange, texts: int) -> Finding:
    said = f"{found.active:.1%} of the dimensions in each of {texts} sample texts, {found.weight:.2g} each"
    if found.active > found.dense:
        scale = f"logit_scale={found.scale:g} " if found.scale != 1 else ""
        return warning(
            "active dimensions",
            said,
            f"dense at the start: lambda_flops thins it slowly; {scale}logit_shift={found.shift:g} at once",
        )
    if not any(found.terms):
        return warning("active dimensions", said, "no text has a term: logit_shift above 0 lets some through")
    return ok("active dimensions", said)


def case_and_space(groups: Mapping[str, list[str]], size: int) -> Finding:
    """
    Args:
        groups: {form: tokens that differ in case or space alone}.
        size: of the vocabulary.
    """
    spare = sum(len(tokens) - 1 for tokens in groups.values())
    if not spare:
        return ok("case and space", "no two tokens differ in these alone")
    tokens = next(iter(groups.values()))
    said = (
        f"{spare:,} of {size:,} tokens ({spare / size:.1%}) differ from another in these alone, as "
        + ", ".join(repr(token) for token in tokens[:3])
    )
    if spare > MANY_VARIANTS * size:
        return warning(
            "case and space",
            said,
            "a query looks up one, and documents may hold another: fold_variants=true, or an uncased model",
        )
    return ok("case and space", said)


def tokens_per_word(tokenizer: Any) -> Finding:
    """Of the sample texts in each language; per character where words have no spaces between them."""
    shown, many = [], []
    for language, texts in SAMPLE_TEXTS.items():
        tokens = tokenize(list(texts), tokenizer)
        if not len(tokens.ids) or (tokens.ids == tokenizer.unk_token_id).mean() > UNKNOWN:
            shown.append(f"{language} unknown")
            continue
        apart = language in WITHOUT_SPACES
        units = sum(len(text) if apart else len(text.split()) for text in texts)
        rate = len(tokens.ids) / units
        shown.append(f"{language} {rate:.1f}" + (" per character" if apart else ""))
        if rate > (MANY_TOKENS_PER_CHARACTER if apart else MANY_TOKENS):
            many.append(language)
    said = ", ".join(shown)
    if many:
        return warning(
            "tokens per word",
            said,
            f"{', '.join(many)}: words are matched by their pieces, for more cost and less relevance; a model "
            "whose vocabulary knows them",
        )
    return ok("tokens per word", said)


def positions(config: Any, tokenizer: Any) -> Finding:
    limit = getattr(config, "max_position_embeddings", None)
    own = tokenizer.model_max_length
    said = f"{limit or 'no limit'}" + (f"; its tokenizer says {own:,}" if own < 1 << 30 else "")
    if limit is not None and limit < FEW_POSITIONS:
        return warning("positions", said, f"longer documents are cut: max_length up to {limit}")
    return ok("positions", said)


def stored_dtype(folder: Path) -> Finding:
    """Of the weights as they are on disk; they are read as float32."""
    kinds: dict[str, int] = {}
    for file in sorted(folder.rglob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - safetensors' own iterator has only keys()
                kind = str(tensors.get_slice(name).get_dtype())
                kinds[kind] = kinds.get(kind, 0) + 1
    if not kinds:
        return problem(
            "dtype", "no safetensors file", "pickled weights are not read: save the model as safetensors"
        )
    said = ", ".join(f"{count} tensors {kind}" for kind, count in sorted(kinds.items()))
    return ok("dtype", said, "" if set(kinds) == {"F32"} else "read, trained and saved as float32")


def backbone_findings(name: str) -> list[Finding]:
    """All rules on a model to start from; if it cannot be loaded, why.

    Raises:
        InputError: no such model.
    """
    folder = model_folder(name)
    tokenizer = load_tokenizer(str(folder))
    headless = lacks_head(str(folder))
    try:
        model = NeuralSparseEncoder(folder, device="cpu", new_head=headless)
    except (InputError, RuntimeError) as error:
        return [
            problem("loading", str(error), "another backbone: a masked LM with a linear output projection")
        ]
    findings = []
    if headless:
        findings.append(
            warning(
                "head",
                "none: an encoder alone, such as a sentence-embedding model",
                "new_head=true makes one and fits it to the training documents",
            )
        )
    else:
        texts = [text for language in _read(tokenizer) for text in SAMPLE_TEXTS[language]]
        found = logit_range(model, texts or [text for several in SAMPLE_TEXTS.values() for text in several])
        findings += [head_norm(found), active_share(found, len(found.terms))]
    if model.projection.bias is None:
        findings.append(
            problem(
                "bias of the head",
                "none",
                "special tokens cannot be silenced, nor logits shifted; another backbone",
            )
        )
    size = len(vocabulary(tokenizer))
    findings += [
        case_and_space(variants(tokenizer), size),
        tokens_per_word(tokenizer),
        *tokenizer_findings(tokenizer),
        positions(model.mlm.config, tokenizer),
        stored_dtype(folder),
    ]
    return findings


def _read(tokenizer: Any) -> list[str]:
    """Languages of the sample texts that the tokenizer knows."""
    found = []
    for language, texts in SAMPLE_TEXTS.items():
        tokens = tokenize(list(texts), tokenizer)
        if len(tokens.ids) and (tokens.ids == tokenizer.unk_token_id).mean() <= UNKNOWN:
            found.append(language)
    return found
