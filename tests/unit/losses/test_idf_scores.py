"""Equation 5 against a double loop."""

from __future__ import annotations

import pytest
import torch

from neural_sparse.losses.idf_aware import idf_scores


def scores_by_loops(
    ids: torch.Tensor, mask: torch.Tensor, idf: torch.Tensor, docs: torch.Tensor
) -> torch.Tensor:
    rows = []
    for query, real in zip(ids.tolist(), mask.tolist(), strict=True):
        present = {token for token, is_real in zip(query, real, strict=True) if is_real}
        rows.append(
            torch.stack([sum((idf[t] * doc[t] for t in present), start=0 * doc.sum()) for doc in docs])
        )
    return torch.stack(rows)


@pytest.mark.parametrize("seed", range(8))
def test_equals_a_double_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries, documents, vocabulary, length = [
        int(torch.randint(1, high, (), generator=generator)) for high in (6, 7, 30, 9)
    ]
    ids = torch.randint(0, vocabulary, (queries, length), generator=generator)
    mask = torch.rand(queries, length, generator=generator) < 0.7
    idf = torch.rand(vocabulary, generator=generator, dtype=torch.float64).requires_grad_()
    docs = torch.rand(documents, vocabulary, generator=generator, dtype=torch.float64).requires_grad_()
    fast, plain = idf_scores(ids, mask, idf, docs), scores_by_loops(ids, mask, idf, docs)
    torch.testing.assert_close(fast, plain)
    upstream = torch.rand(fast.shape, generator=generator, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad(fast, (idf, docs), upstream, materialize_grads=True),
        torch.autograd.grad(plain, (idf, docs), upstream, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_by_hand() -> None:
    idf = torch.tensor([0.0, 2.0, 5.0])
    docs = torch.tensor([[9.0, 1.0, 0.5], [9.0, 0.0, 3.0]])
    ids = torch.tensor(
        [[1, 1, 0], [2, 1, 7]]
    )  # a repeated token and a special one; padding beyond the vocabulary
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    assert idf_scores(ids, mask, idf, docs).tolist() == [[2.0, 0.0], [4.5, 15.0]]


def test_a_query_without_tokens_scores_zero() -> None:
    scores = idf_scores(
        torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 1), torch.ones(3), torch.ones(4, 3)
    )
    assert scores.tolist() == [[0.0] * 4] * 2
