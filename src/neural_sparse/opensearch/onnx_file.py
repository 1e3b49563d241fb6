"""The document side as ONNX, for servers other than OpenSearch, also with weights in 8 bits."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from neural_sparse.errors import InputError
from neural_sparse.opensearch.parity import ServedDocuments
from neural_sparse.opensearch.traced import ServedEncoder, example_features, served_encoder

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder


def int8_encoder(model: NeuralSparseEncoder) -> ServedEncoder:
    """`served_encoder` with every linear layer, the output projection among them, in int8; embeddings stay float32."""
    module: Any = served_encoder(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about where quantisation will move to
        return torch.ao.quantization.quantize_dynamic(module, {torch.nn.Linear}, dtype=torch.qint8).eval()


OPSET = 17


class _TwoInputs(nn.Module):
    """ONNX has no dictionaries."""

    def __init__(self, encoder: ServedEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder({"input_ids": input_ids, "attention_mask": attention_mask})["output"]


def write_onnx(model: NeuralSparseEncoder, path: str | Path) -> None:
    """Inputs input_ids and attention_mask, int64 [batch, length]; output "output", float32 [batch, vocabulary].

    Raises:
        InputError: onnx is not installed.
    """
    write_graph(_TwoInputs(served_encoder(model)).eval(), path, example_features(model), {0: "batch"})


def write_graph(
    module: nn.Module, path: str | Path, features: dict[str, Tensor], output_axes: dict[int, str]
) -> None:
    """ONNX of a module of (input_ids, attention_mask), for any batch and length.

    Args:
        features: as `example_features`.
        output_axes: names of its output's axes that are no constants.

    Raises:
        InputError: onnx is not installed.
    """
    require("onnx")
    dynamic = {0: "batch", 1: "length"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # The exporter over torch.export writes graphs that onnxruntime without optimisation runs wrongly.
        torch.onnx.export(
            module,
            (features["input_ids"], features["attention_mask"]),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["input_ids", "attention_mask"],
            output_names=["output"],
            dynamic_axes={"input_ids": dynamic, "attention_mask": dynamic, "output": output_axes},
        )


class OnnxDocuments(ServedDocuments):
    """The ONNX file at work, by onnxruntime on the CPU.

    Raises:
        InputError: onnxruntime is not installed.
    """

    def __init__(self, path: str | Path, tokenizer: Tokenizer) -> None:
        require("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self.tokenizer = tokenizer

    def output(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = torch.ones_like(ids) if mask is None else mask
        (output,) = self.session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        return torch.from_numpy(output)


def require(package: str) -> None:
    """Raises InputError where a package of the extra `onnx` is not installed."""
    if importlib.util.find_spec(package) is None:
        raise InputError(f"ONNX needs {package}: pip install 'neural-sparse[onnx]'")
