"""Cures of a backbone: what they do to logits and tokens, and that the model stays a plain one."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tiny_models import ARCHITECTURES, SIZE, make_tokenizer

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.model.calibration import logit_range, scale_logits, shift_logits
from neural_sparse.model.encoder import SILENT
from neural_sparse.model.folding import fold_variants, variants
from neural_sparse.model.new_head import fit_head
from neural_sparse.model.tokenizer import load_tokenizer
from neural_sparse.text.tokens import tokenize

TinyModel = Callable[..., Path]


def pooled(model: NeuralSparseEncoder, texts: list[str]) -> np.ndarray:
    """The largest logit of each ordinary token, [texts, tokens]."""
    batch = model.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model.mlm(**{key: batch[key] for key in ("input_ids", "attention_mask")}).logits
        logits = torch.nn.functional.linear(hidden, model.projection.weight, model.projection.bias)
    logits = logits.masked_fill(batch["attention_mask"][..., None] == 0, -torch.inf).amax(1)
    return np.delete(logits.numpy(), model.tokenizer.all_special_ids, axis=1)


def same_after_saving(model: NeuralSparseEncoder, texts: list[str], folder: Path) -> None:
    model.save_pretrained(str(folder))
    plain, again = SparseEncoder(str(folder)), NeuralSparseEncoder(folder)
    expected = model.encode_documents(texts).toarray()
    assert (expected > 0).any()
    np.testing.assert_allclose(again.encode_documents(texts).toarray(), expected, atol=1e-5)
    found = plain.encode_document(texts, convert_to_sparse_tensor=False).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    queries = plain.encode_query(texts, convert_to_sparse_tensor=False).numpy()
    np.testing.assert_allclose(queries, model.encode_queries(texts).toarray(), atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_scaled_and_shifted_in_the_weights(
    architecture: str, tiny_model: TinyModel, texts: list[str], tmp_path: Path
) -> None:
    model = NeuralSparseEncoder(tiny_model(architecture))
    embeddings = model.mlm.get_input_embeddings().weight.clone()
    before, found = pooled(model, texts), logit_range(model, texts)
    scale_logits(model, 0.25)
    shift_logits(model, -0.5)
    np.testing.assert_allclose(pooled(model, texts), 0.25 * before - 0.5, atol=1e-5)
    assert torch.equal(model.mlm.get_input_embeddings().weight, embeddings)  # tied ones too
    assert logit_range(model, texts).spread == pytest.approx(0.25 * found.spread, rel=1e-4)
    assert model.projection.bias.detach()[model.tokenizer.all_special_ids].max() == SILENT
    same_after_saving(model, texts, tmp_path / "model")


def test_the_measurement_chooses_the_cures(
    tiny_model: TinyModel, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neural_sparse.model.calibration.ENOUGH", 1)  # of a vocabulary of few words
    model = NeuralSparseEncoder(tiny_model("bert"))
    scale_logits(model, 30 / logit_range(model, texts).spread)
    large = logit_range(model, texts)
    assert large.spread == pytest.approx(30, rel=1e-3)
    assert large.active > 0.3
    expected = pooled(model, texts)
    assert large.active == pytest.approx((expected > 0).mean())
    scale_logits(model, large.scale)
    shift_logits(model, large.shift)
    cured = logit_range(model, texts)
    assert cured.spread == pytest.approx(2, rel=0.05)
    assert cured.active < 0.05
    assert (cured.scale, cured.shift) == (1, 0)  # nothing is left to do


@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta"])
def test_variants_are_folded_in_the_tokenizer(
    architecture: str, tiny_model: TinyModel, texts: list[str], tmp_path: Path
) -> None:
    model = NeuralSparseEncoder(tiny_model(architecture), idf=None)
    assert variants(model.tokenizer)
    upper, lower = (tokenize([text], model.tokenizer).ids.tolist() for text in ("The file", "the file"))
    assert upper != lower
    gone = fold_variants(model, SILENT)
    ids = [tokenize([text], model.tokenizer).ids.tolist() for text in ("The file", "the file", " THE FILE")]
    assert ids[0] == ids[1] == ids[2]
    word, twice = (tokenize([text], model.tokenizer).ids.tolist() for text in ("file", "file file"))
    assert twice == word + word  # the first word is the token it is elsewhere
    silent = (model.encode_documents(texts).toarray() > 0).any(0)
    names = model.tokenizer.convert_ids_to_tokens(list(range(model.vocab_size)))
    capital = [name.isascii() and name != name.lower() for name in names]
    assert gone >= 5
    assert not silent[np.flatnonzero(capital)].any()
    same_after_saving(model, [*texts, "The FILE"], tmp_path / "model")
    again = load_tokenizer(str(tmp_path / "model"))
    assert tokenize(["The file"], again).ids.tolist() == ids[0]


def encoder_alone(folder: Path, architecture: str = "bert", sentences: bool = True) -> Path:
    """A sentence-embedding model, or a bare encoder, of random weights."""
    import transformers as hf

    tokenizer = make_tokenizer(architecture)
    torch.manual_seed(0)
    kinds = {"bert": (hf.BertConfig, hf.BertModel), "xlm-roberta": (hf.XLMRobertaConfig, hf.XLMRobertaModel)}
    config, make = kinds[architecture]
    size = {**SIZE, "vocab_size": len(tokenizer), "max_position_embeddings": 66, "initializer_range": 0.1}
    size["hidden_size"] = 48
    make(config(**size, pad_token_id=tokenizer.pad_token_id)).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    if not sentences:
        return folder / "encoder"
    transformer = Transformer(str(folder / "encoder"))
    pooling = Pooling(transformer.get_embedding_dimension(), "mean")
    SentenceTransformer(modules=[transformer, pooling]).save_pretrained(str(folder / "sentences"))
    return folder / "sentences"


@pytest.mark.parametrize(
    ("architecture", "sentences"), [("bert", True), ("bert", False), ("xlm-roberta", True)]
)
def test_an_encoder_without_a_head_gets_one(
    architecture: str, sentences: bool, texts: list[str], tmp_path: Path
) -> None:
    folder = encoder_alone(tmp_path, architecture, sentences)
    with pytest.raises(InputError, match="new_head=true"):
        NeuralSparseEncoder(folder)
    words, draw = " ".join(texts).split(), random.Random(0)
    documents = [" ".join(draw.choices(words, k=12)) for _ in range(60)]
    models = []
    for _ in range(2):
        model = NeuralSparseEncoder(folder, new_head=True)
        fit_head(model, documents)
        models.append(model)
    first, second = (model.encode_documents(texts).toarray() for model in models)
    assert (first == second).all()  # however the head was drawn
    ids = [
        set(tokenize([text], model.tokenizer).ids.tolist()) - {model.tokenizer.unk_token_id} for text in texts
    ]
    own = [first[row, list(mine)] > 0 for row, mine in enumerate(ids)]
    others = [np.delete(first[row], list(mine)) > 0 for row, mine in enumerate(ids)]
    assert np.concatenate(own).mean() > 4 * np.concatenate(others).mean()
    assert np.concatenate(own).mean() > 0.5
    same_after_saving(model, texts, tmp_path / "model")
    with pytest.raises(InputError, match="has a masked-LM head: leave out new_head"):
        NeuralSparseEncoder(tmp_path / "model", new_head=True)


def test_heads_that_cannot_be_cured_say_so(tiny_model: TinyModel, texts: list[str], tmp_path: Path) -> None:
    model = NeuralSparseEncoder(tiny_model("bert"))
    model.projection.bias = None
    with pytest.raises(InputError, match="logit_shift needs an output projection with a bias"):
        shift_logits(model, 1.0)
    with pytest.raises(InputError, match="fold_variants needs an output projection with a bias"):
        fold_variants(model, SILENT)
    folder = encoder_alone(tmp_path)
    with pytest.raises(InputError, match="too few to fit a head of width 48"):
        fit_head(NeuralSparseEncoder(folder, new_head=True), texts[:1])
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="was not found"):
        NeuralSparseEncoder(folder, new_head=True)
