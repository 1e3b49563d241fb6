"""One step of a loop of one's own, against the same step written out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from neural_sparse import IDFAwareLoss, InputError, NeuralSparseEncoder, compute_idf_weights, train_step

BATCH = {
    "queries": ["sort list", "open file"],
    "documents": [["return a new list", "file"], ["open a file and return a stream", "python objects"]],
}
FLAT = [text for group in BATCH["documents"] for text in group]


class FixedTeacher:
    """Scores that a test can name; one of them unknown."""

    def score(self, queries: list[str], documents: list[str]) -> torch.Tensor:
        assert (queries, documents) == (BATCH["queries"], FLAT)
        return torch.tensor([[9.0, 1.0, torch.nan, 0.0], [0.0, 2.0, 9.0, 3.0]])


@pytest.fixture
def model(tiny_model: Callable[..., Path]) -> NeuralSparseEncoder:
    model = NeuralSparseEncoder(tiny_model("bert"), max_length=16)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def loss_for(model: NeuralSparseEncoder, texts: list[str], **kwargs: Any) -> IDFAwareLoss:
    return IDFAwareLoss(
        compute_idf_weights(texts, model.tokenizer), model.vocab_size, 0.1, ramp_steps=2, **kwargs
    )


@pytest.mark.parametrize("with_scaler", [False, True])
def test_equals_the_step_written_out(model: NeuralSparseEncoder, texts: list[str], with_scaler: bool) -> None:
    plain = copy.deepcopy(model)
    loss_fn, reference = loss_for(model, texts), loss_for(model, texts)
    loss_fn.step = reference.step = 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu") if with_scaler else None
    result = train_step(BATCH, model, loss_fn, optimizer, scaler, FixedTeacher(), max_grad_norm=0.5)  # type: ignore[arg-type]

    theirs = torch.optim.AdamW(plain.parameters(), lr=1e-3)
    batch = plain.tokenizer(FLAT, padding=True, return_tensors="pt")
    queries = plain.tokenizer(BATCH["queries"], padding=True, add_special_tokens=False, return_tensors="pt")
    plain.train()
    targets = FixedTeacher().score(BATCH["queries"], FLAT)
    parts = reference(
        queries["input_ids"],
        queries["attention_mask"],
        plain(batch["input_ids"], batch["attention_mask"]),
        targets.nan_to_num(),
        ~targets.isnan(),
    )
    parts["loss"].backward()
    torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    theirs.step()

    assert result["loss"] == pytest.approx(parts["loss"].item(), rel=1e-4)
    assert result["lambda"] == pytest.approx(0.1 / 4)
    assert result["avg_nonzero_terms"] > 0
    assert loss_fn.step == 2
    for (name, ours), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, other, atol=2e-4, rtol=0, msg=name)


def test_without_teacher_and_with_scheduler(model: NeuralSparseEncoder, texts: list[str]) -> None:
    loss_fn = loss_for(model, texts, ranking="info_nce")
    loss_fn.lambda_flops = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    batch = {"queries": BATCH["queries"], "documents": [["return a new list"], ["open a file"]]}
    first = train_step(batch, model, loss_fn, optimizer, scheduler=scheduler)["ranking"]
    assert scheduler.get_last_lr() == [5e-4]
    for _ in range(8):
        last = train_step(batch, model, loss_fn, optimizer)["ranking"]
    assert last < first


def test_lists_of_unequal_length(model: NeuralSparseEncoder, texts: list[str]) -> None:
    loss_fn = loss_for(model, texts, ranking="info_nce")
    optimizer = torch.optim.AdamW(model.parameters())
    for documents in ([["a"], ["b", "c"]], [["a"]], [[], []], []):
        with pytest.raises(InputError, match="one list of documents per query, all of one length"):
            train_step({"queries": ["a", "b"], "documents": documents}, model, loss_fn, optimizer)


def test_a_loss_that_is_not_finite_updates_nothing(model: NeuralSparseEncoder, texts: list[str]) -> None:
    loss_fn = loss_for(model, texts, ranking="info_nce")
    loss_fn.idf[:] = torch.inf
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(InputError, match="the loss is not finite"):
        train_step(BATCH, model, loss_fn, torch.optim.AdamW(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert loss_fn.step == 0


def test_losses_are_those_of_float32_whatever_surrounds_the_step(
    model: NeuralSparseEncoder, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step inside an autocast region, as a GPU's is: the documents are bfloat16's, what is made of them is not."""
    loss_fn = loss_for(model, texts, ranking={"kl": 1.0, "info_nce": 1.0})
    loss_fn.step = 2
    seen: dict[str, Any] = {}
    forward = IDFAwareLoss.forward

    def noting(self: IDFAwareLoss, *args: Any, **named: Any) -> dict[str, torch.Tensor]:
        seen["args"], seen["named"], seen["parts"] = args, named, forward(self, *args, **named)
        return seen["parts"]

    monkeypatch.setattr(IDFAwareLoss, "forward", noting)
    with torch.autocast("cpu", torch.bfloat16):
        train_step(BATCH, model, loss_fn, torch.optim.SGD(model.parameters(), 0.0), teacher=FixedTeacher())  # type: ignore[arg-type]
    loss_fn.step = 2
    expected = forward(loss_fn, *seen["args"], **seen["named"])
    for name, part in expected.items():
        assert torch.equal(seen["parts"][name], part), name
