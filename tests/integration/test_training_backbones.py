"""Random backbones of several shapes, whose large logits keep all dimensions active, train once they are cured."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder
from transformers import (
    ModernBertConfig,
    ModernBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from neural_sparse import NeuralSparseEncoder, train
from neural_sparse.config import Recipe
from neural_sparse.model.calibration import logit_range, scale_logits

pytestmark = pytest.mark.integration
WORDS = 400
EARLY = 40  # steps, after which the uncured is looked at
SHAPES = {
    "roberta": (RobertaConfig, RobertaForMaskedLM),
    "modernbert": (ModernBertConfig, ModernBertForMaskedLM),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaForMaskedLM),
}


def backbone(shape: str, folder: Path) -> Path:
    """A random masked LM over a few hundred words, whose logits spread by 40."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*marks, *(f"w{number}" for number in range(WORDS))]
    raw = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), marks, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **names)
    config, make = SHAPES[shape]
    torch.manual_seed(0)
    ends = {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    make(config(vocab_size=len(words), max_position_embeddings=66, **size, **ends)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = NeuralSparseEncoder(folder, 32, device="cpu")
    scale_logits(model, 40 / logit_range(model, ["w1 w2 w3"]).spread)
    with torch.no_grad():
        model.projection.bias[5:] += 20.0  # and most of them above 0
    model.save_pretrained(str(folder / "large"))
    return folder / "large"


@pytest.mark.parametrize("shape", SHAPES)
def test_trains_without_collapse(shape: str, tmp_path: Path) -> None:
    draw = random.Random(0)
    documents = [[f"w{draw.randrange(WORDS)}" for _ in range(12)] for _ in range(200)]
    with (tmp_path / "pairs.jsonl").open("w") as out:
        for words in documents:
            out.write(json.dumps({"query": " ".join(draw.sample(words, 3)), "pos": " ".join(words)}) + "\n")
    start = backbone(shape, tmp_path / "backbone")
    texts = [" ".join(words) for words in documents[:16]]
    before = logit_range(NeuralSparseEncoder(start, 32, device="cpu"), texts)
    assert before.active > 0.5
    recipe = Recipe(
        init=str(start),
        train=(str(tmp_path / "pairs.jsonl"),),
        output=str(tmp_path / "uncured"),
        teacher_cache=str(tmp_path / "cache"),
        ranking={"info_nce": 1.0},
        lambda_flops=3e-4,
        num_steps=EARLY,
        batch_size=8,
        num_hard_negatives=1,
        negatives_pool=4,
        learning_rate=1e-3,
        schedule="constant",
        warmup_steps=20,
        flops_ramp_steps=20,
        max_length=32,
        bf16=False,
        save_steps=200,
    )
    train(recipe)
    uncured = terms_by_step(recipe)
    assert min(uncured.values()) > 0.9 * WORDS  # all active, and staying so
    cure = {"logit_scale": before.scale, "logit_shift": before.shift}
    recipe = replace(recipe, **cure, num_steps=200, output=str(tmp_path / "run"))  # type: ignore[arg-type]
    folder = train(recipe)  # its guard stops a run whose documents become empty or dense
    assert terms_by_step(recipe)[EARLY] < 0.25 * WORDS
    history = json.loads((tmp_path / "run" / "metrics.json").read_text())["history"]
    assert history[-1]["ranking"] < 0.7 * history[0]["ranking"]
    model = NeuralSparseEncoder(folder, device="cpu")
    vectors = model.encode_documents(texts)
    terms = np.diff(vectors.indptr)
    assert 1 <= terms.mean() < 0.25 * WORDS
    assert (terms > 0).mean() > 0.8
    plain = SparseEncoder(str(folder)).encode_document(texts, convert_to_sparse_tensor=False)
    np.testing.assert_allclose(plain.cpu().numpy(), vectors.toarray(), atol=1e-4)


def terms_by_step(recipe: Recipe) -> dict[int, float]:
    rows = json.loads((Path(recipe.output) / "metrics.json").read_text())["history"]
    return {row["step"]: row["nonzero_terms"] for row in rows}
