"""The module that OpenSearch runs, traced: masked LM, projection, pooling and activation; and the operators it uses."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from neural_sparse.errors import InputError
from neural_sparse.model.activation import Activation, activate
from neural_sparse.model.own_words import OwnWords
from neural_sparse.opensearch.guards import silent_ids

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder


LIBTORCH = ("1.13.1", "2.5.1")  # of OpenSearch 2.15-2.19 and 3.0-3.8
# The graph's own structure: no operators, known to every version.
_STRUCTURE = {
    "prim::Constant", "prim::GetAttr", "prim::SetAttr", "prim::ListConstruct", "prim::ListUnpack",
    "prim::TupleConstruct", "prim::TupleUnpack", "prim::DictConstruct", "prim::If", "prim::Loop",
    "prim::CallMethod", "prim::Return",
}  # fmt: skip


@cache
def known_operators(version: str) -> frozenset[str]:
    """Operators of a libtorch version, as "aten::add.Tensor".

    Raises:
        InputError: a version that is not in the list.
    """
    if version not in LIBTORCH:
        raise InputError(f"no list of operators for libtorch {version}; known are {', '.join(LIBTORCH)}")
    text = (files(__package__) / "libtorch_operators.txt").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return frozenset(name for name, *only in rows if not only or version in only)


def graph_operators(traced: torch.jit.ScriptModule) -> Counter[str]:
    """How often each operator occurs in the module's forward, methods of its parts included."""
    graph = traced.graph.copy()
    torch._C._jit_pass_inline(graph)
    return Counter(_operators(graph))


def bound_devices(traced: torch.jit.ScriptModule) -> set[str]:
    """Devices that the graph names: the file runs on these only. Empty if it runs wherever it is loaded."""
    graph: Any = traced.graph.copy()
    torch._C._jit_pass_inline(graph)
    constants = (
        node
        for node in graph.findAllNodes("prim::Constant")
        if node.output().type().kind() == "DeviceObjType"
    )
    return {str(node.output().toIValue()) for node in constants if node.output().uses()}


def _operators(block: Any) -> Iterable[str]:
    for node in block.nodes():
        for inner in node.blocks():
            yield from _operators(inner)
        if node.kind() in _STRUCTURE:
            continue
        schema = node.schema()
        if schema == "(no schema)":
            yield node.kind()
            continue
        yield schema.split("(", 1)[0]


def check_operators(operators: Iterable[str], versions: Sequence[str] = LIBTORCH) -> None:
    """Raises InputError where a libtorch version lacks one of them, naming both."""
    operators = sorted(set(operators))
    for version in versions:
        known = known_operators(version)
        if missing := [name for name in operators if name not in known]:
            raise InputError(
                f"the traced model uses operators that libtorch {version} lacks: {', '.join(missing)}. "
                "OpenSearch 2.15-2.19 loads models with libtorch 1.13.1 and 3.0-3.8 with 2.5.1; name the one "
                "you serve with --libtorch, or choose an architecture of plainer operators (BERT, DistilBERT)"
            )


TRACED_LENGTH = 7  # any will do; the parity run tries others


class ServedEncoder(nn.Module):
    """Token ids to document weights, as ML Commons calls it.

    forward({"input_ids": int64 [batch, length], "attention_mask": the same}) returns
    {"output": float32 [batch, vocabulary]}, tokens without a name (special ones) 0.

    Args:
        silent: ids without a name.
        made_mask: hand the model what is added to attention scores, float32 [batch, 1, 1, length], made from the
            mask alone. Left to itself, transformers makes it from tensors on the device of the tracing, and the
            file would run on no other.
        own_words: as of `NeuralSparseEncoder`.
    """

    def __init__(
        self,
        mlm: Any,
        silent: list[int],
        activation: Activation,
        made_mask: bool = True,
        own_words: OwnWords | None = None,
    ) -> None:
        super().__init__()
        self.mlm = mlm
        self.activation = activation
        self.own_words = own_words
        self.made_mask = made_mask
        ordinary = torch.ones(mlm.get_output_embeddings().out_features)
        ordinary[silent] = 0.0
        self.ordinary: Tensor
        self.register_buffer("ordinary", ordinary)

    def logits(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """[batch, length, vocabulary], for ids and mask int64 [batch, length]."""
        given = mask
        if self.made_mask:
            given = (1.0 - mask[:, None, None, :].to(torch.float32)) * torch.finfo(torch.float32).min
        logits: Tensor = self.mlm(input_ids=input_ids, attention_mask=given).logits
        return logits

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        mask = features["attention_mask"]
        logits = self.logits(features["input_ids"], mask)
        # A position that is padding must not win; 0 is as low as any, for relu comes next.
        pooled = logits.masked_fill(mask.unsqueeze(-1) == 0, 0.0).amax(dim=1)
        weights = activate(pooled.relu(), self.activation)
        if self.own_words is not None:
            weights = weights + self.own_words.of_padded(features["input_ids"], mask)
        return {"output": weights * self.ordinary}


def served_encoder(
    model: NeuralSparseEncoder, side: str = "document", silent: list[int] | None = None
) -> ServedEncoder:
    """A copy of the model's document side on the CPU, in float32, with eager attention.

    Eager: scaled_dot_product_attention is no operator of libtorch 1.13.1.

    Args:
        side: "query" for the transformer of a siamese model's queries.
        silent: as of `ServedEncoder`; those that OpenSearch has no name for if None.
    """
    mlm = copy.deepcopy(model.routes[side][0].model).cpu().float().eval()
    # NeuralSparseEncoder lets hidden states pass through the projection; here it projects again.
    vars(mlm.get_output_embeddings()).pop("forward", None)
    mlm.set_attn_implementation("eager")
    mlm.requires_grad_(False)
    words = copy.deepcopy(model.own_words)
    if words is not None:
        words = words.cpu().requires_grad_(False)
    silent = silent_ids(model.tokenizer) if silent is None else silent
    module = ServedEncoder(mlm, silent, model.activation, own_words=words).eval()
    module.made_mask = _takes_made_mask(module, model)
    return module


def _takes_made_mask(module: ServedEncoder, model: NeuralSparseEncoder) -> bool:
    """Whether the model gives the same with a mask made for it: not if it looks at windows of a text, for one."""
    ids = example_features(model, model.max_length)["input_ids"].repeat(2, 1)
    mask = torch.ones_like(ids)
    mask[1, model.max_length // 2 + 1 :] = 0
    outputs = []
    with torch.no_grad():
        for made in (False, True):
            module.made_mask = made
            try:
                outputs.append(module({"input_ids": ids, "attention_mask": mask})["output"])
            except (RuntimeError, TypeError, ValueError):
                return False  # of an architecture that wants the mask as it is
    plain, made_for_it = outputs
    return torch.allclose(plain, made_for_it, atol=1e-5, rtol=1e-5)


def example_features(model: NeuralSparseEncoder, length: int = TRACED_LENGTH) -> dict[str, Tensor]:
    """Features [1, length] of nothing in particular."""
    ids = torch.arange(length).remainder(model.vocab_size).unsqueeze(0)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def trace(module: nn.Module, *example: Any) -> torch.jit.ScriptModule:
    """TorchScript of `module`, for any batch and length; the same names inside whatever was traced before."""
    with warnings.catch_warnings(), _fresh_names(), torch.no_grad():
        warnings.simplefilter("ignore")  # branches on shapes: the parity run is the check
        traced: Any = torch.jit.trace(module, example, strict=False, check_trace=False)
    return traced


@contextmanager
def _fresh_names() -> Iterator[None]:
    """Classes are numbered per compilation unit; a new one makes their names a function of the model alone."""
    state: Any = torch.jit._state
    before = state._python_cu
    state._python_cu = torch._C.CompilationUnit()
    try:
        yield
    finally:
        state._python_cu = before
