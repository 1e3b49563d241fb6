"""The fused head against the plain formula: values, gradients, edges, and the machinery around it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from neural_sparse.errors import InputError
from neural_sparse.model import head, head_cpu, head_torch
from neural_sparse.model.head import pack, pooled_logits


@pytest.fixture(params=[head_cpu, head_torch], ids=["cpu", "torch"])
def implementation(request, monkeypatch) -> None:
    """Runs a test with the CPU kernels and with the plain torch operations of other devices."""
    monkeypatch.setattr(head, "_implementation", lambda *_: request.param)


def pooled_logits_plain(hidden: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = []
    for start, end in zip(offsets.tolist(), offsets[1:].tolist(), strict=False):
        logits = hidden[start:end] @ weight.T
        if bias is not None:
            logits = logits + bias
        if start == end:
            rows.append((weight.sum(1) + hidden.sum() + (0 if bias is None else bias)) * 0)
        else:  # argmax takes the first of equals, amax would share the gradient among them
            rows.append(logits.gather(0, logits.argmax(0, keepdim=True)).squeeze(0).relu())
    return torch.stack(rows)


def problem(
    lengths: list[int],
    width: int = 16,
    vocabulary: int = 700,
    positive: float = 0.5,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A head whose pooled logits are positive for about the given share of dimensions.

    Except in float64, numbers are multiples of powers of two so few bits apart that float32 sums their products
    exactly. Which token wins is then the same in every BLAS, whatever the order in which it sums; of two nearly
    equal tokens it would be one on this processor and the other on the next.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(sum(lengths), width, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64) / width**0.5
    if dtype != torch.float64:
        hidden, weight = (hidden * 2**6).round() / 2**6, (weight * 2**8).round() / 2**8
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    highest = pooled_logits_plain(hidden, offsets, weight, torch.full((vocabulary,), 100.0).double()) - 100
    ranked = highest[offsets.diff() > 0].flatten().sort(descending=True).values
    threshold = ranked[int(positive * (len(ranked) - 1))] if len(ranked) else 0.0
    bias = 0.01 * torch.randn(vocabulary, generator=generator) - threshold
    return hidden.to(dtype), offsets, weight.to(dtype), bias.to(dtype)


def gradients(
    function, hidden: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None, upstream: Tensor
):
    leaves = [t.detach().clone().requires_grad_() for t in (hidden, weight)]
    if bias is not None:
        leaves.append(bias.detach().clone().requires_grad_())
    out = function(leaves[0], offsets, leaves[1], leaves[2] if bias is not None else None)
    out.backward(upstream.to(out.dtype))
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def assert_same(hidden, offsets, weight, bias, upstream, tolerance: float = 1e-5) -> None:
    fast = gradients(pooled_logits, hidden, offsets, weight, bias, upstream)
    plain = gradients(pooled_logits_plain, hidden, offsets, weight, bias, upstream)
    for name, a, b in zip(("output", "hidden", "weight", "bias"), fast, plain, strict=False):
        largest = b.abs().max().item() if b.numel() else 0.0
        assert torch.allclose(a, b, rtol=tolerance, atol=tolerance * largest), name


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("positive", [0.002, 0.3, 1.0])
@pytest.mark.usefixtures("implementation")
def test_random_shapes_agree_with_the_plain_formula(seed: int, positive: float) -> None:
    generator = torch.Generator().manual_seed(seed)

    def pick(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    lengths = [pick(0, 40) for _ in range(pick(1, 60))] + [1]
    hidden, offsets, weight, bias = problem(lengths, pick(1, 70), pick(1, 1500), positive, seed)
    upstream = torch.randn(len(lengths), len(weight), generator=generator)
    assert_same(hidden, offsets, weight, bias, upstream)
    assert_same(hidden, offsets, weight, None, upstream)


@pytest.mark.parametrize("active", [1, 12, 300, 3000, 4096])
@pytest.mark.usefixtures("implementation")
def test_gradients_at_every_number_of_active_dimensions(active: int) -> None:
    hidden, offsets, weight, bias = problem([60, 128, 3, 17], 32, 4096, 1.0)
    bias += 50.0  # everything positive: the upstream gradient decides what is active
    upstream = torch.zeros(4, 4096)
    for row in upstream:
        row[torch.randperm(4096)[:active]] = torch.randn(active)
    assert_same(hidden, offsets, weight, bias, upstream)


@pytest.mark.parametrize("lengths", [[0], [1], [0, 5, 0, 0, 3, 0], [1, 1, 1], [2500, 1, 40]])
@pytest.mark.usefixtures("implementation")
def test_empty_single_and_very_long_texts(lengths: list[int]) -> None:
    hidden, offsets, weight, bias = problem(lengths, 8, 1030, 0.5)
    bias += 0.3  # a positive bias must not make an empty text positive
    assert_same(hidden, offsets, weight, bias, torch.randn(len(lengths), 1030))
    out = pooled_logits(hidden, offsets, weight, bias)
    assert out[offsets.diff() == 0].count_nonzero() == 0


@pytest.mark.parametrize("count", [0, 1, 37, 700])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("implementation")
def test_some_columns_are_those_of_the_whole(count: int, dtype: torch.dtype) -> None:
    hidden, offsets, weight, bias = problem([60, 0, 128, 1], 64, 700, 0.3, dtype=dtype)
    columns = torch.randperm(700, generator=torch.Generator().manual_seed(3))[:count].sort().values
    upstream = torch.randn(4, count, generator=torch.Generator().manual_seed(4))
    spread = torch.zeros(4, 700).index_copy(1, columns, upstream)
    for given in (bias, None):
        whole = gradients(pooled_logits, hidden, offsets, weight, given, spread)
        some = gradients(
            lambda *inputs: pooled_logits(*inputs, columns=columns), hidden, offsets, weight, given, upstream
        )
        assert torch.allclose(some[0], whole[0][:, columns], rtol=1e-6, atol=1e-6)
        for a, b in zip(some[1:], whole[1:], strict=True):
            assert a.shape == b.shape
            assert torch.allclose(a.float(), b.float(), rtol=1e-5, atol=1e-5 * float(b.abs().max()))


@pytest.mark.usefixtures("implementation")
def test_no_texts() -> None:
    hidden = torch.zeros(0, 4, requires_grad=True)
    out = pooled_logits(hidden, torch.zeros(1, dtype=torch.int64), torch.ones(9, 4), None)
    assert out.shape == (0, 9)
    out.sum().backward()


@pytest.mark.usefixtures("implementation")
def test_all_logits_negative_gives_zeros_and_no_gradient() -> None:
    hidden, offsets, weight, bias = problem([4, 9], positive=0.5)
    out, *grads = gradients(pooled_logits, hidden, offsets, weight, bias - 100, torch.ones(2, 700))
    assert all(t.count_nonzero() == 0 for t in (out, *grads))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("active", [2, 700])
@pytest.mark.usefixtures("implementation")
def test_ties_go_to_the_first_token(active: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)

    def integers(
        *shape: int,
    ) -> Tensor:  # the products are exact in every dtype, so ties are ties in every BLAS
        return torch.randint(-1, 2, shape, generator=generator).to(dtype)

    lengths = [3, 40, 3, 700]
    hidden, weight, bias = integers(sum(lengths), 16), integers(700, 16), integers(700) + 50
    hidden[:3] = hidden[0]  # every token of the first text says the same; among the others many do by chance
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    upstream = torch.zeros(4, 700)
    upstream[:, :active] = 1.0
    fast = gradients(pooled_logits, hidden, offsets, weight, bias, upstream)
    assert fast[1][0].abs().sum() > 0
    assert fast[1][1:3].count_nonzero() == 0
    for a, b in zip(
        fast, gradients(pooled_logits_plain, hidden, offsets, weight, bias, upstream), strict=True
    ):
        assert torch.equal(a, b.to(a.dtype))  # sums of integers


@pytest.mark.usefixtures("implementation")
def test_equal_tokens_receive_together_what_one_would(monkeypatch) -> None:
    """Their products may differ in the last bit, since a BLAS may sum the rows at a tile's edge in another order."""
    hidden, offsets, weight, bias = problem([3, 203], dtype=torch.float64)
    hidden, weight, bias = hidden.float(), weight.float(), bias.float() + 50  # products are rounded
    hidden[:3], hidden[3:] = hidden[0], hidden[3]
    product, uneven = torch.mm, []

    def mm(a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
        out = product(a, b, out=out)
        out[1::4] = product(a[1::4, :7], b[:7]) + product(a[1::4, 7:], b[7:])
        uneven.append(not torch.equal(out, out[:1].expand_as(out)))
        return out

    monkeypatch.setattr(torch, "mm", mm)
    upstream = torch.randn(2, 700)
    fast = gradients(pooled_logits, hidden, offsets, weight, bias, upstream)
    assert any(uneven)
    one = gradients(pooled_logits, hidden[2:4], torch.tensor([0, 1, 2]), weight, bias, upstream)
    summed = torch.stack([fast[1][:3].sum(0), fast[1][3:].sum(0)])
    for a, b in zip((fast[0], summed, *fast[2:]), one, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5 * b.abs().max().item())


@pytest.mark.usefixtures("implementation")
def test_padded_vocabulary_rows_stay_silent() -> None:
    hidden, offsets, weight, bias = problem([5, 8], vocabulary=704)
    weight[700:], bias[700:] = 0.0, 0.0  # rows that no token owns, as in padded embeddings
    out, *grads = gradients(pooled_logits, hidden, offsets, weight, bias, torch.ones(2, 704))
    assert out[:, 700:].count_nonzero() == 0
    assert grads[1][700:].count_nonzero() == 0
    bias[700:] = float("-inf")  # as some checkpoints mask them
    assert pooled_logits(hidden, offsets, weight, bias)[:, 700:].count_nonzero() == 0


def test_inputs_need_not_be_contiguous() -> None:
    hidden, offsets, weight, bias = problem([5, 8, 40])
    wide = torch.stack([hidden, hidden], dim=2)[:, :, 0]
    assert not wide.is_contiguous()
    upstream = torch.randn(3, 700)
    assert_same(wide, offsets, weight.T.contiguous().T, bias, upstream)
    out = pooled_logits(wide, offsets, weight, bias)
    assert torch.equal(out, pooled_logits(hidden, offsets, weight, bias))
    assert_same(hidden, offsets, weight, bias, upstream[:, :1].expand(-1, 700))


@pytest.mark.parametrize("active", [3, 17])
@pytest.mark.usefixtures("implementation")
def test_gradcheck(active: int) -> None:
    hidden, offsets, weight, bias = problem([3, 0, 1, 4], 3, 17, 0.6, dtype=torch.float64)
    mask = torch.zeros(17, dtype=torch.float64)
    mask[:active] = 1.0
    leaves = [t.requires_grad_() for t in (hidden, weight, bias)]

    def function(h: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return pooled_logits(h, offsets, w, b) * mask

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("implementation")
def test_half_precision_is_close_and_returns_float32(dtype: torch.dtype) -> None:
    hidden, offsets, weight, bias = (
        t.to(dtype) if t.is_floating_point() else t for t in problem([60, 0, 128, 1], 64, 900)
    )
    upstream = torch.randn(4, 900, generator=torch.Generator().manual_seed(0))
    fast = gradients(pooled_logits, hidden, offsets, weight, bias, upstream)
    plain = gradients(pooled_logits_plain, hidden.float(), offsets, weight.float(), bias.float(), upstream)
    assert fast[0].dtype == torch.float32
    assert [t.dtype for t in fast[1:]] == [dtype] * 3
    assert torch.allclose(fast[0], plain[0], atol=2e-2)
    for a, b in zip(fast[1:], plain[1:], strict=True):
        # Rounded scores may pick another of two nearly equal tokens, so compare the whole, not each number.
        assert (a.float() - b).norm() < 0.2 * b.norm()


def test_autocast_runs_in_its_dtype_and_keeps_float32_gradients() -> None:
    hidden, offsets, weight, bias = problem([60, 128, 1], 64, 900)
    upstream = torch.randn(3, 900)

    def under_autocast(*inputs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return pooled_logits(*inputs)

    fast = gradients(under_autocast, hidden, offsets, weight, bias, upstream)
    exact = gradients(pooled_logits, hidden, offsets, weight, bias, upstream)
    assert {t.dtype for t in fast} == {torch.float32}
    assert not torch.equal(fast[0], exact[0])
    assert torch.allclose(fast[0], exact[0], atol=2e-2)


@pytest.mark.parametrize("spoiled", ["hidden", "weight", "bias"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("implementation")
def test_nan_reaches_the_output(spoiled: str, dtype: torch.dtype) -> None:
    hidden, offsets, weight, bias = problem([6, 40], dtype=dtype)
    if spoiled == "hidden":
        hidden[3] = float("nan")
        expected = torch.tensor([True, False]).unsqueeze(1).expand(2, 700)
    else:
        (weight if spoiled == "weight" else bias)[17] = -float("nan")
        expected = torch.zeros(2, 700, dtype=torch.bool)
        expected[:, 17] = True
    out, *grads = gradients(pooled_logits, hidden, offsets, weight, bias, torch.ones(2, 700))
    assert torch.equal(out.isnan(), expected)
    if spoiled != "hidden":
        assert grads[0].isnan().any() == (spoiled == "weight")


def test_gradients_accumulate_over_micro_batches() -> None:
    hidden, offsets, weight, bias = problem([7, 30, 2, 11])
    upstream = torch.randn(4, 700)
    whole = gradients(pooled_logits, hidden, offsets, weight, bias, upstream)
    parameter = weight.clone().requires_grad_()
    for texts in (slice(0, 2), slice(2, 4)):
        bounds = offsets[texts.start : texts.stop + 1]
        part = pooled_logits(hidden[bounds[0] : bounds[-1]], bounds - bounds[0], parameter, bias)
        part.backward(upstream[texts])
    assert torch.allclose(parameter.grad, whole[2], rtol=1e-5, atol=1e-5)


class Encoder(torch.nn.Module):
    """Stands for a transformer with a tied head: the projection is also the embedding table."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(300, 24)
        self.layer = torch.nn.Linear(24, 24)
        self.bias = torch.nn.Parameter(torch.zeros(300))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden, offsets = pack(torch.tanh(self.layer(self.embedding(ids))), mask)
        return pooled_logits(hidden, offsets, self.embedding.weight, self.bias).log1p()


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.zeros(5, 12, dtype=torch.int64)
    for row, length in zip(mask, [12, 3, 1, 0, 7], strict=True):
        row[:length] = 1
    return torch.randint(0, 300, (5, 12)), mask


def parameter_gradients(encoder: Encoder, run) -> list[Tensor]:
    encoder.zero_grad()
    run(*batch()).square().sum().backward()
    return [p.grad.clone() for p in encoder.parameters()]


def test_pack_drops_the_padding() -> None:
    hidden = torch.arange(24.0).view(2, 4, 3)
    packed, offsets = pack(hidden, torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]]))
    assert offsets.tolist() == [0, 2, 5]
    assert torch.equal(packed, torch.cat([hidden[0, :2], hidden[1, 1:]]))


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(reentrant: bool) -> None:
    encoder = Encoder()
    expected = parameter_gradients(encoder, encoder)

    def run(ids: Tensor, mask: Tensor) -> Tensor:
        seed = torch.zeros(1, requires_grad=True)  # the re-entrant mode wants one input with a gradient
        return checkpoint(lambda i, m, _: encoder(i, m), ids, mask, seed, use_reentrant=reentrant)

    for a, b in zip(parameter_gradients(encoder, run), expected, strict=True):
        assert torch.equal(a, b)


def test_compiled_encoder() -> None:
    encoder = Encoder()
    expected = parameter_gradients(encoder, encoder)
    compiled = torch.compile(encoder, backend="aot_eager")
    for a, b in zip(parameter_gradients(encoder, compiled), expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_result_does_not_depend_on_threads_or_blocks(monkeypatch, dtype: torch.dtype) -> None:
    hidden, offsets, weight, bias = problem([199, 1, 0, 100, 1, 700], 8, 1500, dtype=dtype)
    bias += 2.0  # so that a negative maximum shows
    upstream = torch.randn(6, 1500)
    expected = gradients(pooled_logits, hidden, offsets, weight, bias, upstream)
    monkeypatch.setattr(head_cpu, "BLOCK_TOKENS", 50)
    monkeypatch.setattr(head_cpu, "BLOCK_DIMENSIONS", 64)
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found = gradients(pooled_logits, hidden, offsets, weight, bias, upstream)
            for a, b in zip(found, expected, strict=True):
                assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)
            with ThreadPoolExecutor(1) as elsewhere:  # new threads must not inherit the head's own setting
                assert elsewhere.submit(torch.get_num_threads).result() == torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)


def test_a_text_too_long_for_the_head_is_refused() -> None:
    with pytest.raises(InputError, match="40000 tokens"):
        pooled_logits(torch.zeros(40_000, 1), torch.tensor([0, 40_000]), torch.ones(2, 1))


def test_distributed_data_parallel() -> None:
    encoder = Encoder()
    expected = parameter_gradients(encoder, encoder)
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(encoder)
        for a, b in zip(parameter_gradients(encoder, wrapped), expected, strict=True):
            assert torch.equal(a, b)
    finally:
        torch.distributed.destroy_process_group()


def test_custom_op_registration() -> None:
    hidden, offsets, weight, bias = problem([5, 0, 8], 6, 40)
    inputs = (hidden.requires_grad_(), offsets, weight.requires_grad_(), bias, None, torch.float32, True, 8)
    torch.library.opcheck(torch.ops.neural_sparse.pooled_logits.default, inputs)
    columns = torch.tensor([0, 7, 8, 39])
    inputs = (*inputs[:4], columns, *inputs[5:])
    torch.library.opcheck(torch.ops.neural_sparse.pooled_logits.default, inputs)
