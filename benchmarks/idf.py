"""How fast a corpus is counted for IDF, against the tokenizer alone; whether exactly; in how much memory.

    python benchmarks/idf.py                                   # the table in docs/idf.md
    python benchmarks/idf.py --passages 50000 --repeats 3

Passages of about 60 tokens are put together from runs of a dozen words of real text (`--text`, folders in
BEIR layout), seeded. "tokenizer" is `encode_batch_fast` on lists in memory with as many threads as there are
cores, and nothing else; "neural-sparse" is `count_corpus` from a JSONL file to counts, its worker processes'
start included. See arms.py for how the arms take turns.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from arms import ENVIRONMENT, answer, machine, peak_mib, ratio, take_turns

from neural_sparse.corpora.corpus_file import corpus_texts
from neural_sparse.idf.corpus import count_corpus
from neural_sparse.io.files import write_json
from neural_sparse.work.workers import available_cores

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
COLLECTIONS = ("scifact", "nfcorpus", "msmarco-mini-en", "cisi")
RUN = 13  # words copied together
ARMS = ("tokenizer", "neural-sparse")


def tokenizer_of(name: str) -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    if (file := Path(name)).suffix == ".json":
        return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(file)))
    from neural_sparse.model.tokenizer import load_tokenizer

    return load_tokenizer(name)


def write_passages(file: Path, folders: list[Path], passages: int, tokenizer: Any) -> float:
    """Write a corpus.jsonl; returns the mean number of tokens."""
    words = [
        word for folder in folders for text in corpus_texts(folder / "corpus.jsonl") for word in text.split()
    ]
    ids = tokenizer.backend_tokenizer.encode(" ".join(words[:50_000]), add_special_tokens=False).ids
    runs = round(60 * 50_000 / len(ids) / RUN)
    starts = np.random.default_rng(0).integers(0, len(words) - RUN, (passages, runs))
    sample: list[str] = []
    with file.open("w", encoding="utf-8") as out:
        for number, row in enumerate(starts.tolist()):
            text = " ".join(word for start in row for word in words[start : start + RUN])
            out.write(json.dumps({"_id": str(number), "title": "", "text": text}, ensure_ascii=False) + "\n")
            if number < 1000:
                sample.append(text)
    encodings = tokenizer.backend_tokenizer.encode_batch_fast(sample, add_special_tokens=False)
    return sum(map(len, encodings)) / len(sample)


def arm(settings: dict[str, Any]) -> None:
    tokenizer, file = tokenizer_of(settings["tokenizer"]), Path(settings["corpus"])
    if settings["arm"] == "tokenizer":
        texts = list(corpus_texts(file))
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()

    def step() -> Callable[[], dict[str, Any]]:
        if settings["arm"] == "tokenizer":
            for start in range(0, len(texts), 8192):
                tokenizer.backend_tokenizer.encode_batch_fast(
                    texts[start : start + 8192], add_special_tokens=False
                )
            return lambda: {"documents": len(texts)}
        with tempfile.TemporaryDirectory() as folder:
            found = count_corpus(file, tokenizer, f"{folder}/work", show_progress=False)
        return lambda: {"documents": found.documents}

    answer(step, peak_mib())


def plain_counter(texts: list[str], tokenizer: Any) -> np.ndarray:
    counts: Counter[int] = Counter()
    for text in texts:
        counts.update(set(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids))
    return np.array([counts[index] for index in range(len(tokenizer.get_vocab()))])


def memory(settings: dict[str, Any]) -> None:
    """Count once; print the largest sum of the resident sizes of this process and its workers, sampled."""
    tokenizer = tokenizer_of(settings["tokenizer"])
    this, sizes, done = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            size = 0
            for process in (this, *this.children()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    size += process.memory_info().rss
            sizes.append(size)

    threading.Thread(target=watch, daemon=True).start()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = count_corpus(
            settings["corpus"], tokenizer, f"{folder}/work", part_bytes=8 << 20, show_progress=False
        )
    seconds = time.perf_counter() - started
    done.set()
    print(json.dumps({"documents": found.documents, "seconds": seconds, "mib": max(sizes) / 2**20}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--passages", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--large", type=int, default=1_000_000, help="Passages of the larger memory run; 0: none."
    )
    parser.add_argument(
        "--text", type=Path, nargs="+", default=[DATA / "collections" / name for name in COLLECTIONS]
    )
    parser.add_argument("--tokenizer", default=str(DATA / "tokenizers" / "bert-uncased" / "tokenizer.json"))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        arm(json.loads(options.arm))
        return
    if options.memory:
        memory(json.loads(options.memory))
        return
    tokenizer = tokenizer_of(options.tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "corpus.jsonl")
        settings = {"tokenizer": options.tokenizer, "corpus": str(file)}
        tokens = write_passages(file, options.text, min(20_000, options.passages), tokenizer)
        plain = plain_counter(list(corpus_texts(file)), tokenizer)
        found = count_corpus(file, tokenizer, f"{folder}/work", part_bytes=1 << 20, show_progress=False)
        exact = bool((found.counts == plain).all())
        write_passages(file, options.text, options.passages, tokenizer)
        results = take_turns(__file__, settings, ARMS, options.repeats)
        rates = {name: results[name]["documents"] / results[name]["seconds"] for name in ARMS}
        faster = ratio(results, *ARMS)
        peaks = []
        for passages in (100_000, options.large) if options.large else ():
            write_passages(file, options.text, passages, tokenizer)
            command = [sys.executable, __file__, "--memory", json.dumps(settings)]
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, env={**os.environ, **ENVIRONMENT}
            )
            peaks.append(json.loads(done.stdout))
    print(
        f"{machine(available_cores())}\n{options.passages:,} passages of {tokens:.1f} tokens; exact: {exact}"
    )
    for name, rate in rates.items():
        print(f"{name:15} {rate:10,.0f} passages/s")
    print(f"median ratio {faster:.2f}")
    for peak in peaks:
        print(
            f"{peak['documents']:,} passages: {peak['seconds']:.1f} s, peak {peak['mib']:.0f} MiB "
            "with all workers"
        )
    if options.output:
        report = {
            "exact": exact,
            "tokens": tokens,
            "rates": rates,
            "ratio": faster,
            "memory": peaks,
            **results,
        }
        write_json(options.output, report)


if __name__ == "__main__":
    main()
