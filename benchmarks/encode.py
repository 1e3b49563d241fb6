"""Encoding documents against sentence-transformers doing the same work.

    python benchmarks/encode.py                                 # the table in docs/performance.md
    python benchmarks/encode.py --shapes 4.4M --lengths full --repeats 3

Both arms load the same model folder and encode the same texts: Python documentation, cut to 128 tokens each
("full") or to log-normal lengths with median 60 ("realistic"). "sentence-transformers" is its own
SparseEncoder.encode_document at its default batch size; "neural-sparse" encode_documents in float32, "bf16"
the same in bfloat16. Tokenizing is part of the work. See arms.py for how the arms take turns.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from arms import answer, cell, lengths, options, peak_mib, ratio, table, take_turns
from models import folder_of

ARMS = ("sentence-transformers", "neural-sparse", "bf16")
COLUMNS = ["model", "vocabulary", "texts", "sentence-transformers", "neural-sparse", "bf16", "ratio"]
COLUMNS += ["ratio bf16", "CPU time", "CPU time bf16", "ST MiB", "ours MiB"]


def texts_of(kind: str, count: int, tokenizer: Any) -> list[str]:
    """Real text of the wanted number of tokens each, special ones included."""
    from neural_sparse.corpora.python_docs import python_docs

    corpus = " ".join(python_docs().collection.texts)
    ids = tokenizer.backend_tokenizer.encode(corpus[: 6000 * count], add_special_tokens=False)
    texts, at = [], 0
    for length in lengths(kind, count):
        start, end = ids.offsets[at][0], ids.offsets[at + length - 3][1]
        texts.append(corpus[start:end])
        at = (at + length - 2) % (len(ids.offsets) - 300)
    return texts


def prepare(
    settings: dict[str, Any], texts: list[str] | None = None
) -> Callable[[], Callable[[], dict[str, Any]]]:
    """The step of one arm, its model loaded: encodes all texts, returning what describes the vectors."""
    from sentence_transformers import SparseEncoder

    from neural_sparse.model.encoder import NeuralSparseEncoder

    plain = settings["arm"] == "sentence-transformers"
    model: Any
    if plain:
        model = SparseEncoder(settings["folder"], device=settings["device"])
        model.max_seq_length = 256
    else:
        model = NeuralSparseEncoder(settings["folder"], 256, device=settings["device"])
    texts = texts or texts_of(settings["lengths"], settings["texts"], model.tokenizer)

    def step() -> Callable[[], dict[str, Any]]:
        if plain:
            vectors = model.encode_document(texts, show_progress_bar=False)
            # Special tokens are silent in ours alone.
            return lambda: {"checks": [vectors.to_dense().double().sum().item()]}
        vectors = model.encode_documents(texts, bf16=settings["arm"] == "bf16")
        return lambda: {"checks": [float(vectors.data.astype("float64").sum())]}

    return step


def arm(settings: dict[str, Any]) -> None:
    """One arm: loads its model, then answers each line on stdin by encoding all texts."""
    import torch

    if settings["device"] == "cpu":
        torch.set_num_threads(settings["threads"])
    step = prepare(settings)
    answer(step, peak_mib())


def row(result: dict[str, Any]) -> list[str]:
    def of(name: str, key: str) -> float | None:
        return (result.get(name) or {}).get(key)

    parts = [result["shape"], f"{result['vocabulary']:,}", f"{result['texts']} {result['lengths']}"]
    rates = [(of(name, "seconds"), name) for name in ARMS]
    parts += [cell(seconds and result["texts"] / seconds, "{:,.0f}/s") for seconds, _ in rates]
    parts += [cell(result.get(key), "{:.1f}x") for key in ("ratio", "ratio bf16", "cpu", "cpu bf16")]
    parts += [cell(of(name, "peak_mib"), "{:,.0f}") for name in ARMS[:2]]
    return parts


def compare(settings: dict[str, Any], repeats: int) -> dict[str, Any]:
    taken = take_turns(__file__, settings, ARMS, repeats)
    result: dict[str, Any] = {**settings, **{name: taken[name] for name in ARMS}}
    for name, label in ((ARMS[1], ""), (ARMS[2], " bf16")):
        result["ratio" + label] = ratio(taken, ARMS[0], name)
        result["cpu" + label] = ratio(taken, ARMS[0], name, "cpu_seconds")
    result["checks"] = {name: taken["steps"][name][0]["checks"] for name in ARMS if taken[name]}
    return result


def cases(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for vocabulary in chosen.vocabularies:
        for shape in chosen.shapes:
            for kind in chosen.lengths:
                yield {
                    "shape": shape,
                    "vocabulary": vocabulary,
                    "folder": folder_of(shape, vocabulary),
                    "lengths": kind,
                    "texts": chosen.texts,
                    "device": chosen.device,
                    "threads": chosen.threads,
                }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--shapes", nargs="+", default=["4.4M", "minilm", "distilbert"])
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    if chosen.arm:
        arm(chosen.arm)
        return
    table(chosen, COLUMNS, cases(chosen), lambda case: compare(case, chosen.repeats), row)


if __name__ == "__main__":
    main()
