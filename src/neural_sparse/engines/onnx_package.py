"""A model as an ONNX file with what its documents and queries need, for servers without torch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from neural_sparse.engines.query_package import write_query_package
from neural_sparse.io.files import check_output_folder, file_sums, replacing_folder, write_json
from neural_sparse.model.activation import activate
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.exported import (
    EXPORT,
    GRAPH,
    ONNX_FORMAT,
    OWN_WORDS,
    QUERY,
    TOKENIZER_FILES,
    ExportedEncoder,
    int8_digest,
)
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.opensearch.onnx_file import require, write_graph
from neural_sparse.opensearch.parity import AWKWARD_TEXTS, LIMIT, Check
from neural_sparse.opensearch.parity import require as require_parity
from neural_sparse.opensearch.traced import ServedEncoder, example_features, served_encoder

BLOCK = 4096  # columns of the vocabulary that are projected at once


class DocumentGraph(nn.Module):
    """forward(input_ids, attention_mask), int64 [batch, length], the first of each text no padding, to weights
    [batch, vocabulary], without a document's own words.

    The projection is done and pooled block by block of the vocabulary, so that logits are at most
    [batch, length, BLOCK]; the bias, the same at all positions, is added when they are pooled.
    """

    def __init__(self, encoder: ServedEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        projection = encoder.mlm.get_output_embeddings()
        blocks = [block.T.contiguous() for block in projection.weight.detach().split(BLOCK)]
        self.blocks = nn.ParameterList(nn.Parameter(block, requires_grad=False) for block in blocks)
        bias = projection.bias
        none = torch.zeros(projection.out_features)
        self.bias = nn.Parameter(none if bias is None else bias.detach().clone(), requires_grad=False)
        projection.forward = lambda hidden: hidden

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.encoder.logits(input_ids, attention_mask)
        # Padding repeats the first token, which cannot change a maximum.
        hidden = torch.where(attention_mask.unsqueeze(-1) > 0, hidden, hidden[:, :1])
        pooled = torch.cat([(hidden @ block).amax(1) for block in self.blocks], 1) + self.bias
        return activate(pooled.relu(), self.encoder.activation)


def write_onnx_package(model: NeuralSparseEncoder, output: str | Path, int8: bool = False) -> dict[str, Any]:
    """Write model.onnx, the tokenizer, own_words.safetensors where documents count their words, query/ and export.json.

    Args:
        int8: linear layers in 8 bits, the output projection among them, their inputs quantised as they come (dynamic
            quantisation); embeddings stay float32. A document's vector then depends a little on the others of its
            batch.

    Returns:
        What export.json says; "parity" has the comparison with the model.

    Raises:
        InputError: `output` holds something; onnx or onnxruntime is not installed; a siamese model, whose queries need
            a transformer; vectors that differ from the model's by more than 1e-4.
    """
    require("onnx")
    require("onnxruntime")
    output = check_output_folder(output)
    weights = model.idf_table()  # a siamese model is refused here
    with replacing_folder(output) as folder:
        model.tokenizer.save_pretrained(folder)
        write_query_package(model, folder / QUERY)
        _write_graph(model, folder / GRAPH, int8)
        fingerprint = Fingerprint.of(model).as_json()
        if int8:
            fingerprint["documents"] = int8_digest(fingerprint["documents"])
        about: dict[str, Any] = {
            "format": ONNX_FORMAT,
            "model": model.name,
            "int8": int8,
            "activation": model.activation,
            "max_length": model.max_length,
            "pad_id": int(model.tokenizer.pad_token_id or 0),
            "tokens": len(weights),
            "own_words": _write_own_words(model, folder / OWN_WORDS),
            "fingerprint": fingerprint,
        }
        names = [GRAPH, *TOKENIZER_FILES, *([OWN_WORDS] if about["own_words"] else [])]
        about["files"] = file_sums(folder, names)
        write_json(folder / EXPORT, about)
        check = _compare(model, folder, None if int8 else LIMIT)
        require_parity([check])
        about["parity"] = [check.to_dict()]
        write_json(folder / EXPORT, about)
    return about


def _write_graph(model: NeuralSparseEncoder, file: Path, int8: bool) -> None:
    graph = DocumentGraph(served_encoder(model, silent=[])).eval()
    write_graph(graph, file, example_features(model), {0: "batch"})
    if not int8:
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = file.with_name("float32.onnx")
    file.rename(whole)
    logging.disable(logging.WARNING)  # it advises on shapes of pictures
    try:
        quantize_dynamic(
            whole, file, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"], per_channel=True
        )
    finally:
        logging.disable(logging.NOTSET)
    whole.unlink()


def _write_own_words(model: NeuralSparseEncoder, file: Path) -> dict[str, float] | None:
    words = model.own_words
    if words is None:
        return None
    arrays = {"strength": words.strength, "classes": words.classes}
    save_file({name: one.detach().cpu().numpy() for name, one in arrays.items()}, file)
    return {"k1": words.k1, "b": words.b, "mean_length": float(words.mean_length)}


def _compare(model: NeuralSparseEncoder, folder: Path, limit: float | None) -> Check:
    """Greatest difference of a weight, over texts alone and together, of lengths up to the model's."""
    words = " ".join(AWKWARD_TEXTS.values()).split()
    lengths = np.geomspace(1, 2 * model.max_length, 12).astype(int)
    texts = [*AWKWARD_TEXTS.values(), *(" ".join(words[:length]) for length in lengths)]
    encoder = ExportedEncoder(folder, threads=1)
    expected = model.encode_documents(texts)
    worst = float(abs(encoder.encode_documents(texts) - expected).max())
    for row, text in enumerate(texts):
        worst = max(worst, float(abs(encoder.encode_documents([text]) - expected[row]).max()))
    what = "ONNX: document vectors" if limit else "ONNX, int8: document vectors"
    return Check(what, 2 * len(texts), difference=worst, limit=limit, note=f"up to {model.max_length} tokens")
