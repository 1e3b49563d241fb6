"""What a model folder holds, and what its model makes of a few texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.sparse import csr_matrix
from torch import Tensor

from neural_sparse.doctor import model_rules as rules
from neural_sparse.doctor.finding import Finding, problem
from neural_sparse.doctor.sample_texts import SAMPLE_TEXTS
from neural_sparse.doctor.tokenizer_rules import tokenizer_findings
from neural_sparse.errors import InputError
from neural_sparse.model.encoder import NeuralSparseEncoder, load_modules
from neural_sparse.model.location import resolve_model
from neural_sparse.tokens import tokenize, vocabulary

TOKENS_TRIED = 4096  # of the vocabulary
TOKENS_PER_TEXT = 64


def model_findings(folder: str | Path) -> list[Finding]:
    """All rules; if the model cannot be loaded, why."""
    weights_found = rules.broken_weights(_broken_weights(Path(folder)))
    if weights_found.verdict == "problem":  # a model with NaN seems to be of an unknown architecture
        return [weights_found]
    try:
        saved = _saved_tables(folder)
        model = NeuralSparseEncoder(folder, device="cpu")
    except (InputError, RuntimeError) as error:  # torch's, where shapes disagree with config or tokenizer
        advice = "its parts have to be of one model: take the folder as `train` or save_pretrained wrote it"
        return [problem("loading", str(error), advice)]
    # Loading silences special tokens; other tools read the folder as it is.
    for loaded, tensor in zip((model.query_weights, model.projection.bias), saved, strict=True):
        if loaded is not None and tensor is not None:
            with torch.no_grad():
                loaded.copy_(tensor[: len(loaded)])
    names = vocabulary(model.tokenizer)
    special = list(model.tokenizer.all_special_ids)
    weights = model.query_weights.detach().float().numpy()
    sizes = {
        "tokenizer": len(names),
        "query tokenizer": len(vocabulary(model.query_table.tokenizer)),
        "output projection": model.vocab_size,
        "query table": len(weights),
    }
    findings = [weights_found, rules.vocabularies(sizes), *tokenizer_findings(model.tokenizer)]
    if findings[1].verdict == "problem":
        return findings
    ordinary = np.setdiff1d(np.arange(len(names)), special)
    loud = {names[token]: float(weights[token]) for token in special if weights[token] != 0}
    findings.append(rules.query_specials(loud))
    findings.append(rules.query_weights(weights[ordinary], own_table=_has_query_table(Path(folder))))
    vectors, samples = _samples(model)
    peaks = vectors.max(axis=0).toarray().ravel()
    heaviest = {names[token]: float(peaks[token]) for token in special if peaks[token] > 0}
    findings.append(rules.document_specials(heaviest))
    findings += rules.sample_terms(samples, len(names))
    tried = np.random.default_rng(0).permutation(ordinary)[:TOKENS_TRIED]
    used = _brought_up(model, tried)
    findings.append(rules.dead_dimensions(1 - float(used[tried].mean()), len(tried)))
    return findings


def _saved_tables(folder: str | Path) -> tuple[Tensor | None, Tensor | None]:
    """Query weights and decoder bias of an inference-free model as the folder holds them; None for another's."""
    query, transformer, *_ = load_modules(resolve_model(str(folder)), trust_remote_code=False, revision=None)
    if query is None:
        return None, None
    mlm: Any = transformer.model
    return query.weight, mlm.get_output_embeddings().bias


def _broken_weights(folder: Path) -> list[str]:
    """Names of tensors in the folder's safetensors files that hold NaN or infinity."""
    return [
        name
        for file in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]


def _has_query_table(folder: Path) -> bool:
    return (folder / "router_config.json").is_file() or any(folder.glob("*/router_config.json"))


def _samples(model: NeuralSparseEncoder) -> tuple[csr_matrix, dict[str, rules.LanguageSample]]:
    texts = [text for several in SAMPLE_TEXTS.values() for text in several]
    vectors = model.encode_documents(texts)
    tokens = tokenize(texts, model.tokenizer)
    unknown = tokens.ids == model.tokenizer.unk_token_id
    terms = np.diff(vectors.indptr)
    samples, row = {}, 0
    for language, several in SAMPLE_TEXTS.items():
        rows = slice(row, row + len(several))
        inside = unknown[tokens.offsets[rows.start] : tokens.offsets[rows.stop]]
        share = float(inside.mean()) if len(inside) else 1.0
        samples[language] = rules.LanguageSample(terms[rows].tolist(), share)
        row = rows.stop
    return vectors, samples


def _brought_up(model: NeuralSparseEncoder, tokens: np.ndarray) -> np.ndarray:
    """bool [vocabulary]: dimensions above 0 in any of the texts that these tokens are strung together to."""
    room = min(TOKENS_PER_TEXT, model.max_length - 2)
    frame = tokenize(["a"], model.tokenizer, special_tokens=True).ids
    bare = tokenize(["a"], model.tokenizer).ids
    start = next(at for at in range(len(frame)) if (frame[at : at + len(bare)] == bare).all())
    used = torch.zeros(model.vocab_size, dtype=torch.bool)
    with torch.inference_mode():
        for at in range(0, len(tokens), room):
            text = np.concatenate((frame[:start], tokens[at : at + room], frame[start + len(bare) :]))
            ids = torch.from_numpy(text)[None]
            used |= model(ids, torch.ones_like(ids))[0] > 0
    return used.numpy()
