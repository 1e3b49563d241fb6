"""A start from nothing, for a language that no model at hand reads: a vocabulary learnt from the documents and a small
random masked LM whose documents show their own tokens.

A query is a bag of tokens: what a vocabulary takes apart into letters no model of documents puts together again. A
vocabulary of the documents' own (Unigram: Kudo 2018, arXiv 1804.10959) needs no other texts, and with own words
(`OwnWords`) such a model is BM25 over its pieces before any training (docs/korean.md).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from neural_sparse.errors import InputError, check_seed
from neural_sparse.io.files import check_output, replacing_folder

logger = logging.getLogger(__name__)

VOCABULARY = 16_000
LONGEST_PIECE = 8  # characters: longer ones are names, which their parts find as well
WIDTH, LAYERS = 128, 2  # of the transformer
POSITIONS = 512
LEAST_TEXTS = 5
SAMPLE = 32  # texts that the head is set by
SAMPLE_LENGTH = 64  # tokens
BESIDES = 8  # terms of a document that are not its own: what training begins with
OWN = 0.3  # logit of a document's own token, the median: far less than own words give it
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def learn_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Any:
    """A lower-casing tokenizer of at most `vocabulary` pieces, learnt from texts that are read once and not held.

    The tokenizers library's trainer takes words in an order of its own: learnt again from the same texts, pieces have
    other ids and slightly other scores. Learn once and keep it.

    Returns:
        A PreTrainedTokenizerFast; no piece is longer than a word or eight characters, and each has a name of its own.

    Raises:
        InputError: fewer than five texts; a vocabulary of less than 100 pieces.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if vocabulary < 100:
        raise InputError(f"a vocabulary of {vocabulary} pieces is too small; some thousands are usual")
    count = 0

    def counted() -> Iterable[str]:
        nonlocal count
        for text in texts:
            count += 1
            yield text

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    # No piece of two scripts: "p에" would be a form of "에", for single Latin letters are not counted.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.UnicodeScripts()]
    )
    special = list(SPECIAL.values())
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        unk_token=SPECIAL["unk_token"],
        max_piece_length=LONGEST_PIECE,
        show_progress=False,
    )
    tokenizer.train_from_iterator(counted(), trainer)
    if count < LEAST_TEXTS:
        raise InputError(f"{count} texts are too few to learn a vocabulary from; at least {LEAST_TEXTS}")
    cls, sep = SPECIAL["cls_token"], SPECIAL["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        special_tokens=[(one, tokenizer.token_to_id(one)) for one in (cls, sep)],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **SPECIAL)


def make_start(
    texts: Iterable[str],
    output: str | Path,
    vocabulary: int = VOCABULARY,
    *,
    width: int = WIDTH,
    layers: int = LAYERS,
    seed: int = 42,
) -> Path:
    """Write a start for `init`: a masked LM in Transformers' layout that knows the documents' pieces and nothing else.

    Args:
        texts: documents, streamed.
        output: folder; what is there stays until the new one is whole.
        vocabulary: pieces at most.
        width, layers: of the transformer.
        seed: of its weights; the vocabulary has none, see `learn_tokenizer`.

    Raises:
        InputError: as of `learn_tokenizer`; a width that is no multiple of 64.
    """
    from transformers import BertConfig, BertForMaskedLM

    check_seed(seed)
    if width < 64 or width % 64 or layers < 1:
        raise InputError(f"width {width}, {layers} layers: a multiple of 64, and at least one")
    output = Path(output)
    check_output(output, folder=True)
    sample: list[str] = []

    def kept() -> Iterable[str]:
        stream = iter(texts)
        for text in islice(stream, SAMPLE):
            sample.append(text)
            yield text
        yield from stream

    tokenizer = learn_tokenizer(kept(), vocabulary)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        max_position_embeddings=POSITIONS,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertForMaskedLM(config).eval()
        with torch.no_grad():  # wide enough to be told apart, and the head passes them on
            model.bert.embeddings.word_embeddings.weight.normal_(std=0.1)
            model.cls.predictions.transform.dense.weight.copy_(torch.eye(width))
    _show_own_tokens(model, tokenizer, sample)
    with replacing_folder(output) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    logger.info("%s: %s pieces learnt, %d layers, %d wide", output, f"{len(tokenizer):,}", layers, width)
    return output


@torch.inference_mode()
def _show_own_tokens(model: Any, tokenizer: Any, texts: Sequence[str]) -> None:
    """Shift and scale the logits so that a document has its own tokens and a few others."""
    head = model.cls.predictions
    levels, weights = [], []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=SAMPLE_LENGTH, return_tensors="pt")["input_ids"]
        pooled = model(input_ids=ids).logits[0].amax(0)
        tokens = ids.unique()
        weights.append(pooled[tokens])
        pooled = pooled.clone()
        pooled[tokens] = -torch.inf
        levels.append(pooled.topk(min(BESIDES, len(pooled) - len(tokens))).values[-1])
    level = torch.stack(levels).mean()
    own = torch.cat(weights) - level
    factor = OWN / float(own[own > 0].median()) if bool((own > 0).any()) else 1.0
    norm = head.transform.LayerNorm
    norm.weight.mul_(factor)
    norm.bias.mul_(factor)
    head.decoder.bias.fill_(-factor * float(level))
