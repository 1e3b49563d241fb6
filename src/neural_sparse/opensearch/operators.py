"""Which operators a traced graph uses, and whether the server's libtorch has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import torch

from neural_sparse.errors import InputError

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
