"""Training on a sample of the vocabulary: one sample for all who need it, and gradients that are right on average."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from safetensors.torch import load_file
from tiny_models import TEXTS
from torch import Tensor

from neural_sparse.config import Recipe, TeacherConfig
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.idf import compute_idf_weights
from neural_sparse.io.files import read_json
from neural_sparse.losses.vocabulary_sample import VocabularySample, VocabularySampler
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.training import vocabulary
from neural_sparse.training.cost_target import CostTarget
from neural_sparse.training.monitor import DimensionMonitor
from neural_sparse.training.setup import build_trainer, vocabulary_sampler
from neural_sparse.training.train import train
from neural_sparse.training.trainer import NeuralSparseTrainer
from neural_sparse.training.vocabulary import RunVocabulary, SamplingCollator

WORDS = sorted({word for text in TEXTS for word in text.lower().rstrip(".").split()})
DRAWS = 120


class Teachers:
    def scores(self, queries: Any, documents: Any, own: Any) -> tuple[Tensor, Tensor]:
        scores = 9 * np.cos(3.0 * np.asarray(queries)[:, None] + np.asarray(documents)[None])
        return torch.from_numpy(scores).float(), torch.ones(own.shape, dtype=torch.bool)


@pytest.fixture
def data() -> TrainingSet:
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, rng.integers(3, 20))) for _ in range(24)]
    queries = [" ".join(text.split()[:3]) for text in documents[:12]]
    return TrainingSet(
        queries, documents, np.arange(12), [np.arange(12 + row, 14 + row) for row in range(10)] * 2
    )


@pytest.fixture
def recipe(tiny_model: Callable[..., Path], tmp_path: Path) -> Recipe:
    return Recipe(
        init=str(tiny_model()),
        train=("none",),
        output=str(tmp_path / "run"),
        teachers=(TeacherConfig("bm25"),),
        max_length=32,
        bf16=False,
        lambda_flops=3.0,
        flops_ramp_steps=0,
        vocabulary_sample=24,
        num_hard_negatives=2,
        warmup_steps=0,
        learning_rate=1e-3,
        batch_size=3,
        num_steps=4,
        save_steps=2,
        logging_steps=1,
    )


def trainer_of(recipe: Recipe, data: TrainingSet) -> NeuralSparseTrainer:
    torch.manual_seed(0)
    model = NeuralSparseEncoder(recipe.init, 32, own_words=recipe.own_words, device="cpu")
    idf = compute_idf_weights(data.documents, model.tokenizer, show_progress=False)
    model.set_query_weights(idf)
    rows, width = len(data.documents), model.vocab_size
    wanted = sp.random(rows, width, 0.1, format="csr", dtype=np.float32, random_state=0)
    terms = (lambda rows: wanted[rows]) if recipe.term_targets else None
    return build_trainer(recipe, model, idf, data, Teachers(), None, terms)  # type: ignore[arg-type]


def batches(trainer: NeuralSparseTrainer) -> list[dict[str, Any]]:
    return list(trainer.get_train_dataloader())


def test_without_the_key_nothing_is_sampled(recipe: Recipe, data: TrainingSet) -> None:
    for size in (0, 10_000):  # as many as there are, or more
        trainer = trainer_of(replace(recipe, vocabulary_sample=size), data)
        loader = trainer.get_train_dataloader()
        assert loader.collate_fn is trainer.collator
        assert loader.dataset is trainer.schedule
        batch = next(iter(loader))
        assert "sample" not in batch
        assert "columns" not in batch["documents"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"own_words": 2.0, "own_words_learning_rate": 0.1, "frequency_weighted_flops": True},
        {"term_targets": {"bm25": 1.0}, "train_query_weights": True},
    ],
)
def test_gradients_on_average_are_those_of_the_whole_vocabulary(
    recipe: Recipe, data: TrainingSet, settings: dict[str, Any]
) -> None:
    trainer = trainer_of(replace(recipe, **settings), data)
    model, objective = trainer.model.eval(), trainer.loss
    collator = trainer.get_train_dataloader().collate_fn
    assert isinstance(collator, SamplingCollator)
    examples = [trainer.schedule[position] for position in range(3)]
    asked = collator.sample_of(0).columns[collator.sample_of(0).weights == 1].numpy()
    trained = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}

    def gradient(sample: VocabularySample | None) -> tuple[dict[str, float], Tensor]:
        model.zero_grad()
        parts = objective(trainer.collator(examples, sample))
        parts["loss"].backward()
        flat = [
            torch.zeros(0) if weights.grad is None else weights.grad.flatten() for weights in trained.values()
        ]
        return {name: float(value.detach()) for name, value in parts.items()}, torch.cat(flat).double()

    expected, whole = gradient(None)
    found, differences = [], []
    for step in range(DRAWS):
        parts, here = gradient(collator.vocabulary.sampler.sample(step, asked))
        assert parts["ranking"] == pytest.approx(expected["ranking"], rel=1e-5)
        found.append(parts)
        differences.append(here - whole)
    for name in expected.keys() - {"ranking", "teacher_agreement"}:
        values = np.array([parts[name] for parts in found])
        assert values.std() > 0, name
        assert abs(values.mean() - expected[name]) < 4 * values.std() / DRAWS**0.5, name
    drawn = torch.stack(differences)
    error = drawn.std(0) / DRAWS**0.5
    assert float(error.norm()) < 0.2 * float(whole.norm())  # so that being near means something
    assert float(drawn.mean(0).norm()) < 2 * float(error.norm())


def test_batches_of_a_step_share_a_sample_with_all_of_their_queries(
    recipe: Recipe, data: TrainingSet
) -> None:
    trainer = trainer_of(replace(recipe, gradient_accumulation_steps=2), data)
    found = batches(trainer)
    assert len(found) == 8
    samples = [batch["sample"] for batch in found]
    for first, second in zip(samples[::2], samples[1::2], strict=True):
        assert torch.equal(first.columns, second.columns)
        assert torch.equal(first.weights, second.weights)
    assert not torch.equal(samples[0].columns, samples[2].columns)
    for batch, sample in zip(found, samples, strict=True):
        assert torch.equal(batch["documents"]["columns"], sample.columns)
        assert (sample.within(batch["query_terms"].columns)[1] == 1).all()


def test_the_gradient_cache_has_the_gradients_of_the_whole_batch(recipe: Recipe, data: TrainingSet) -> None:
    found = []
    for settings in ({}, {"cache_tokens": 20}):
        trainer = trainer_of(replace(recipe, own_words=2.0, **settings), data)
        trainer.model.eval()
        trainer.loss(batches(trainer)[0])["loss"].backward()
        found.append([weights.grad for weights in trainer.model.parameters() if weights.grad is not None])
    ours, theirs = (torch.cat([part.flatten() for part in parts]) for parts in found)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("saved", [2, 3])
def test_a_resumed_run_ends_with_the_same_weights(
    recipe: Recipe, data: TrainingSet, tmp_path: Path, saved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "EVERY", 2)

    def weights(model: Path) -> dict[str, Tensor]:
        files = sorted(model.rglob("*.safetensors"))
        return {
            f"{file.relative_to(model)} {name}": part
            for file in files
            for name, part in load_file(file).items()
        }

    recipe = replace(recipe, ranking={"info_nce": 1.0}, teachers=(), num_steps=6, save_steps=saved)
    recipe = replace(recipe, gradient_accumulation_steps=2, save_total_limit=9)
    whole = train(recipe, data=data)
    cut = replace(recipe, output=str(tmp_path / "cut"))
    shutil.copytree(recipe.output, cut.output)
    shutil.rmtree(tmp_path / "cut" / "final_model")
    for step in range(2 * saved, 7, saved):
        shutil.rmtree(tmp_path / "cut" / f"checkpoint-{step}")
    expected, found = weights(whole), weights(train(cut, data=data))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert set(read_json(whole.parent / "metrics.json")["estimated"]) == {"flops", "nonzero_terms"}
    other = train(replace(recipe, output=str(tmp_path / "other"), vocabulary_sample=0), data=data)
    assert any(not torch.equal(expected[name], part) for name, part in weights(other).items())


def test_tokens_of_great_weight_are_always_there(recipe: Recipe, data: TrainingSet) -> None:
    recipe = replace(recipe, vocabulary_sample=100, num_steps=16, save_steps=100, learning_rate=0.0)
    trainer = trainer_of(recipe, data)
    run = trainer.vocabulary
    assert isinstance(run, RunVocabulary)
    trainer.train()
    vectors = trainer.model.encode_documents(data.documents)
    heaviest = np.argsort(-np.asarray(vectors.mean(0))[0])[:6]
    assert sorted(run._orders) == [0, 1]

    def always(step: int) -> set[int]:
        sample = run.sample(step, np.array([], np.int64))
        return set(sample.columns[sample.weights == 1].tolist())

    assert set(run.sampler.order[:50]) <= always(10)  # still by frequency
    assert set(run._orders[1][:50]) <= always(11)
    assert set(heaviest) <= always(11)


def test_order_of_tokens_by_what_is_known_of_them(idf_order: np.ndarray) -> None:
    run = RunVocabulary(VocabularySampler(idf_order, 2, 2, 0), "cpu")
    run.see(torch.tensor([[0.0, 2.0, 1.0]]), VocabularySample(torch.tensor([1, 3, 5]), torch.ones(3)))
    run.see(torch.tensor([[0.0], [1.0]]), VocabularySample(torch.tensor([3]), torch.ones(1)))
    # 3 and 5 have the mean weight 1; then those not seen yet, the most frequent first; last 1, which nobody had.
    assert run._order().tolist() == [5, 3, 4, 2, 0, 1]


@pytest.fixture
def idf_order() -> np.ndarray:
    return np.array([5, 1, 4, 3, 2, 0])


def test_the_cost_is_estimated_without_bias(recipe: Recipe, data: TrainingSet) -> None:
    trainer = trainer_of(replace(recipe, target_flops=1.0, lambda_flops=0.1, flops_ramp_steps=1), data)
    cost = trainer.cost
    assert isinstance(cost, CostTarget)
    generator = torch.Generator().manual_seed(0)
    documents = torch.rand(8, trainer.model.vocab_size, generator=generator)
    documents *= documents > 0.6
    expected = cost._sums(documents, None)
    samples = [trainer.vocabulary.sampler.sample(step, np.array([20])) for step in range(1000)]
    sums = torch.stack([cost._sums(documents[:, sample.columns], sample) for sample in samples])
    assert (sums[:, 1] == expected[1]).all()
    error = sums[:, 0].std() / 1000**0.5
    assert error > 0
    assert (sums[:, 0].mean() - expected[0]).abs() < 4 * error


def test_saturation_is_that_of_the_dimensions_in_every_sample() -> None:
    monitor = DimensionMonitor(torch.tensor([False, True, True, True, True]))
    for columns, present in (([0, 1, 2], [[1, 1, 0], [1, 1, 1]]), ([0, 1, 4], [[1, 0, 1], [1, 0, 1]])):
        sample = VocabularySample(torch.tensor(columns), torch.ones(3))
        monitor.update(torch.tensor(present, dtype=torch.float32), sample)
    assert monitor.take() == {"saturation": 0.5}
    assert monitor.take() == {}


def test_half_of_the_sample_are_the_most_frequent_tokens(recipe: Recipe, data: TrainingSet) -> None:
    trainer = trainer_of(recipe, data)
    model = trainer.model
    idf = compute_idf_weights(data.documents, model.tokenizer, show_progress=False)
    sampler = vocabulary_sampler(recipe, idf)
    assert sampler is not None
    sample = sampler.sample(0, np.array([], np.int64))
    always = sample.columns[sample.weights == 1]
    assert len(sample.columns) == 24
    seen = [
        (idf.vector[token], token) for token in range(len(idf.vector)) if idf.vector[token] not in (0.0, 1.0)
    ]
    assert {token for _, token in sorted(seen)[:12]} <= set(always.tolist())
