"""A model's two sides as Elasticsearch's machine learning runs them: TorchScript, task `text_expansion`.

Its process gives a module four tensors int64 [1, length] (ids, mask, token types, positions), puts the outputs of a
text's windows one under another and takes row i for the weights of window i, so an output is [1, vocabulary], pooled.
Of what a masked LM alone gives, [1, length, vocabulary], position 0 would be read. Graphs with operators that it does
not know from its own models are refused: maxima, log1p and scatter are written in others here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neural_sparse.errors import InputError
from neural_sparse.io.files import check_output_folder, file_sums, replacing_folder, write_json, write_text
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.exported import EXPORT
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.model.own_words import OwnWords
from neural_sparse.opensearch.guards import served_name
from neural_sparse.opensearch.parity import AWKWARD_TEXTS, LIMIT, Check
from neural_sparse.opensearch.parity import require as require_parity
from neural_sparse.opensearch.traced import (
    ServedEncoder,
    example_features,
    graph_operators,
    served_encoder,
    trace,
)
from neural_sparse.text.tokens import tokenize, vocabulary

GRAPH, CONFIG, VOCABULARY = "traced_pytorch_model.pt", "config.json", "vocabulary.json"
SIDES = ("documents", "queries")
QUERY_TOKENS = 512
# What BERT, DistilBERT and the modules below are made of, each on the list of elastic/ml-cpp (CSupportedOperations).
OPERATORS = {
    "aten::Int", "aten::add", "aten::add_", "aten::arange", "aten::clamp", "aten::contiguous", "aten::div",
    "aten::dropout", "aten::embedding", "aten::expand", "aten::gather", "aten::ge", "aten::gelu", "aten::index",
    "aten::layer_norm", "aten::linear", "aten::log", "aten::lt", "aten::masked_fill", "aten::matmul",
    "aten::min", "aten::mul", "aten::ne", "aten::neg", "aten::permute", "aten::relu", "aten::reshape",
    "aten::rsub", "aten::scaled_dot_product_attention", "aten::select", "aten::size", "aten::slice",
    "aten::softmax", "aten::squeeze", "aten::sub", "aten::tanh", "aten::to", "aten::transpose",
    "aten::unsqueeze", "aten::view", "aten::where", "prim::NumToTensor",
}  # fmt: skip
_README = """\
# {name} for Elasticsearch's machine learning (9.x; a trial, Platinum or Enterprise licence)

    pip install 'eland[pytorch]'

    from eland.ml.pytorch import PyTorchModel

    for side in ("documents", "queries"):
        model = PyTorchModel("http://localhost:9200", f"{served}-{{side}}")
        model.import_model(
            model_path=f"{{side}}/{graph}", config_path=f"{{side}}/{config}", vocab_path=f"{{side}}/{vocabulary}"
        )
        model.start()

Documents are encoded by the one, in an ingest pipeline:

    PUT _ingest/pipeline/{served}
    {{"processors": [{{"inference": {{"model_id": "{served}-documents",
      "input_output": [{{"input_field": "text", "output_field": "vector"}}]}}}}]}}

into a field that keeps queries as they are:

    PUT my-index
    {{"mappings": {{"properties": {{"text": {{"type": "text"}},
      "vector": {{"type": "sparse_vector", "index_options": {{"prune": false}}}}}}}}}}

and queries looked up by the other, which costs no transformer:

    GET my-index/_search
    {{"query": {{"sparse_vector": {{"field": "vector", "inference_id": "{served}-queries", "query": "a query",
      "prune": false}}}}}}

Asking with the documents' model would expand queries, and rank otherwise. Elasticsearch writes "__" for the token "."
on both sides; vectors that were encoded elsewhere call it ".".
"""


class PooledDocuments(nn.Module):
    """Weights [1, vocabulary] of a document, ids and mask int64 [1, length]; what else is given is not looked at."""

    def __init__(self, encoder: ServedEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.words = CountedWords(encoder.own_words) if encoder.own_words is not None else None

    def forward(self, input_ids: Tensor, attention_mask: Tensor, types: Tensor, positions: Tensor) -> Tensor:
        logits = self.encoder.logits(input_ids, attention_mask)
        lowest = (-logits).masked_fill(attention_mask.unsqueeze(-1) < 1, 0.0).min(1)[0]  # minus the greatest
        weights = (1 + (-lowest).relu()).log()
        if self.encoder.activation == "double_log1p":
            weights = (1 + weights).log()
        if self.words is not None:
            weights = weights + self.words(input_ids, attention_mask)
        return weights * self.encoder.ordinary


class CountedWords(nn.Module):
    """As `OwnWords.of_padded`: sums are products of matrices, counting is comparing."""

    def __init__(self, words: OwnWords) -> None:
        super().__init__()
        self.words = words
        self.all: Tensor
        self.register_buffer("all", torch.arange(int(words.classes.max()) + 1))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        found = self.words.classes[ids]
        counted = (mask * (found >= 0)).to(torch.float32).unsqueeze(1)
        other = (found.unsqueeze(-1) != self.all).to(torch.float32)
        count = (counted @ (1 - other)).squeeze(1)
        length = (counted @ counted.transpose(1, 2)).squeeze(1)
        value = self.words.saturated(count, length)
        return value[:, self.words.classes.clamp(min=0)] * self.words.strength


class LookedUpQueries(nn.Module):
    """Weights [1, vocabulary] of a query: what the table says of each of its tokens, once.

    Args:
        weights: float32 [vocabulary], 0 for special tokens.
    """

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights: Tensor
        self.all: Tensor
        self.register_buffer("weights", torch.from_numpy(np.array(weights, np.float32)))
        self.register_buffer("all", torch.arange(len(weights)))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, types: Tensor, positions: Tensor) -> Tensor:
        other = (input_ids.unsqueeze(-1) != self.all).to(torch.float32)
        count = (attention_mask.to(torch.float32).unsqueeze(1) @ (1 - other)).squeeze(1)
        return count.clamp(max=1.0) * self.weights


def write_elasticsearch_model(model: NeuralSparseEncoder, output: str | Path) -> dict[str, Any]:
    """Write documents/ and queries/, each what eland's `PyTorchModel.import_model` takes, README.md and export.json.

    Returns:
        What export.json says; "parity" has the traced files compared with the model.

    Raises:
        InputError: `output` holds something; a siamese model; a tokenizer that is not BERT's; operators that
            Elasticsearch might refuse; vectors that differ from the model's by more than 1e-4.
    """
    output = check_output_folder(output)
    if model.query_encoder != "inference-free":
        raise InputError(
            f"{model.name} is siamese (query_encoder: {model.query_encoder}), and this export looks queries up: train "
            "it with query_encoder=inference-free"
        )
    settings = bert_settings(model.tokenizer)
    special = list(model.tokenizer.all_special_ids)
    sides = {
        "documents": (PooledDocuments(served_encoder(model, silent=special)), model.max_length),
        "queries": (LookedUpQueries(model.idf_table().vector), QUERY_TOKENS),
    }
    served = served_name(model.name)
    with replacing_folder(output) as folder:
        checks = []
        for side, (module, length) in sides.items():
            (folder / side).mkdir()
            traced = trace(module.eval(), *_example(model))
            check_operators(traced)
            torch.jit.save(traced, folder / side / GRAPH)
            bert = {**settings, "max_sequence_length": length}
            write_json(
                folder / side / CONFIG, _config(f"{side} of {model.name}", module, bert, model.vocab_size)
            )
            write_json(folder / side / VOCABULARY, {"vocabulary": vocabulary(model.tokenizer)})
            checks.append(_compare(model, side, folder / side / GRAPH))
        require_parity(checks)
        readme = _README.format(
            name=model.name, served=served, graph=GRAPH, config=CONFIG, vocabulary=VOCABULARY
        )
        write_text(folder / "README.md", readme)
        about = {
            "format": "elasticsearch-model",
            "model": model.name,
            "fingerprint": Fingerprint.of(model).as_json(),
            "parity": [check.to_dict() for check in checks],
            "files": file_sums(
                folder, sorted(f"{side}/{name}" for side in SIDES for name in (GRAPH, CONFIG))
            ),
        }
        write_json(folder / EXPORT, about)
    return about


def bert_settings(tokenizer: Any) -> dict[str, Any]:
    """What Elasticsearch has to know of BERT's tokenizer, the one kind that is exported.

    Raises:
        InputError: another tokenizer, or settings that Elasticsearch does not have.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {}
    words, clean = parts.get("model") or {}, parts.get("normalizer") or {}
    lowercase = clean.get("lowercase")
    wanted = (
        words.get("type") == "WordPiece"
        and words["continuing_subword_prefix"] == "##"
        and words["max_input_chars_per_word"] == 100
        and clean.get("type") == "BertNormalizer"
        and clean["clean_text"]
        and clean["handle_chinese_chars"]
        and clean["strip_accents"] in (None, lowercase)
        and (parts.get("pre_tokenizer") or {}).get("type") == "BertPreTokenizer"
        and {"[CLS]", "[SEP]", "[UNK]", "[PAD]"} <= set(vocabulary(tokenizer))
    )
    if not wanted:
        raise InputError(
            "Elasticsearch's machine learning tokenizes by itself, and this model's tokenizer is not BERT's with its "
            "usual settings: encode documents here (--format elasticsearch) and bring queries as query_vector"
        )
    return {"do_lower_case": bool(lowercase), "with_special_tokens": True, "truncate": "first", "span": -1}


def check_operators(traced: torch.jit.ScriptModule) -> None:
    """Raises InputError for operators that Elasticsearch might refuse."""
    used = {name.split(".")[0] for name in graph_operators(traced)}
    if others := sorted(used - OPERATORS):
        raise InputError(
            f"the traced model uses {', '.join(others)}, which Elasticsearch's machine learning may refuse: choose an "
            "architecture of plainer operators (BERT, DistilBERT), or encode documents here (--format elasticsearch)"
        )


def _example(model: NeuralSparseEncoder) -> tuple[Tensor, ...]:
    ids, mask = example_features(model).values()
    return ids, mask, torch.zeros_like(ids), torch.arange(ids.shape[1]).unsqueeze(0)


def _config(description: str, module: nn.Module, bert: dict[str, Any], vocab_size: int) -> dict[str, Any]:
    held = [*module.parameters(), *module.buffers()]
    logits = bert["max_sequence_length"] * vocab_size
    return {
        "description": description,
        "model_type": "pytorch",
        "inference_config": {"text_expansion": {"tokenization": {"bert": bert}}},
        "input": {"field_names": ["text_field"]},
        "metadata": {
            "per_deployment_memory_bytes": sum(one.nelement() * one.element_size() for one in held),
            "per_allocation_memory_bytes": 12 * logits,  # float32, then their sign changed, then masked
        },
    }


def _compare(model: NeuralSparseEncoder, side: str, file: Path) -> Check:
    """The file at work, one text after another, against the model."""
    module = torch.jit.load(file)
    words = " ".join(AWKWARD_TEXTS.values()).split()
    lengths = np.geomspace(1, 4 * model.max_length, 16).astype(int)
    texts = [*AWKWARD_TEXTS.values(), *(" ".join(words[:length]) for length in lengths)]
    if side == "documents":
        tokens = tokenize(texts, model.tokenizer, model.max_length, special_tokens=True)
        expected = model.encode_documents(texts)
    else:  # Elasticsearch cuts queries, and the model does not
        uncut = tokenize(texts, model.tokenizer, special_tokens=True).lengths <= QUERY_TOKENS
        texts = [text for text, whole in zip(texts, uncut, strict=True) if whole]
        tokens = tokenize(texts, model.tokenizer, special_tokens=True)
        expected = model.encode_queries(texts)
    worst = 0.0
    with torch.inference_mode():
        for row in range(len(texts)):
            ids = torch.from_numpy(
                tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]].astype(np.int64)
            )[None]
            given = ids, torch.ones_like(ids), torch.zeros_like(ids), torch.arange(ids.shape[1])[None]
            found = module(*given).numpy()
            worst = max(worst, float(np.abs(found - expected[[row]].toarray()).max()))
    return Check(
        f"Elasticsearch: {side}",
        len(texts),
        difference=worst,
        limit=LIMIT,
        note=f"up to {tokens.lengths.max()} tokens",
    )
