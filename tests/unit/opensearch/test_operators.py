from __future__ import annotations

import pytest
import torch

from neural_sparse import InputError
from neural_sparse.opensearch.traced import LIBTORCH, check_operators, graph_operators, known_operators


def test_lists_of_operators() -> None:
    for version in LIBTORCH:
        assert {
            "aten::linear",
            "aten::add.Tensor",
            "aten::to.dtype_layout",
            "aten::log1p",
        } <= known_operators(version)
    assert "aten::scaled_dot_product_attention" not in known_operators("1.13.1")
    assert "aten::scaled_dot_product_attention" in known_operators("2.5.1")
    with pytest.raises(InputError, match=r"no list of operators for libtorch 9\.9"):
        known_operators("9.9")


class _Attention(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(x, x, x)


class _Outer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = _Attention()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + 1


def test_an_operator_that_a_version_lacks_is_refused() -> None:
    traced = torch.jit.trace(_Outer(), torch.ones(1, 1, 2, 4))
    operators = graph_operators(traced)
    assert operators == {"aten::scaled_dot_product_attention": 1, "aten::add.Scalar": 1} or operators == {
        "aten::scaled_dot_product_attention": 1,
        "aten::add.Tensor": 1,
    }
    check_operators(operators, ["2.5.1"])
    with pytest.raises(InputError, match=r"libtorch 1\.13\.1 lacks: aten::scaled_dot_product_attention"):
        check_operators(operators)
