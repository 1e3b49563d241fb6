"""korean.yaml from end to end without a Korean model: a small random start, BM25 and precomputed teachers.

    python benchmarks/korean.py --data msmarco-mini-ko --tokenizer mbert-uncased   # the table in docs/training.md

`--data` is a collection in BEIR layout with qrels/train.tsv and qrels/test.tsv, `--tokenizer` a folder with the
tokenizer.json of the multilingual models (105,879 tokens). What it shows is that pipeline, memory and evaluation
work with that vocabulary. The relevance is that of a model that has read a few thousand queries and nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

TERMS = 100  # per document of the start
BIGRAMS = r"(?=([^\W_]{2}))"  # overlapping pairs of letters: Korean endings change, stems stay


def make_start(
    tokenizer_folder: Path, texts: list[str], output: Path, size: int = 128, layers: int = 2
) -> None:
    """A random masked LM over that vocabulary whose documents show their own tokens.

    Its embeddings are wide enough to be told apart, its head passes them on, and its output bias is set so that
    a document has about `TERMS` terms. Nothing in it knows any language.
    """
    import numpy as np
    import torch
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.model.own_vocabulary import SPECIAL

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer_folder / "tokenizer.json"), model_max_length=512, **SPECIAL
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=size,
        num_hidden_layers=layers,
        num_attention_heads=max(2, size // 64),
        intermediate_size=4 * size,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = BertForMaskedLM(config).eval()
    head = model.cls.predictions
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.normal_(std=0.1)
        head.transform.dense.weight.copy_(torch.eye(size))
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    encoder = NeuralSparseEncoder(output, 64, device="cpu")
    tokens = encoder.tokenizer(texts[:32], padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.inference_mode():
        hidden = encoder.mlm(**{key: tokens[key] for key in ("input_ids", "attention_mask")}).logits
        logits = (hidden @ encoder.projection.weight.T).masked_fill(
            ~tokens["attention_mask"][..., None].bool(), -1e9
        )
        level = np.quantile(logits.amax(1).numpy(), 1 - TERMS / len(tokenizer))
        head.decoder.bias.fill_(-float(level))
    model.save_pretrained(output)


def write_scores(mined: Path, documents: list[str], output: Path) -> None:
    """The precomputed teacher: BM25 over pairs of letters, which reads Korean better than over words.

    Scores each query's mined candidates, as {query, docs, scores} lines.
    """
    import numpy as np

    from neural_sparse.search.bm25 import BM25Index
    from neural_sparse.search.doc_ids import DocumentIds

    ids = DocumentIds.numbers(len(documents))
    index = BM25Index.build(documents, ids, stemmer=None, stopwords=None, pattern=BIGRAMS)
    weights = index.document_weights()
    row_of = {text: row for row, text in enumerate(documents)}
    lines = [json.loads(line) for line in mined.read_text(encoding="utf-8").splitlines()]
    queries = index.encode_queries([line["query"] for line in lines])
    with output.open("w", encoding="utf-8") as file:
        for row, line in enumerate(lines):
            docs = [line["pos"], *line["negs"]]
            scores = (weights[[row_of[doc] for doc in docs]] @ queries[[row]].T).toarray().ravel()
            scored = {"query": line["query"], "docs": docs, "scores": np.round(scores, 4).tolist()}
            file.write(json.dumps(scored, ensure_ascii=False) + "\n")


def overrides(work: Path) -> list[str]:
    """What of korean.yaml has to be otherwise."""
    teachers = [
        {"kind": "bm25", "weight": 0.4},
        {"kind": "precomputed", "name": str(work / "scores.jsonl"), "weight": 0.6},
    ]
    return [f"init={work / 'start'}", f"train={work / 'mined.jsonl'}", f"teachers={json.dumps(teachers)}"]


def command(*arguments: str) -> dict[str, float]:
    """Run one `neural-sparse` command; its peak memory in GB and the processor seconds of all its threads."""
    print("$ neural-sparse", " ".join(arguments), flush=True)
    process = subprocess.Popen([sys.executable, "-m", "neural_sparse", *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    return {"peak GB": usage.ru_maxrss * 1024 / 1e9, "processor s": usage.ru_utime + usage.ru_stime}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("outputs/korean"))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="further keys of korean.yaml")
    options = parser.parse_args()

    from neural_sparse.corpora.corpus_file import read_corpus
    from neural_sparse.io.files import read_json

    work = options.work
    _, documents = read_corpus(options.data / "corpus.jsonl")
    make_start(options.tokenizer, documents, work / "start", options.size)
    command("mine", str(options.data), "-o", str(work / "mined.jsonl"), "--top")
    write_scores(work / "mined.jsonl", documents, work / "scores.jsonl")
    run = work / "run"
    spent = command("train", "korean", *overrides(work), f"output={run}", *options.changes)
    metrics = read_json(run / "metrics.json")
    print(
        f"training: {metrics['seconds'] / metrics['steps']:.2f} s per step, {spent['processor s']:.0f} processor "
        f"seconds in all, peak {spent['peak GB']:.1f} GB"
    )
    for name, model in {"start": work / "start", "trained": run / "final_model"}.items():
        idf = ["--idf", str(run / "idf.json")] if name == "start" else []
        command("evaluate", str(model), "-c", str(options.data), "-o", str(work / f"judged-{name}"), *idf)
    command("doctor", str(run), str(run / "final_model"))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
