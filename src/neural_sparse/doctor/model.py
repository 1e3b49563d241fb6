"""What a model folder holds, what its model makes of a few texts in several languages, and the rules that judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.sparse import csr_matrix
from torch import Tensor

from neural_sparse.errors import InputError
from neural_sparse.finding import Finding, ok, problem, warning
from neural_sparse.idf.inspection import HEAVIEST_ALLOWED
from neural_sparse.model.encoder import NeuralSparseEncoder, load_modules
from neural_sparse.model.location import resolve_model
from neural_sparse.text.tokens import tokenize, vocabulary
from neural_sparse.training.run_rules import DENSE, FEW_TERMS, MANY_TERMS
from neural_sparse.training.tokenizer_rules import tokenizer_findings

SAMPLE_TEXTS: dict[str, tuple[str, ...]] = {
    "English": (
        "The bridge across the river was closed for repairs after engineers found cracks in two of its steel beams.",
        "Regular exercise lowers blood pressure, strengthens the heart and helps people to sleep better at night.",
    ),
    "German": (
        "Die Brücke über den Fluss wurde gesperrt, nachdem Ingenieure Risse in zwei Stahlträgern gefunden hatten.",
        "Regelmäßige Bewegung senkt den Blutdruck, stärkt das Herz und lässt Menschen nachts besser schlafen.",
    ),
    "French": (
        "Le pont sur le fleuve a été fermé après la découverte de fissures dans deux de ses poutres en acier.",
        "L'exercice régulier fait baisser la tension, renforce le cœur et aide à mieux dormir la nuit.",
    ),
    "Spanish": (
        "El puente sobre el río se cerró después de que los ingenieros hallaran grietas en dos vigas de acero.",
        "El ejercicio regular baja la presión arterial, fortalece el corazón y ayuda a dormir mejor por la noche.",
    ),
    "Russian": (
        "Мост через реку закрыли на ремонт после того, как инженеры нашли трещины в двух стальных балках.",
        "Регулярные упражнения снижают давление, укрепляют сердце и помогают людям лучше спать по ночам.",
    ),
    "Korean": (
        "기술자들이 강철 들보 두 개에서 균열을 발견한 뒤 강을 건너는 다리가 보수를 위해 폐쇄되었다.",
        "규칙적인 운동은 혈압을 낮추고 심장을 튼튼하게 하며 밤에 더 잘 자도록 도와준다.",
    ),
    "Japanese": (
        "技術者が二本の鋼鉄の梁に亀裂を見つけたため、川に架かる橋は補修のために閉鎖された。",
        "定期的な運動は血圧を下げ、心臓を強くし、夜によく眠れるようにする。",
    ),
    "Chinese": (
        "工程师在两根钢梁上发现裂缝后，这座跨河大桥被关闭进行维修。",
        "经常锻炼可以降低血压，增强心脏功能，并帮助人们晚上睡得更好。",
    ),
}


UNKNOWN = 0.3  # share of unknown tokens from which a language is not read
# Share of ordinary tokens that no text brings up, though the texts hold them all. Measured: 0.28 to 0.31 for a
# published start, 0.42 to 0.47 after training at FLOPS 0.7 to 1.
DEAD = 0.9


@dataclass(frozen=True)
class LanguageSample:
    """A language's sample texts.

    Attributes:
        terms: non-zero terms per text.
        unknown: share of unknown tokens.
    """

    terms: Sequence[int]
    unknown: float


def vocabularies(sizes: Mapping[str, int]) -> Finding:
    listed = ", ".join(f"{part} {size:,}" for part, size in sizes.items())
    if len(set(sizes.values())) > 1:
        return problem(
            "vocabulary", listed, "the parts belong to different models: save them together, from one run"
        )
    return ok("vocabulary", listed)


def broken_weights(names: Sequence[str]) -> Finding:
    """Parameters that hold NaN or infinity."""
    if names:
        return problem(
            "weights",
            f"NaN or infinite in {len(names)} tensors ({', '.join(names[:3])})",
            "take the checkpoint before; then a smaller learning_rate, bf16=false or max_grad_norm=1",
        )
    return ok("weights", "all finite")


def document_specials(heaviest: Mapping[str, float]) -> Finding:
    """{special token: its heaviest weight in a document}, those above 0 only."""
    if not heaviest:
        return ok("special tokens, documents", "silent")
    shown = ", ".join(f"{token} {weight:.2f}" for token, weight in heaviest.items())
    return warning(
        "special tokens, documents",
        f"weigh up to {shown}",
        "not where this package loads the folder, but in plain sentence-transformers they take room in the index and "
        "cost FLOPS: NeuralSparseEncoder(FOLDER).save_pretrained(FOLDER)",
    )


def query_specials(weights: Mapping[str, float]) -> Finding:
    """{special token: query weight}, those other than 0 only."""
    if not weights:
        return ok("special tokens, queries", "silent")
    shown = ", ".join(f"{token} {weight:g}" for token, weight in weights.items())
    return problem(
        "special tokens, queries",
        f"weigh {shown}",
        "not where this package loads the folder, but in plain sentence-transformers a query with an unknown character "
        "would match them: NeuralSparseEncoder(FOLDER).save_pretrained(FOLDER)",
    )


def query_weights(values: np.ndarray, own_table: bool) -> Finding:
    """
    Args:
        values: of ordinary tokens.
        own_table: whether the model brings a query table.
    """
    if not own_table:
        return ok("query weights", "none: a model to start from", "training gives it IDF (`idf=`)")
    if not np.isfinite(values).all():
        return problem("query weights", "NaN or infinite", "give the table again: idf='idf.json'")
    low, high = float(values.min()), float(values.max())
    found = f"{low:.2f} ~ {high:.2f}, mean {values.mean():.2f}"
    if low == high:
        return problem(
            "query weights", found, "all equal: the model was saved without IDF; idf='idf.json' gives it one"
        )
    if low < 0 or high > HEAVIEST_ALLOWED:
        return problem(
            "query weights",
            found,
            f"engines take weights from 0 to {HEAVIEST_ALLOWED:.0f}: idf='idf.json', or `export --clip-query-weights`",
        )
    if zeros := int((values == 0).sum()):
        share = zeros / len(values)
        return ok(
            "query weights",
            f"{found}; {zeros:,} tokens ({share:.1%}) weigh 0 and never match",
            "export clips them",
        )
    return ok("query weights", found)


def sample_terms(languages: Mapping[str, LanguageSample], vocabulary: int) -> list[Finding]:
    """How sparse the sample texts come out, in the languages that the tokenizer reads."""
    read = {name: sample for name, sample in languages.items() if sample.unknown <= UNKNOWN}
    strange = [name for name in languages if name not in read]
    if not read:
        return [
            problem(
                "sample texts",
                "most tokens are unknown in every language tried",
                "is this the model's own tokenizer? It has to be saved beside the weights",
            )
        ]
    findings = [
        ok(
            "languages",
            f"tokens are known in {', '.join(read)}" + (f"; not in {', '.join(strange)}" if strange else ""),
        )
    ]
    counts = {name: float(np.mean(sample.terms)) for name, sample in read.items()}
    typical = float(np.median(list(counts.values())))
    found = ", ".join(f"{name} {count:,.0f}" for name, count in counts.items()) + " terms per text"
    empty = [name for name, sample in read.items() if not any(sample.terms)]
    if len(empty) == len(read):
        advice = (
            "collapsed: train again with a smaller lambda_flops or learning_rate, or longer flops_ramp_steps"
        )
        findings.append(problem("sparsity", found, advice))
    elif typical > DENSE * vocabulary:
        advice = (
            f"dense, with {vocabulary:,} dimensions: not trained yet, or diverged. lambda_flops=0.02 makes it sparse; "
            "a smaller learning_rate keeps it from diverging"
        )
        findings.append(problem("sparsity", found, advice))
    elif typical > MANY_TERMS:
        advice = "lambda_flops too small: 0.05 instead of 0.02, or more num_steps (70,000 instead of 50,000)"
        findings.append(warning("sparsity", found, advice))
    elif typical < FEW_TERMS:
        advice = "lambda_flops too large: 0.01 instead of 0.02; or pre-train longer"
        findings.append(warning("sparsity", found, advice))
    elif empty:
        findings.append(ok("sparsity", found, f"nothing finds a text in {', '.join(empty)}"))
    else:
        findings.append(ok("sparsity", found))
    return findings


def dead_dimensions(share: float, looked_at: int) -> Finding:
    """
    Args:
        share: of the tokens looked at, those that no text brought up although it held them.
        looked_at: how many tokens.
    """
    found = f"{share:.0%} of {looked_at:,} tokens come up in no text, not even one that holds them"
    if share > DEAD:
        return warning(
            "dead dimensions",
            found,
            "queries with them find nothing: a smaller lambda_flops or learning_rate, or training data that hold more "
            "of the vocabulary",
        )
    return ok("dead dimensions", found)


TOKENS_TRIED = 4096  # of the vocabulary
TOKENS_PER_TEXT = 64


def model_findings(folder: str | Path) -> list[Finding]:
    """All rules; if the model cannot be loaded, why."""
    weights_found = broken_weights(_broken_weights(Path(folder)))
    if weights_found.verdict == "problem":  # a model with NaN seems to be of an unknown architecture
        return [weights_found]
    try:
        saved = _saved_tables(folder)
        model = NeuralSparseEncoder(folder, device="cpu")
    except (InputError, RuntimeError) as error:  # torch's, where shapes disagree with config or tokenizer
        advice = "its parts have to be of one model: take the folder as `train` or save_pretrained wrote it"
        return [problem("loading", str(error), advice)]
    # Loading silences special tokens; other tools read the folder as it is.
    table = model.query_table if model.query_encoder == "inference-free" else None
    loaded_tables = (None if table is None else table.weight, model.projection.bias)
    for loaded, tensor in zip(loaded_tables, saved, strict=True):
        if loaded is not None and tensor is not None:
            with torch.no_grad():
                loaded.copy_(tensor[: len(loaded)])
    names = vocabulary(model.tokenizer)
    special = list(model.tokenizer.all_special_ids)
    sizes = {"tokenizer": len(names), "output projection": model.vocab_size}
    if table is not None:
        sizes["query tokenizer"] = len(vocabulary(table.tokenizer))
        sizes["query table"] = len(table.weight)
    findings = [weights_found, vocabularies(sizes), *tokenizer_findings(model.tokenizer)]
    if findings[1].verdict == "problem":
        return findings
    ordinary = np.setdiff1d(np.arange(len(names)), special)
    if table is not None:
        weights = table.weight.detach().float().numpy()
        loud = {names[token]: float(weights[token]) for token in special if weights[token] != 0}
        findings.append(query_specials(loud))
        findings.append(query_weights(weights[ordinary], own_table=_has_query_table(Path(folder))))
    vectors, samples = _samples(model)
    peaks = vectors.max(axis=0).toarray().ravel()
    heaviest = {names[token]: float(peaks[token]) for token in special if peaks[token] > 0}
    findings.append(document_specials(heaviest))
    findings += sample_terms(samples, len(names))
    tried = np.random.default_rng(0).permutation(ordinary)[:TOKENS_TRIED]
    used = _active_dimensions(model, tried)
    findings.append(dead_dimensions(1 - float(used[tried].mean()), len(tried)))
    return findings


def _saved_tables(folder: str | Path) -> tuple[Tensor | None, Tensor | None]:
    """Query weights and decoder bias of an inference-free model as the folder holds them; None for another's."""
    query, transformer, *_ = load_modules(resolve_model(str(folder)), trust_remote_code=False, revision=None)
    if not query:
        return None, None
    mlm: Any = transformer.model
    return getattr(query[0], "weight", None), mlm.get_output_embeddings().bias


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


def _samples(model: NeuralSparseEncoder) -> tuple[csr_matrix, dict[str, LanguageSample]]:
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
        samples[language] = LanguageSample(terms[rows].tolist(), share)
        row = rows.stop
    return vectors, samples


def _active_dimensions(model: NeuralSparseEncoder, tokens: np.ndarray) -> np.ndarray:
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
