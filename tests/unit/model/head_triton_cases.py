"""The Triton kernels against the torch operations.

test_head_triton.py runs this file: on a GPU where there is one, else in a process of its own under
Triton's interpreter, which has to be switched on before Triton is imported.
"""

import pytest
import torch
from torch import Tensor

from neural_sparse.model import head_torch, head_triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LENGTHS = [[5, 0, 140, 1, 33], [1], [0, 0], [64, 128, 129]]


def problem(lengths: list[int], width: int, vocabulary: int, dtype=torch.float32):
    """Of so few bits that float32 sums the products exactly: which token wins is then the same on every processor."""
    generator = torch.Generator().manual_seed(sum(lengths) + width + vocabulary)
    hidden = (torch.randn(sum(lengths), width, generator=generator) * 2**6).round() / 2**6
    weight = (torch.randn(vocabulary, width, generator=generator) / width**0.5 * 2**8).round() / 2**8
    bias = torch.randn(vocabulary, generator=generator) - 2
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return hidden.to(DEVICE, dtype), offsets.to(DEVICE), weight.to(DEVICE, dtype), bias.to(DEVICE)


def assert_close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    largest = b.abs().max().item() if b.numel() else 0.0
    assert torch.allclose(a, b, rtol=tolerance, atol=tolerance * largest)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(("width", "vocabulary"), [(64, 300), (40, 128), (7, 1)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_forward(lengths: list[int], width: int, vocabulary: int, with_bias: bool) -> None:
    hidden, offsets, weight, bias = problem(lengths, width, vocabulary)
    inputs = hidden, offsets, weight, bias if with_bias else None
    pooled, winners = head_triton.forward(*inputs, True)
    expected, expected_winners = head_torch.forward(*inputs, True)
    assert_close(pooled, expected)
    assert torch.equal(winners, expected_winners)
    alone, none = head_triton.forward(*inputs, False)
    assert torch.equal(alone, pooled)
    assert none.numel() == 0


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        pytest.param(
            torch.bfloat16,
            marks=pytest.mark.skipif(DEVICE == "cpu", reason="Triton's interpreter cannot multiply bfloat16"),
        ),
    ],
)
def test_half_precision_keeps_the_float32_accumulator(dtype: torch.dtype) -> None:
    hidden, offsets, weight, bias = problem([5, 70], 64, 200, dtype)
    pooled, _ = head_triton.forward(hidden, offsets, weight, bias, False)
    expected, _ = head_torch.forward(hidden.float(), offsets, weight.float(), bias, False)
    assert_close(pooled, expected)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
@pytest.mark.parametrize(("width", "vocabulary"), [(300, 70), (40, 128)])
def test_backward(lengths: list[int], share: float, width: int, vocabulary: int) -> None:
    hidden, offsets, weight, bias = problem(lengths, width, vocabulary)
    winners = head_torch.forward(hidden, offsets, weight, bias, True)[1]
    generator = torch.Generator().manual_seed(1)
    gradient = torch.randn(len(lengths), vocabulary, generator=generator)
    gradient *= torch.rand(gradient.shape, generator=generator) < share
    gradient = gradient.to(DEVICE) * (offsets.diff() > 0)[:, None]
    fast = head_triton.backward(gradient, winners, hidden, offsets, weight)
    for a, b in zip(fast, head_torch.backward(gradient, winners, hidden, offsets, weight), strict=True):
        assert_close(a, b)


def test_ties_go_to_the_first_token() -> None:
    hidden, offsets, weight, bias = problem([3, 200], 16, 50)
    hidden[:] = hidden[0]
    assert head_triton.forward(hidden, offsets, weight, bias, True)[1].count_nonzero() == 0
    hidden, weight = (torch.randint(-1, 2, x.shape, device=DEVICE).float() for x in (hidden, weight))
    expected = head_torch.forward(hidden, offsets, weight, bias, True)[1]
    assert torch.equal(head_triton.forward(hidden, offsets, weight, bias, True)[1], expected)


def test_nan_reaches_the_output() -> None:
    hidden, offsets, weight, bias = problem([3, 150, 4], 16, 50)
    hidden[5], weight[7] = float("nan"), float("nan")
    expected = torch.zeros(3, 50, dtype=torch.bool, device=DEVICE)
    expected[1], expected[:, 7] = True, True
    assert torch.equal(head_triton.forward(hidden, offsets, weight, bias, True)[0].isnan(), expected)


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU: autograd through the public function on CUDA")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_public_function_uses_the_kernels(dtype: torch.dtype) -> None:
    from neural_sparse.model.head import pooled_logits

    hidden, offsets, weight, bias = problem([60, 128, 3], 64, 1000)
    grads = []
    for device in ("cpu", "cuda"):
        leaves = [t.to(device, dtype).detach().requires_grad_() for t in (hidden, weight, bias)]
        pooled_logits(leaves[0], offsets.to(device), *leaves[1:]).square().sum().backward()
        grads.append([leaf.grad.float().cpu() for leaf in leaves])
    for a, b in zip(*grads, strict=True):
        assert (a - b).norm() < (1e-5 if dtype == torch.float32 else 0.1) * b.norm()
