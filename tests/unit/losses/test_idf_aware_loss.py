"""The composition: equation 7 by hand, the schedule, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import make_tokenizer
from torch import Tensor

from neural_sparse import IDFAwareLoss, InputError, compute_idf_weights
from neural_sparse.idf import document_frequencies
from neural_sparse.losses.flops import flops_loss
from neural_sparse.losses.idf_aware import idf_scores
from neural_sparse.losses.ranking import RANKING_LOSSES


def batch(seed: int = 0, queries: int = 3, documents: int = 6, vocabulary: int = 20) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "query_ids": torch.randint(0, vocabulary, (queries, 4), generator=generator),
        "query_mask": torch.rand(queries, 4, generator=generator) < 0.8,
        "documents": torch.rand(documents, vocabulary, generator=generator).requires_grad_(),
        "teacher_scores": 20 * torch.rand(queries, documents, generator=generator),
    }


IDF = torch.linspace(0, 9, 20)


def test_equation_7_by_hand() -> None:
    """One query "rare common", two documents alike; the first is the relevant one.

    Scores tie, so softmax(student) = (1/2, 1/2) against the teacher's (1, 0): the ranking gradient on the
    relevant document's d_t is -1/2 idf(t), the FLOPS gradient 2 * mean_t / 2 = mean_t whatever the IDF.
    """
    rare, common, absent = 0, 1, 2
    idf = torch.tensor([9.0, 0.25, 4.0])
    documents = torch.tensor([[0.8, 0.8, 0.8], [0.8, 0.8, 0.8]], requires_grad=True)
    loss = IDFAwareLoss(idf, 3, lambda_flops=0.5, ramp_steps=0)
    parts = loss(torch.tensor([[rare, common]]), torch.ones(1, 2), documents, torch.tensor([[1000.0, 0.0]]))

    (ranking,) = torch.autograd.grad(parts["ranking"], documents, retain_graph=True)
    assert ranking[0, rare].item() == pytest.approx(-0.5 * 9.0)
    assert ranking[0, common].item() == pytest.approx(-0.5 * 0.25)
    assert ranking[0, rare] / ranking[0, common] == pytest.approx(9.0 / 0.25)
    assert ranking[0, absent] == 0
    torch.testing.assert_close(ranking[1], -ranking[0])

    (flops,) = torch.autograd.grad(parts["flops"], documents, retain_graph=True)
    torch.testing.assert_close(flops, torch.full((2, 3), 0.8))  # 2 * mean / documents

    (total,) = torch.autograd.grad(parts["loss"], documents)
    torch.testing.assert_close(total, ranking + 0.5 * flops)
    assert total[0, rare] < 0  # a descent step raises it: kept
    assert total[0, common] > 0  # pushed out, although it matched
    assert total[0, absent] > 0


@pytest.mark.parametrize("seed", range(4))
def test_is_its_parts(seed: int) -> None:
    given = batch(seed)
    mask = torch.rand(3, 6, generator=torch.Generator().manual_seed(seed)) < 0.7
    positive = torch.tensor([5, 0, 2])
    loss = IDFAwareLoss(IDF, 20, 0.3, ranking={"kl": 1.0, "info_nce": 0.1, "margin_mse": 0.05}, ramp_steps=10)
    loss.step = 5
    parts = loss(**given, mask=mask, positive=positive)
    scores = idf_scores(given["query_ids"], given["query_mask"], IDF, given["documents"])
    torch.testing.assert_close(parts["scores"], scores.detach())
    ranking = sum(
        weight * RANKING_LOSSES[name](scores, given["teacher_scores"], mask, positive)
        for name, weight in [("kl", 1.0), ("info_nce", 0.1), ("margin_mse", 0.05)]
    )
    flops = flops_loss(given["documents"])
    torch.testing.assert_close(parts["ranking"], ranking)
    torch.testing.assert_close(parts["flops"], flops)
    torch.testing.assert_close(parts["loss"], ranking + 0.3 * 0.25 * flops)
    assert not parts["scores"].requires_grad


def test_positive_is_the_first_of_equal_groups() -> None:
    given = batch()
    del given["teacher_scores"]
    loss = IDFAwareLoss(IDF, 20, 0.0, ranking="info_nce")
    implied, said = loss(**given), loss(**given, positive=torch.tensor([0, 2, 4]))
    assert implied["ranking"] == said["ranking"]
    assert not loss.needs_teacher


def test_lambda_grows_with_steps() -> None:
    loss = IDFAwareLoss(IDF, 20, 0.02, ramp_steps=4)
    seen = []
    for loss.step in range(6):
        seen.append(loss.current_lambda)
    assert seen == pytest.approx([0.0, 0.02 / 16, 0.02 / 4, 0.02 * 9 / 16, 0.02, 0.02])
    loss.step = 0
    parts = loss(**batch())
    assert parts["loss"] == parts["ranking"]


def test_bf16_documents_are_scored_in_float32() -> None:
    given = batch()
    given["documents"] = given["documents"].bfloat16()
    parts = IDFAwareLoss(IDF, 20, 0.1)(**given)
    assert all(part.dtype == torch.float32 for part in parts.values())


def test_idf_can_be_left_out_of_matching() -> None:
    given = batch()
    loss = IDFAwareLoss(IDF, 20, 0.1, idf_in_matching=False)
    assert loss.idf.tolist() == [0.0] + [1.0] * 19  # a special token stays silent
    assert (
        loss(**given)["scores"]
        == idf_scores(given["query_ids"], given["query_mask"], loss.idf, given["documents"])
    ).all()


@pytest.mark.parametrize("name", sorted(RANKING_LOSSES))
def test_temperature_divides_the_students_scores_alone(name: str) -> None:
    given = batch()
    parts = IDFAwareLoss(IDF, 20, 0.1, ranking=name, temperature=5.0)(**given)
    scores = idf_scores(given["query_ids"], given["query_mask"], IDF, given["documents"])
    mask = torch.ones_like(scores, dtype=torch.bool)
    expected = RANKING_LOSSES[name](scores / 5, given["teacher_scores"], mask, torch.tensor([0, 2, 4]))
    torch.testing.assert_close(parts["ranking"], expected)
    torch.testing.assert_close(parts["scores"], scores.detach())


def test_other_relevant_documents_are_no_negatives() -> None:
    given = batch()
    given["documents"] = given["documents"].detach()
    also = torch.zeros(3, 6, dtype=torch.bool)
    also[0, 5] = also[2, 1] = True
    loss = IDFAwareLoss(IDF, 20, 0.0, ranking="info_nce")
    scores = loss(**given)["scores"]
    expected = 0.0
    for query, positive in enumerate((0, 2, 4)):
        kept = [scores[query, column] for column in range(6) if not also[query, column]]
        expected += float(torch.stack(kept).logsumexp(0) - scores[query, positive]) / 3
    assert loss(**given, other_relevant=also)["ranking"].item() == pytest.approx(expected, rel=1e-5)
    assert loss(**given)["ranking"].item() > expected


def test_frequent_tokens_can_be_pressed_harder() -> None:
    given = batch()
    documents = given["documents"]
    plain = IDFAwareLoss(IDF, 20, 0.1)(**given)["flops"]
    weighted = IDFAwareLoss(IDF, 20, 0.1, frequency_weighted_flops=True)(**given)["flops"]
    (even,), (tilted,) = (torch.autograd.grad(part, documents) for part in (plain, weighted))
    share = tilted[0] / even[0]
    assert (share.diff()[1:] < 0).all()  # IDF rises along the vocabulary here, from 0 of a special token
    assert share[0] == 1


@pytest.mark.parametrize("default", [None, 0.25])
def test_pressure_follows_the_documents_that_were_counted(
    default: float | None, bert_tokenizer: Any, texts: list[str]
) -> None:
    given = {} if default is None else {"default_idf": default}
    table = compute_idf_weights(texts, bert_tokenizer, show_progress=False, **given)
    loss = IDFAwareLoss(table, len(table), 0.1, frequency_weighted_flops=True)
    found = loss.flops_weights
    assert found is not None
    counts = document_frequencies(texts, bert_tokenizer, show_progress=False).counts
    assert 10 < (counts == 0).sum() < len(counts) - 10
    expected = np.where(counts > 0, 1 + 10 * (counts + 0.5) / (len(texts) + 1), 1)
    expected[bert_tokenizer.all_special_ids] = 1
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


class TestTables:
    def test_what_compute_idf_weights_returns(self, bert_tokenizer: Any, texts: list[str]) -> None:
        weights = compute_idf_weights(texts, bert_tokenizer)
        loss = IDFAwareLoss(
            idf_weights=weights,
            vocab_size=bert_tokenizer.vocab_size,
            lambda_flops=0.02,
            default_idf=1.0,
            device="cpu",
        )
        np.testing.assert_array_equal(loss.idf.numpy(), weights.vector)
        loss.idf[5] += 1
        assert loss.idf[5] != weights.vector[5]  # a copy

    def test_a_plain_table_needs_its_tokenizer(self, bert_tokenizer: Any) -> None:
        table, size = {"list": 3.0}, len(bert_tokenizer.get_vocab())
        with pytest.raises(InputError, match="needs `tokenizer=`"):
            IDFAwareLoss(table, size, 0.1)
        loss = IDFAwareLoss(table, size, 0.1, 0.5, tokenizer=bert_tokenizer)
        assert loss.idf[bert_tokenizer.convert_tokens_to_ids("list")] == 3.0
        assert loss.idf[bert_tokenizer.convert_tokens_to_ids("the")] == 0.5
        assert loss.idf[bert_tokenizer.cls_token_id] == 0

    def test_another_vocabulary(self, texts: list[str]) -> None:
        weights = compute_idf_weights(texts, make_tokenizer("roberta"))
        with pytest.raises(InputError, match=r"the IDF table has \d+ tokens, the vocabulary 30,522"):
            IDFAwareLoss(weights, 30_522, 0.1)

    def test_settings_that_make_no_sense(self) -> None:
        with pytest.raises(
            InputError, match=r"unknown ranking loss \['kll'\]: choose from kl, margin_mse, info_nce"
        ):
            IDFAwareLoss(IDF, 20, 0.1, ranking={"kll": 1.0})
        with pytest.raises(InputError, match="lambda_flops must be >= 0"):
            IDFAwareLoss(IDF, 20, -0.1)
        with pytest.raises(InputError, match="temperature must be positive, not 0"):
            IDFAwareLoss(IDF, 20, 0.1, temperature=0)
