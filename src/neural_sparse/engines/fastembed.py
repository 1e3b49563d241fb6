"""A model in the form that fastembed (0.9 or later) loads offline as an inference-free one.

fastembed's `IfSplade` pools logits itself, takes log1p(log1p(relu)) of them, and looks queries up in idf.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, normalizers
from torch import Tensor, nn

from neural_sparse.errors import InputError
from neural_sparse.io.files import check_output_folder, file_sums, replacing_folder, write_json, write_text
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.exported import EXPORT
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.opensearch.onnx_file import require, write_graph
from neural_sparse.opensearch.packages import document_tokenizer
from neural_sparse.opensearch.parity import AWKWARD_TEXTS, Check
from neural_sparse.opensearch.parity import require as require_parity
from neural_sparse.opensearch.traced import ServedEncoder, example_features, served_encoder

# The model whose class and files it is given; fastembed takes no names for sparse models of one's own.
REGISTERED = "opensearch-project/opensearch-neural-sparse-encoding-doc-v3-gte"
TOGETHER = 4  # texts that are compared in one batch
_README = """\
# {name} for fastembed

    pip install 'fastembed>=0.9'

    from fastembed import SparseTextEmbedding

    model = SparseTextEmbedding("{registered}", specific_model_path="{folder}")
    documents = list(model.embed(["a document"], batch_size=8))  # .indices, .values
    queries = list(model.query_embed(["a query"]))

The name is that of a model with the same class, whose files are not used: nothing is downloaded. A batch takes
8 bytes x documents x tokens x {tokens:,} of memory and more, so keep it small. Documents and queries are cut at
{max_length} tokens.
"""


class LogitsGraph(nn.Module):
    """forward(input_ids, attention_mask), int64 [batch, length], to what fastembed pools, [batch, length, vocabulary].

    Its activation is log1p(log1p(relu(x))); a model of log1p alone gives exp(relu(x)) - 1, whose log1p(log1p) that is.
    """

    def __init__(self, encoder: ServedEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits = self.encoder.logits(input_ids, attention_mask)
        return logits if self.encoder.activation == "double_log1p" else logits.relu().exp() - 1


def write_fastembed(model: NeuralSparseEncoder, output: str | Path) -> dict[str, Any]:
    """Write model.onnx, tokenizer.json, tokenizer_config.json, idf.json, README.md (how to load it) and export.json.

    Returns:
        What export.json says; "parity" has fastembed's steps compared with the model.

    Raises:
        InputError: `output` holds something; onnx or onnxruntime is not installed; a siamese model, one whose
            documents count their own words, or one without a token for padding; vectors that differ from the model's
            by more than 1e-4.
    """
    require("onnx")
    require("onnxruntime")
    output = check_output_folder(output)
    if model.query_encoder != "inference-free":
        raise InputError(
            f"{model.name} is siamese (query_encoder: {model.query_encoder}), and fastembed's class looks queries up: "
            "train it with query_encoder=inference-free, or export it for OpenSearch"
        )
    if model.own_words is not None:
        raise InputError(
            f"{model.name} counts its documents' own words, and fastembed's class has no place for them: export with "
            "--format onnx, which counts them, or train with own_words=0"
        )
    if model.tokenizer.pad_token_id is None:
        raise InputError(f"{model.name}: its tokenizer has no token for padding, and fastembed pads")
    table = {token: weight for token, weight in model.idf_table().items() if weight}
    with replacing_folder(output) as folder:
        graph = LogitsGraph(served_encoder(model, silent=[])).eval()
        write_graph(graph, folder / "model.onnx", example_features(model), {0: "batch", 1: "length"})
        _tokenizer(model).save(str(folder / "tokenizer.json"))
        config = {"model_max_length": model.max_length, "pad_token": model.tokenizer.pad_token}
        write_json(folder / "tokenizer_config.json", config)
        write_json(folder / "idf.json", table)
        readme = _README.format(
            name=model.name,
            registered=REGISTERED,
            folder=output.name,
            tokens=model.vocab_size,
            max_length=model.max_length,
        )
        write_text(folder / "README.md", readme)
        checks = _compare(model, folder)
        require_parity(checks)
        about = {
            "format": "fastembed",
            "model": model.name,
            "max_length": model.max_length,
            "tokens": model.vocab_size,
            "fingerprint": Fingerprint.of(model).as_json(),
            "parity": [check.to_dict() for check in checks],
            "files": file_sums(folder, sorted(path.name for path in folder.iterdir())),
        }
        write_json(folder / EXPORT, about)
    return about


def _tokenizer(model: NeuralSparseEncoder) -> Tokenizer:
    """The model's, with the composing of characters that is done before it here."""
    tokenizer = document_tokenizer(model.tokenizer, model.max_length)
    steps = [normalizers.NFC(), *([tokenizer.normalizer] if tokenizer.normalizer else [])]
    tokenizer.normalizer = normalizers.Sequence(steps)
    return tokenizer


def _compare(model: NeuralSparseEncoder, folder: Path) -> list[Check]:
    """What fastembed's steps, done here, make of texts, against the model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    added = tokenizer.get_added_tokens_decoder()
    special = [number for number, token in added.items() if token.special]
    texts = [*AWKWARD_TEXTS.values(), "cafe\u0301 na\u0131\u0308ve"]

    def pooled(batch: list[str]) -> np.ndarray:
        encodings = tokenizer.encode_batch(batch)
        ids, mask = (
            np.array([getattr(one, name) for one in encodings], np.int64)
            for name in ("ids", "attention_mask")
        )
        logits = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        scores: np.ndarray = np.log1p(np.log1p(np.maximum((logits * mask[..., None]).max(axis=1), 0)))
        scores[:, special] = 0
        return scores

    worst = 0.0
    for size in (1, TOGETHER):
        for start in range(0, len(texts), size):
            batch = texts[start : start + size]
            expected = model.encode_documents(batch).toarray()
            worst = max(worst, float(abs(pooled(batch) - expected).max()))
    table, vocabulary = json.loads((folder / "idf.json").read_text(encoding="utf-8")), tokenizer.get_vocab()
    weights = {vocabulary[token]: weight for token, weight in table.items()}
    queries = [text for text in texts if len(tokenizer.encode(text).ids) < model.max_length]
    apart = 0.0
    for text, row in zip(queries, model.encode_queries(queries).toarray(), strict=True):
        found = np.zeros_like(row)
        for token in set(tokenizer.encode(text).ids) - set(special):
            found[token] = weights.get(token, 0.0)
        apart = max(apart, float(abs(found - row).max()))
    return [
        Check("fastembed: document vectors", 2 * len(texts), difference=worst),
        Check("fastembed: query weights", len(queries), difference=apart, limit=1e-6),
    ]
