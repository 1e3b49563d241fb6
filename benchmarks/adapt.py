"""`adapt` on collections with documents alone, and its verdict beside that of the collections' own test queries.

    OMP_NUM_THREADS=1 python benchmarks/adapt.py COLLECTIONS OUTPUT --budget 5m scifact nfcorpus cisi

COLLECTIONS holds folders in BEIR layout. Of each only corpus.jsonl is given to `adapt`; its test queries judge what
comes out and decide nothing. A collection that was done before is read from OUTPUT/results.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from neural_sparse.adapt.candidates import Judge, QuerySide, mean_of, own_word_vectors
from neural_sparse.adapt.run import OWN_START, ROUNDING
from neural_sparse.adapt.verdict import MEASURE
from neural_sparse.corpora.collection import Collection
from neural_sparse.evaluation.significance import compare_macro, compare_scores
from neural_sparse.io.files import read_json, write_json
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.precision import wanted_bf16
from neural_sparse.model.pruning import Pruning
from neural_sparse.report.tables import markdown_table
from neural_sparse.text.languages import Analysis
from neural_sparse.text.passages import passages_of

ENGLISH = ("scifact", "nfcorpus", "msmarco-mini-en", "vaswani", "cisi", "cacm", "cosqa", "stackfaq")


def adapted(collections: Path, output: Path, name: str, more: list[str]) -> float:
    """Run `adapt` on the documents alone, or go on; seconds of its stages."""
    corpus = output / "documents" / name / "corpus.jsonl"
    corpus.parent.mkdir(parents=True, exist_ok=True)
    if not corpus.exists():
        os.link(collections / name / "corpus.jsonl", corpus)
    command = [sys.executable, "-m", "neural_sparse", "adapt", str(corpus), "-o", str(output / name), *more]
    subprocess.run(command, check=True)
    return sum(read_json(file)["seconds"] for file in (output / name / "stages").glob("*.json"))


def judged(collections: Path, folder: Path, name: str, work: Path) -> dict[str, Any]:
    """All candidates that can be served, on the real test queries."""
    collection = Collection.load(collections / name)
    free = read_json(folder / "stages" / "free.json")["value"]
    found = read_json(folder / "verdict.json")
    settings = {one["name"]: one["settings"] for one in found["candidates"]}
    verdict = found["verdict"]
    language = Analysis.of("auto", collection.texts).language
    judge = Judge(collection, frozenset(collection.queries), work, language=language)

    def encoded(model: NeuralSparseEncoder, texts: list[str]) -> Any:
        return model.encode_documents(texts, show_progress=True, bf16=wanted_bf16(None, model.device))

    length = read_json(folder / "stages" / "data.json")["value"]["max_length"]
    own = folder / OWN_START
    start = NeuralSparseEncoder(own if own.is_dir() else read_json(folder / "adapt.json")["init"], length)
    start.set_query_weights(folder / "idf.json")
    judge.bm25(start.tokenizer)
    base = encoded(start, collection.texts)
    judge.vectors("start, own IDF", "start", QuerySide.of(start), base)
    start.set_own_words(1.0, free["mean_length"], language)
    words = own_word_vectors(start, collection.texts)
    start.set_own_words(free["strength"], free["mean_length"], language)
    models = {"own words": start}
    if (folder / "training" / "final_model").is_dir():
        models["trained"] = NeuralSparseEncoder(folder / "training" / "final_model")
    for kind, model in models.items():
        queries = QuerySide.of(model)
        vectors = base + free["strength"] * words if model is start else encoded(model, collection.texts)
        judge.vectors(kind, kind, queries, vectors)
        if (pruned := f"{kind}, pruned") in settings:
            judge.vectors(pruned, kind, queries, Pruning(settings[pruned]["max_ratio"])(vectors))
        if (both := f"{'start' if model is start else kind}, with BM25") in settings:
            light = base if model is start else vectors - own_word_vectors(model, collection.texts)
            light.data[light.data < ROUNDING] = 0
            light.eliminate_zeros()
            prune = Pruning(settings[both].get("max_ratio", 0.0))
            judge.with_bm25(both, kind, queries, prune(light))
        if (passages := f"{kind}, passages") in settings and passages == verdict["chosen"]:
            parts, counts = passages_of(collection.texts, model.tokenizer, model.max_length)
            judge.passages(passages, kind, queries, (encoded(model, parts), counts))
    values = {one.name: one.evaluation.per_query[MEASURE] for one in judge.found}
    flops = {one.name: one.evaluation.cost.flops for one in judge.found if one.evaluation.cost}
    keys, metrics = frozenset(collection.queries), folder / "training" / "metrics.json"
    return {
        "verdict": {
            key: verdict[key] for key in ("decision", "recommended", "chosen", "baseline", "queries")
        },
        "made": next(
            {"difference": one["difference"], "p": one["p_holm"]}
            for one in verdict["tests"]
            if (one["a"], one["b"]) == (verdict["baseline"], verdict["chosen"])
        ),
        "ndcg": {name: mean_of(one, keys) for name, one in values.items()},
        "flops": flops,
        "values": {name: values[name] for name in ("BM25", "BM25 over word pieces", verdict["chosen"])},
        "steps": read_json(metrics)["steps"] if metrics.is_file() else 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collections", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--budget", default="15m")
    parser.add_argument("--init", default=None)
    options = parser.parse_args()
    more = ["--budget", options.budget] + (["--init", options.init] if options.init else [])
    file = options.output / "results.json"
    results = read_json(file) if file.is_file() else {}
    for name in options.names:
        if name not in results:
            seconds = adapted(options.collections, options.output, name, more)
            work = options.output / "judged" / name
            results[name] = judged(options.collections, options.output / name, name, work)
            results[name]["seconds"] = seconds
            write_json(file, results)
        show({name: results[name]})
    show(results)


def show(results: dict[str, Any]) -> None:
    rows = []
    for name, one in results.items():
        chosen = one["verdict"]["chosen"]
        baseline = one["verdict"]["baseline"]
        real = compare_scores(one["values"][baseline], one["values"][chosen])
        agrees = real.difference * one["made"]["difference"] > 0
        rows.append(
            [
                name,
                *(f"{one['ndcg'][key]:.3f}" for key in ("BM25", "BM25 over word pieces", "start, own IDF")),
                f"{one['ndcg']['own words']:.3f}",
                f"{one['ndcg']['trained']:.3f}" if "trained" in one["ndcg"] else "-",
                chosen,
                f"{one['ndcg'].get('start, with BM25', float('nan')):.3f}",
                f"{one['ndcg'][chosen]:.3f}",
                f"{one['flops'][chosen]:.2f} / {one['flops']['BM25']:.2f}",
                f"{100 * one['made']['difference']:+.1f} (p {one['made']['p']:.3f}): {one['verdict']['decision']}",
                f"{100 * real.difference:+.1f} (p {real.p_value:.3f})",
                "yes" if agrees else "no",
                str(one["steps"]),
                f"{one['seconds'] / 60:.1f}",
            ]
        )
    heading = [
        "collection",
        "BM25",
        "word pieces",
        "start",
        "own words",
        "trained",
        "with BM25",
        "chosen",
        "nDCG@10",
        "FLOPS / BM25's",
    ]
    heading += ["made queries", "real queries", "same sign", "steps", "minutes"]
    print(markdown_table(heading, rows), flush=True)
    english = [one for name, one in results.items() if name in ENGLISH]
    if len(english) > 1:
        pairs = [(one["values"]["BM25"], one["values"][one["verdict"]["chosen"]]) for one in english]
        pooled = compare_macro(pairs)
        print(
            f"{len(english)} English collections: chosen {pooled.mean_b:.4f}, BM25 {pooled.mean_a:.4f}, "
            f"{100 * pooled.difference:+.2f} points [{100 * pooled.low:+.2f}, {100 * pooled.high:+.2f}], "
            f"p = {pooled.p_value:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
