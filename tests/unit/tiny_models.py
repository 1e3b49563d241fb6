"""Tiny random masked LMs and tokenizers of several architectures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

# A text corpus small enough to train tokenizers on in milliseconds.
TEXTS = [
    "Return a new list whose items are sorted in ascending order.",
    "Open a file and return a stream; raise an error if it cannot be read.",
    "The quick brown fox jumps over the lazy dog while 42 cats watch.",
    "Parse a JSON document from a string and build Python objects from it.",
    "Naïve café visitors don't queue; they order, pay and leave at once.",
]
ARCHITECTURES = ("bert", "distilbert", "roberta", "modernbert", "xlm-roberta")
SIZE = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def make_tokenizer(architecture: str) -> Any:
    """BERT's word pieces, RoBERTa's byte-level BPE or XLM-R's unigrams, trained on `TEXTS`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = architecture in ("bert", "distilbert", "modernbert")
    marks = (
        ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        if pieces
        else ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), marks, strict=True))
    if pieces:
        words = sorted({word for text in TEXTS for word in re.findall(r"[a-z]+", text.lower())})
        letters = "abcdefghijklmnopqrstuvwxyz0123456789"
        tokens = [*marks, *".,;'", *letters, *(f"##{letter}" for letter in letters), *words]
        vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    elif architecture == "roberta":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=320, special_tokens=list(marks), initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(TEXTS, trainer)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        unigrams = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=list(marks), unk_token="<unk>", show_progress=False
        )
        tokenizer.train_from_iterator(TEXTS, unigrams)
    first, last = names["cls_token"], names["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)


def make_masked_lm(architecture: str, tokenizer: Any, padding: int = 0, seed: int = 0) -> Any:
    """A random masked LM, its output bias random too, whose vocabulary has `padding` spare rows."""
    import torch
    import transformers as hf

    torch.manual_seed(seed)
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer.get_vocab()) + padding,
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": 66 if "roberta" in architecture else 64,
        "initializer_range": 0.4,
    }
    if architecture == "distilbert":
        config: Any = hf.DistilBertConfig(dim=24, n_layers=2, n_heads=2, hidden_dim=32, **common)
        model: Any = hf.DistilBertForMaskedLM(config)
    elif architecture == "modernbert":
        ends = {
            "bos_token_id": tokenizer.cls_token_id, "cls_token_id": tokenizer.cls_token_id,
            "eos_token_id": tokenizer.sep_token_id, "sep_token_id": tokenizer.sep_token_id,
        }  # fmt: skip
        model = hf.ModernBertForMaskedLM(hf.ModernBertConfig(**SIZE, **common, **ends))
    else:
        kinds = {
            "bert": (hf.BertConfig, hf.BertForMaskedLM),
            "roberta": (hf.RobertaConfig, hf.RobertaForMaskedLM),
            "xlm-roberta": (hf.XLMRobertaConfig, hf.XLMRobertaForMaskedLM),
        }
        make_config, make_model = kinds[architecture]
        model = make_model(make_config(**SIZE, **common))
    with torch.no_grad():
        model.get_output_embeddings().bias.normal_(std=0.5)
    return model.eval()


_OWN_CODE = """
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

class OwnConfig(BertConfig):
    model_type = "own-model"

class OwnModel(BertModel):
    config_class = OwnConfig

class OwnForMaskedLM(BertForMaskedLM):
    config_class = OwnConfig

class OwnForSequenceClassification(BertForSequenceClassification):
    config_class = OwnConfig
"""


def save_with_own_code(kind: str, folder: Path) -> Path:
    """A tiny random model whose program code is in its folder, so that it loads only where that is trusted."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

    models = {
        "dense": (BertModel, "AutoModel", "OwnModel"),
        "sparse": (BertForMaskedLM, "AutoModelForMaskedLM", "OwnForMaskedLM"),
        "cross-encoder": (
            BertForSequenceClassification,
            "AutoModelForSequenceClassification",
            "OwnForSequenceClassification",
        ),
    }
    make, auto, name = models[kind]
    tokenizer = make_tokenizer("bert")
    torch.manual_seed(0)
    make(BertConfig(vocab_size=len(tokenizer), num_labels=1, **SIZE)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    auto_map = {"AutoConfig": "own_code.OwnConfig", auto: f"own_code.{name}"}
    config |= {"model_type": "own-model", "architectures": [name], "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own_code.py").write_text(_OWN_CODE)
    return folder
