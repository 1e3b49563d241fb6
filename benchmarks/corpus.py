"""Memory of work over a whole corpus, by the number of documents; what is flat and what is not.

    python benchmarks/corpus.py                           # the table in docs/performance.md
    python benchmarks/corpus.py --sizes 20000 80000
    python benchmarks/corpus.py --idf                     # hashing a corpus against counting it

Documents are 30 words of a vocabulary of 450, read from an Arrow file; dense vectors are float16 shards of 65,536 rows
and 384 dimensions, as the teacher cache maps them. Each arm is a process of its own with the ordinary allocator. What
is told is its peak of memory that is not of files, above what it held before the work, without the result itself;
"whole" is what was done before: all texts tokenized at once, all vectors widened to one matrix.

The model is a random one of 500 tokens and 16 dimensions: what is measured is memory, and a larger model would take as
much for any number of documents.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DIMENSIONS, SHARD, QUERIES, DEPTH = 384, 65_536, 256, 100
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnp" for b in "aeiou" for c in "bdfgklmnpr"]
ARMS = {
    "encode_documents": ("whole", "windows"),
    "words of term targets": ("whole", "windows"),
    "dense search": ("whole", "blocks"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 400_000])
    parser.add_argument("--work", nargs="+", choices=tuple(ARMS), default=list(ARMS))
    parser.add_argument("--idf", action="store_true")
    parser.add_argument("--output", type=Path, help="write all figures as JSON")
    parser.add_argument("--arm", type=json.loads, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.arm:
        print(json.dumps(measured(chosen.arm)))
        return
    from arms import machine

    from neural_sparse.io.files import write_json

    print(machine(1))
    if chosen.idf:
        hash_against_count(chosen.sizes[0])
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        make_inputs(Path(folder), max(chosen.sizes))
        print(
            "| work | documents | whole, MiB | seconds | piece by piece, MiB | seconds | result, MiB |\n"
            + "|---" * 7
            + "|"
        )
        for work in chosen.work:
            for size in chosen.sizes:
                found = [run(work, how, size, folder) for how in ARMS[work]]
                results.append({"work": work, "documents": size, "arms": found})
                whole, pieces = found
                print(
                    f"| {work} | {size:,} | {whole['mib']:,.0f} | {whole['seconds']:.0f} | {pieces['mib']:,.0f} | "
                    f"{pieces['seconds']:.0f} | {pieces['result_mib']:,.0f} |",
                    flush=True,
                )
    if chosen.output:
        write_json(chosen.output, {"machine": machine(1), "results": results})


def make_inputs(folder: Path, size: int) -> None:
    import pyarrow as pa
    import torch
    import transformers as hf
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    rng = np.random.default_rng(0)
    schema = pa.schema([("text", pa.string())])
    with pa.ipc.new_file(str(folder / "documents.arrow"), schema) as out:
        for start in range(0, size, 20_000):
            drawn = rng.integers(0, len(WORDS), (min(20_000, size - start), 30))
            documents = [" ".join(row) for row in np.array(WORDS)[drawn]]
            out.write_batch(pa.record_batch([pa.array(documents)], schema=schema))
    for start in range(0, size, SHARD):
        shard = rng.standard_normal((min(SHARD, size - start), DIMENSIONS), np.float32).astype(np.float16)
        np.save(folder / f"shard-{start:09d}.npy", shard)
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*marks, *WORDS]
    tokenizer = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), marks, strict=True))
    hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=128, **names).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = hf.BertConfig(
        vocab_size=len(pieces), hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16,
        max_position_embeddings=128,
    )  # fmt: skip
    model = hf.BertForMaskedLM(config)
    with torch.no_grad():
        model.get_output_embeddings().bias.normal_(-0.4, 0.2)
    model.save_pretrained(folder)


def run(work: str, how: str, size: int, folder: str) -> dict[str, Any]:
    arm = json.dumps({"work": work, "how": how, "size": size, "folder": folder})
    done = subprocess.run(
        [sys.executable, __file__, "--arm", arm], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(arm: dict[str, Any]) -> dict[str, Any]:
    """Figures of one arm, in this process."""
    step = {"encode_documents": encode, "words of term targets": words, "dense search": dense}[arm["work"]]
    work = step(Path(arm["folder"]), arm["size"], arm["how"] == "whole")
    before = anonymous()
    peak, stop = [before], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    stop.set()
    watcher.join()
    own = result / 2**20
    return {"mib": max(peak[0], anonymous()) - before - own, "result_mib": own, "seconds": seconds}


def anonymous() -> float:
    """Resident memory of this process that is not of mapped files, in MiB."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024


def texts_of(folder: Path, size: int) -> Any:
    from neural_sparse.text.texts import ArrowTexts, PickedTexts

    return PickedTexts(ArrowTexts(folder / "documents.arrow"), np.arange(size))


def encode(folder: Path, size: int, whole: bool) -> Callable[[], int]:
    from neural_sparse import NeuralSparseEncoder
    from neural_sparse.model.encoding import encode_tokens
    from neural_sparse.text.tokens import tokenize

    model, texts = NeuralSparseEncoder(folder, 128, device="cpu"), texts_of(folder, size)
    model.encode_documents(texts[:100])  # compiles

    def work() -> int:
        if whole:
            tokens = tokenize(list(texts), model.tokenizer, model.max_length, special_tokens=True)
            return csr_bytes(encode_tokens(model, tokens))
        return csr_bytes(model.encode_documents(texts))

    return work


def words(folder: Path, size: int, whole: bool) -> Callable[[], int]:
    from transformers import AutoTokenizer

    import neural_sparse.text.tokens
    from neural_sparse.teachers.term_targets import bm25_words

    texts, tokenizer = texts_of(folder, size), AutoTokenizer.from_pretrained(folder)
    classes = np.arange(len(tokenizer.get_vocab())) - 5  # all but the special tokens are counted
    if whole:
        neural_sparse.text.tokens.WINDOW_TEXTS = neural_sparse.text.tokens.WINDOW_CHARACTERS = 1 << 60
    return lambda: csr_bytes(bm25_words(texts, tokenizer, np.maximum(classes, -1), 128))


def dense(folder: Path, size: int, whole: bool) -> Callable[[], int]:
    from neural_sparse.search import DenseRetriever
    from neural_sparse.search.doc_ids import DocumentIds
    from neural_sparse.teachers.rows import DenseVectors, StoredVectors

    files = sorted(folder.glob("shard-*.npy"))
    rows = StoredVectors(tuple({"vectors": np.load(file, mmap_mode="r")} for file in files))
    vectors, ids = DenseVectors(rows, np.arange(size)), DocumentIds.numbers(size)
    queries = np.random.default_rng(1).standard_normal((QUERIES, DIMENSIONS), np.float32)
    DenseRetriever(vectors[:10], DocumentIds.numbers(10)).search(queries, DEPTH)  # compiles

    def work() -> int:
        stored = np.ascontiguousarray(rows.gather(np.arange(size))) if whole else vectors
        hits = DenseRetriever(stored, ids).search(queries, DEPTH)
        return hits.docs.nbytes + hits.scores.nbytes

    return work


def csr_bytes(matrix: Any) -> int:
    return int(matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes)


def hash_against_count(size: int) -> None:
    from mining import texts

    from neural_sparse.idf import document_frequencies
    from neural_sparse.idf.counting import _digest
    from neural_sparse.model.tokenizer import load_tokenizer

    documents = texts(size, 1, np.random.default_rng(0))[0]
    tokenizer = load_tokenizer("cognition/model")
    rates: dict[str, list[float]] = {"hash": [], "count": []}
    for _ in range(3):
        for name, work in (
            ("hash", lambda: _digest(documents, tokenizer)),
            ("count", lambda: document_frequencies(documents, tokenizer, show_progress=False)),
        ):
            started = time.process_time()
            work()
            rates[name].append(size / (time.process_time() - started))
    median = {name: statistics.median(found) for name, found in rates.items()}
    print(f"documents a processor second: hashed {median['hash']:,.0f}, counted {median['count']:,.0f}")


if __name__ == "__main__":
    main()
