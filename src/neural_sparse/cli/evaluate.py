"""`neural-sparse evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from neural_sparse.cli.login import Login, takes_login

if TYPE_CHECKING:
    from neural_sparse.corpora.collection import Collection
    from neural_sparse.evaluation import Evaluation
    from neural_sparse.evaluation.measures import Run
    from neural_sparse.evaluation.systems import Encoder


@takes_login
def evaluate(
    model: str | None = typer.Argument(
        None,
        help='What to evaluate: a model (folder, hub id, folder inside a package), "bm25", or opensearch:INDEX with '
        "--url.",
        show_default=False,
    ),
    collection: list[str] = typer.Option(
        ...,
        "--collection",
        "-c",
        help="Folder in BEIR layout, or a BEIR, NanoBEIR or ir_datasets name; beir-13 and nanobeir are whole "
        "benchmarks. Repeat for several.",
    ),
    split: str = typer.Option("test", help="Which qrels/SPLIT.tsv to judge by."),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="Folder for metrics.json, per_query.json, run.trec and the report."
    ),
    run: Path | None = typer.Option(None, help="Evaluate this TREC run file instead of a model."),
    measure: list[str] = typer.Option(
        ["nDCG@10", "R@1000", "RR@10"],
        "--measure",
        "-m",
        help="ir_measures name; the first leads. Repeatable.",
    ),
    k: int = typer.Option(1000, min=1, help="Documents to retrieve per query."),
    name: str | None = typer.Option(None, help="Name in reports.", show_default="from the model"),
    idf: Path | None = typer.Option(None, help="Query weights to use instead of the model's (idf.json)."),
    max_length: int | None = typer.Option(
        None, min=3, help="Tokens per document.", show_default="the model's"
    ),
    passages: int | None = typer.Option(
        None,
        min=8,
        help="Split documents at sentence ends into passages of at most so many tokens; the best one makes the score.",
    ),
    encode_queries: bool = typer.Option(
        False,
        "--encode-queries",
        help="Run queries through the transformer too (siamese models such as SPLADE-v3).",
    ),
    count_repeats: bool = typer.Option(
        False,
        "--count-repeats",
        help="A repeated token of a query weighs as often as it is there, as in BM25.",
    ),
    bm25: bool = typer.Option(
        True, help="Evaluate BM25 beside it, for the comparison of relevance and cost."
    ),
    language: str = typer.Option(
        "auto",
        help="Of BM25's words: a language (german, or de), korean (morphemes), bigrams (pairs of letters), plain.",
        show_default="told from the documents",
    ),
    fuse: str | None = typer.Option(
        None, help="Also judge the system fused with another: bm25, or a run file, such as of a dense system."
    ),
    fusion: str = typer.Option(
        "rrf",
        help="How: rrf (reciprocal ranks), minmax (sum of scores moved to 0 .. 1), sum (of scores as they are).",
    ),
    fusion_weight: float = typer.Option(0.5, min=0, max=1, help="Of the system; the other has the rest."),
    recall: float | None = typer.Option(
        None,
        help="Search a model's documents approximately: score as few as find so much of the exact hits, such as 0.95, "
        "measured on the collection's queries. Where that gains nothing the search is exact.",
        show_default="exact",
    ),
    training: Path | None = typer.Option(
        None, help="JSON lines the model was trained on; test texts found in them are reported."
    ),
    ignore_identical_ids: bool | None = typer.Option(
        None,
        help="Leave out a document that has its query's id, as BEIR always does.",
        show_default="only where queries are documents, as in ArguAna",
    ),
    url: str | None = typer.Option(
        None,
        envvar="OPENSEARCH_URL",
        help="opensearch: address of the cluster, or of several nodes.",
        show_default=False,
    ),
    weights: str | None = typer.Option(
        None,
        "--model",
        help="opensearch: the model of the index. Its query weights are sent, and its own ranking stands beside.",
        show_default="the cluster makes query weights",
    ),
    pipeline: list[str] = typer.Option(
        [], help="opensearch: a search pipeline to judge too, such as NAME-two-phase. Repeatable."
    ),
    model_id: str | None = typer.Option(None, help="opensearch: query model on the cluster."),
    analyzer: str | None = typer.Option(None, help="opensearch: analyzer of query weights."),
    field: str | None = typer.Option(None, help="opensearch: field of vectors.", show_default="the only one"),
    text_field: str = typer.Option("text", help="opensearch: field for BM25."),
    bm25_boost: float | None = typer.Option(
        None, help="opensearch: also judge one query of both, with BM25's score so many times added."
    ),
    *,
    login: Login,
) -> None:
    """Measure how well a system retrieves and what it costs, with BM25 beside it.

    Prints relevance, cost and what is significant. With --output, every score is kept, so that
    `neural-sparse compare` can set this run against others.

    Examples:

      neural-sparse evaluate outputs/run/final_model -c scifact -o results/mine

      neural-sparse evaluate bm25 -c beir-13 -o results/bm25

      neural-sparse evaluate --run theirs.trec -c my-collection/

      neural-sparse evaluate opensearch:docs --url https://search.example.org:9200 -c my-collection/
    """
    from neural_sparse.cli.evaluate_cluster import PREFIX, evaluate_index
    from neural_sparse.config import check_language
    from neural_sparse.corpora.names import expand_names, load_collection
    from neural_sparse.errors import InputError
    from neural_sparse.evaluation import evaluate_bm25, evaluate_external_run, read_run
    from neural_sparse.evaluation.compare import System, compare_systems
    from neural_sparse.evaluation.cost import Stopwatch
    from neural_sparse.evaluation.measures import parse_measures
    from neural_sparse.evaluation.runs import check_ids
    from neural_sparse.evaluation.systems import ENGLISH_WORDS
    from neural_sparse.io.files import check_output, write_json
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.report.comparison import print_report
    from neural_sparse.report.html_page import write_report
    from neural_sparse.search.budget import check_recall
    from neural_sparse.search.fusion import fused

    if (model is None) == (run is None):
        raise InputError("give either a model (or bm25) or --run FILE")
    names = expand_names(collection)
    if run is not None and len(names) > 1:
        raise InputError("a run belongs to one collection; give one --collection")
    if bm25_boost is not None and not bm25:
        raise InputError("--bm25-boost adds BM25's score: leave --no-bm25 out")
    if output is not None:
        check_output(output, folder=True)
    parse_measures(measure)  # before hours of encoding
    if passages is not None and (model is None or model.lower() == "bm25" or model.startswith(PREFIX)):
        raise InputError("--passages: only a model's documents are encoded here; leave it out")
    if recall is not None:
        check_recall(recall)
        if passages is not None or model is None or model.lower() == "bm25" or model.startswith(PREFIX):
            raise InputError(
                "--recall: only a model's whole documents are searched approximately; leave it out"
            )
    other_run = _other_run(fuse, fusion, weight=fusion_weight, bm25=bm25, model=model, collections=len(names))
    language = check_language(language)
    if model is not None and model.startswith(PREFIX):
        if url is None:
            raise InputError(f"{model}: say where the cluster is: --url https://...")
        if len(names) > 1:
            raise InputError("an index belongs to one collection; give one --collection")
        loaded = load_collection(names[0], split)
        if output is not None:
            check_ids(loaded.queries, loaded.doc_ids)
        client = login.client(url)
        encoder = None
        if weights is not None:
            encoder = _load(
                weights, idf, max_length=max_length, encode_queries=False, count_repeats=count_repeats
            )
        evaluate_index(
            client,
            model.removeprefix(PREFIX),
            collection=loaded,
            model=encoder,  # type: ignore[arg-type]
            bm25=bm25,
            k=k,
            measures=measure,
            output=output,
            ignore_identical_ids=ignore_identical_ids,
            how={
                "model_id": model_id,
                "analyzer": analyzer,
                "pipelines": pipeline,
                "field": field,
                "text_field": text_field,
                "bm25_boost": bm25_boost,
            },
        )
        return
    console = make_console(160)
    is_bm25 = model is not None and model.lower() == "bm25"
    system = None
    if run is None and not is_bm25:
        system = _load(
            str(model), idf, max_length=max_length, encode_queries=encode_queries, count_repeats=count_repeats
        )
    shown_name = name or (run.stem if run else "BM25" if is_bm25 else "/".join(Path(str(model)).parts[-2:]))
    baseline_name = "BM25" if shown_name != "BM25" else "BM25 (baseline)"

    results: list[Evaluation] = []
    baselines: list[Evaluation] = []
    both: list[Evaluation] = []
    for one in names:
        loaded = load_collection(one, split)
        if any(loaded.name == other.collection for other in results):
            raise InputError(f"two collections are called {loaded.name}; rename one of the folders")
        if output is not None:
            check_ids(loaded.queries, loaded.doc_ids)  # before hours of encoding
        console.print(f"{loaded.name}: {len(loaded.texts):,} documents, {len(loaded.queries):,} queries")
        stopwatch = Stopwatch()
        remarks, checked = _checks(loaded, system, training)
        for remark in remarks:
            console.print(f"  note: {remark}", style="yellow")
        if run is not None:
            result = evaluate_external_run(
                read_run(run), loaded, measure, name=shown_name, ignore_identical_ids=ignore_identical_ids
            )
        elif system is None:
            result = evaluate_bm25(
                loaded,
                k,
                measure,
                language=language,
                name=shown_name,
                stopwatch=stopwatch,
                ignore_identical_ids=ignore_identical_ids,
            )
        else:
            from neural_sparse.evaluation import evaluate_encoder

            result = evaluate_encoder(
                system,
                loaded,
                k,
                measure,
                passages=passages,
                recall=recall,
                name=shown_name,
                stopwatch=stopwatch,
                ignore_identical_ids=ignore_identical_ids,
            )
        result.details |= {"source": one, "split": split, "checks": checked, "model": str(model or run)}
        results.append(result)
        if bm25 and not is_bm25:
            baselines.append(
                evaluate_bm25(
                    loaded,
                    k,
                    measure,
                    language=language,
                    name=baseline_name,
                    stopwatch=stopwatch,
                    ignore_identical_ids=ignore_identical_ids,
                )
            )
        asked = result.details.get("query_inference", {"gflop": 0.0})
        if asked["gflop"]:
            console.print(
                f"  queries go through a transformer ({asked['encoder']}): {asked['gflop']:.2g} GFLOP each"
            )
        for read in (result, *baselines[-1:]):
            if read.details.get("words", ENGLISH_WORDS) != ENGLISH_WORDS:
                console.print(f"  BM25 reads {read.details['words']}")
        if recall is not None:
            console.print(f"  searched for {k:,} hits: {result.details['search']}")
        stopwatch.measure()
        if fuse is not None:
            other = baselines[-1].run if other_run is None else other_run
            together = {
                query_id: fused(
                    [ranking, other.get(query_id, {})], fusion, [fusion_weight, 1 - fusion_weight]
                )
                for query_id, ranking in result.run.items()
            }
            name_of_both = (
                f"{shown_name} + {baseline_name if other_run is None else Path(fuse).stem} ({fusion})"
            )
            both.append(
                evaluate_external_run(
                    together, loaded, measure, name=name_of_both, ignore_identical_ids=ignore_identical_ids
                )
            )
        if output is not None:
            folder = loaded.name.replace("/", "-")  # names of ir_datasets
            result.save(output / folder if len(names) > 1 else output)
            for baseline in baselines[-1:]:
                baseline.save(output / "bm25" / folder)
            for fused_too in both[-1:]:
                fused_too.save(output / "fused" / folder)
        for kept in (result, *baselines[-1:], *both[-1:]):
            kept.run = {}  # a thousand documents a query: thirteen collections of them need not be held
    systems = [System.of(*baselines)] if baselines else []
    report = compare_systems([*systems, System.of(*results), *([System.of(*both)] if both else [])])
    print_report(report, console)
    if output is not None:
        write_report(report, output, title=f"{shown_name} on {', '.join(report.collections)}")
        if len(names) > 1:
            write_json(output / "metrics.json", report.to_dict()["systems"][len(systems)])
        console.print(f"written to {output} (report.html is the whole report)")


def _other_run(
    fuse: str | None, fusion: str, *, weight: float, bm25: bool, model: str | None, collections: int
) -> Run | None:
    """The run to fuse with; None for BM25's, which is judged anyway.

    Raises:
        InputError: nothing there to fuse with, or not in this way.
    """
    from neural_sparse.errors import InputError
    from neural_sparse.evaluation import read_run
    from neural_sparse.search.fusion import check_fusion

    check_fusion(fusion, [weight, 1 - weight], 2)
    if fuse is None:
        return None
    if model is not None and model.startswith("opensearch:"):
        raise InputError(
            "--fuse is for models, bm25 and runs; write the index's run with --output and fuse that"
        )
    if fuse.lower() == "bm25":
        if not bm25 or (model is not None and model.lower() == "bm25"):
            raise InputError("--fuse bm25 takes BM25 evaluated beside another system; leave out --no-bm25")
        return None
    if collections > 1:
        raise InputError("a run belongs to one collection; give one --collection")
    return read_run(Path(fuse))


def _load(
    model: str, idf: Path | None, max_length: int | None, encode_queries: bool, count_repeats: bool
) -> Encoder:
    from neural_sparse.errors import InputError

    if not encode_queries:
        from neural_sparse.model.encoder import NeuralSparseEncoder

        encoder = NeuralSparseEncoder(model, max_length, idf=idf)
        encoder.count_repeats = count_repeats
        return encoder
    if idf is not None or count_repeats:
        option = "--idf" if idf is not None else "--count-repeats"
        raise InputError(f"{option} is for queries that are looked up; leave out --encode-queries")
    from sentence_transformers import SparseEncoder

    from neural_sparse.evaluation.systems import PlainEncoder
    from neural_sparse.model.location import model_not_found, resolve_model

    try:
        plain = SparseEncoder(resolve_model(model))
    except OSError as error:
        raise model_not_found(model, error) from error
    if max_length is not None:
        plain.max_seq_length = max_length
    return PlainEncoder(plain)


def _checks(loaded: Collection, system: object, training: Path | None) -> tuple[list[str], dict[str, object]]:
    """What is odd about the collection, in sentences and as figures."""
    from neural_sparse.corpora.checks import check_collection
    from neural_sparse.evaluation.leakage import find_leakage, read_training_texts

    sound = check_collection(loaded, getattr(system, "tokenizer", None), getattr(system, "max_length", None))
    remarks, figures = sound.remarks(), {"soundness": sound.to_dict()}
    if training is not None:
        leakage = find_leakage(loaded, read_training_texts(training))
        remarks += leakage.remarks() or ["no test query or document was found in the training texts"]
        figures["leakage"] = leakage.to_dict()
    return remarks, figures  # type: ignore[return-value]
