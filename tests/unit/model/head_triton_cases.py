"""The Triton kernels against the torch operations.

test_head_triton.py runs this file: on a GPU where there is one, else in a process of its own under
Triton's interpreter, which has to be switched on before Triton is imported.
"""

import pytest
import torch
from torch import Tensor

from neural_sparse.model import head, head_torch, head_triton

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


@pytest.mark.parametrize("count", [1, 37, 300])
def test_some_columns_are_those_of_the_whole(count: int, monkeypatch) -> None:
    monkeypatch.setattr(head, "_implementation", lambda *_: head_triton)
    hidden, offsets, weight, bias = problem([5, 0, 140, 1, 33], 64, 300)
    columns = torch.randperm(300, generator=torch.Generator().manual_seed(3))[:count].sort().values.to(DEVICE)
    upstream = torch.randn(5, count, generator=torch.Generator().manual_seed(4)).to(DEVICE)

    def run(upstream: Tensor, columns: Tensor | None) -> list[Tensor]:
        leaves = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
        out = head.pooled_logits(leaves[0], offsets, leaves[1], leaves[2], columns=columns)
        out.backward(upstream)
        return [out.detach(), *(leaf.grad for leaf in leaves)]

    whole = run(torch.zeros(5, 300, device=DEVICE).index_copy(1, columns, upstream), None)
    some = run(upstream, columns)
    assert_close(some[0], whole[0][:, columns])
    for a, b in zip(some[1:], whole[1:], strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("seed", range(4))
def test_random_problems(seed: int, monkeypatch) -> None:
    """Values, winners and gradients, with ties everywhere, empty texts and any number of groups of texts."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    lengths = [draw(0, 2) * draw(1, 80) for _ in range(draw(30, 45))]
    hidden, offsets, weight, bias = problem(lengths, draw(1, 70), draw(1, 300))
    hidden, weight = (
        (hidden * 1.5).round(),
        (weight * 4).round(),
    )  # whole numbers: sums are exact, equal scores common
    monkeypatch.setattr(head_triton, "_cache", lambda tensor: draw(1, 1 << 14))
    pooled, winners = head_triton.forward(hidden, offsets, weight, bias, True)
    expected, expected_winners = head_torch.forward(hidden, offsets, weight, bias, True)
    assert torch.equal(pooled, expected)
    assert torch.equal(winners, expected_winners)
    gradient = torch.randn(pooled.shape, generator=generator).to(DEVICE) * (pooled > pooled.median())
    gradient[pooled == 0] = 0
    fast = head_triton.backward(gradient, winners, hidden, offsets, weight)
    for a, b in zip(fast, head_torch.backward(gradient, winners, hidden, offsets, weight), strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("groups", [2, 5])
def test_groups_change_nothing(groups: int, monkeypatch) -> None:
    hidden, offsets, weight, bias = problem([5, 0, 40, 1, 33], 48, 300)
    expected = head_torch.forward(hidden, offsets, weight, bias, True)
    monkeypatch.setattr(head_triton, "text_groups", lambda *_: groups)
    pooled, winners = head_triton.forward(hidden, offsets, weight, bias, True)
    assert_close(pooled, expected[0])
    assert torch.equal(winners, expected[1])
    fast = head_triton.backward(pooled, winners, hidden, offsets, weight)
    for a, b in zip(fast, head_torch.backward(pooled, winners, hidden, offsets, weight), strict=True):
        assert_close(a, b)


def test_the_last_winner_that_two_bytes_can_name() -> None:
    length = torch.iinfo(torch.int16).max
    hidden, offsets, weight, _ = problem([2, length], 8, 3, torch.float16)
    hidden[-1] = 100 * weight[1]
    pooled, winners = head_triton.forward(hidden, offsets, weight, None, True)
    assert winners[1, 1] == length - 1
    gradient = torch.zeros_like(pooled)
    gradient[1, 1] = 1
    assert torch.equal(
        head_triton.backward(gradient, winners, hidden, offsets, weight)[0][-1], weight[1].float()
    )


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


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_text_without_tokens_stays_zero_beside_a_broken_bias(broken: float) -> None:
    hidden, offsets, weight, bias = problem([3, 0], 16, 50)
    bias[7] = broken
    pooled = head_triton.forward(hidden, offsets, weight, bias, True)[0]
    assert not pooled[1].any()
    assert not pooled[0, 7].isfinite()


def test_nan_gradients_are_not_lost() -> None:
    hidden, offsets, weight, _ = problem([3, 0, 4], 16, 50)
    winners = torch.zeros(3, 50, dtype=torch.int16, device=DEVICE)
    gradient = torch.zeros(3, 50, device=DEVICE)
    gradient[2, 9] = float("nan")
    by_hidden, by_weight = head_triton.backward(gradient, winners, hidden, offsets, weight)
    assert by_hidden.isnan().any(1).nonzero().tolist() == [[3]]
    assert by_weight.isnan().any(1).nonzero().tolist() == [[9]]


def test_newer_setting_of_tf32_is_read() -> None:
    """After it was used, torch refuses to read the older one; Transformers' trainer uses it for tf32=True."""
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this torch has only the older setting")
    hidden, offsets, weight, bias = problem([3, 4], 16, 50)
    for settings in (torch.backends, torch.backends.cuda.matmul):
        before = settings.fp32_precision
        try:
            settings.fp32_precision = "tf32"
            assert head_triton._tf32()
            head_triton.forward(hidden, offsets, weight, bias, True)
        finally:
            settings.fp32_precision = before
    assert not head_triton._tf32()


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
