"""`neural-sparse mine`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from neural_sparse.cli.engine import ADDRESS, ENGINE, EngineName, chosen_engine

if TYPE_CHECKING:
    from rich.console import Console


def mine(
    data: list[str] = typer.Argument(
        help="Training data: JSONL files ({query, pos} per line) or folders in BEIR layout with qrels/train.tsv, "
        "paths or URLs (s3://, gs://, hf://), or folders made by `data prepare`."
    ),
    output: str = typer.Option(
        ...,
        "--output",
        "-o",
        help="JSONL file to write, a path or a URL: {query, pos, negs}. Of one folder made by `data prepare`, a "
        "name without an ending gives another such folder.",
    ),
    corpus: str | None = typer.Option(
        None, help="corpus.jsonl whose documents may be negatives, too; a path or a URL."
    ),
    source: list[str] = typer.Option(
        ["bm25"],
        "--source",
        "-s",
        help="Where candidates come from: bm25, dense:NAME, sparse:NAME, student:FOLDER or "
        "endpoint:MODEL@URL. Repeat for a union by rank.",
    ),
    negatives: int = typer.Option(30, "--negatives", "-n", min=1, help="Negatives per query."),
    ranks: str = typer.Option(
        "1-100", help="Ranks to choose from, relevant documents not counted (e.g. 10-100)."
    ),
    top: bool = typer.Option(False, "--top", help="Take the best of the ranks instead of drawing from them."),
    teacher: str | None = typer.Option(
        None,
        help="What the margins compare: a source, cross-encoder:NAME or rerank-endpoint:MODEL@URL.",
        show_default="the first dense or sparse source, else BM25",
    ),
    absolute_margin: float | None = typer.Option(
        None, min=0, help="A negative scores at least this much below the positive."
    ),
    relative_margin: float | None = typer.Option(
        None,
        min=0,
        help="A negative scores at least this share below the positive (0.05: at most 95 % of it).",
    ),
    max_score: float | None = typer.Option(None, help="A negative scores at most this."),
    cross_encoder: str | None = typer.Option(
        None, help="A cross-encoder that has the last word on what was chosen."
    ),
    max_cross_encoder_score: float | None = typer.Option(
        None, help="Its raw output above which a candidate is dropped."
    ),
    jaccard: float = typer.Option(
        0.8, min=0, max=1, help="Shared part of both texts from which they are near-duplicates; 0: off."
    ),
    containment: float = typer.Option(
        0.9, min=0, max=1, help="Part of the positive that makes a candidate a near-duplicate; 0: off."
    ),
    scores: bool = typer.Option(
        False, "--scores", help="Write {query, docs, scores}, the positive first and no document above it."
    ),
    keep: bool = typer.Option(
        False,
        "--keep",
        help="Keep the negatives that the data bring; mine only for examples without any.",
        show_default="all are mined anew",
    ),
    language: str = typer.Option(
        "auto",
        help="Of BM25's words: a language (german, or de), korean (morphemes), bigrams (pairs of letters), plain.",
        show_default="told from the documents",
    ),
    teacher_cache: Path = typer.Option(
        Path("outputs/teacher_cache"), help="Folder of the teachers' vectors, shared with training."
    ),
    max_length: int | None = typer.Option(
        None, min=3, help="Tokens a teacher reads of a text.", show_default="512 or its own limit"
    ),
    bf16: bool | None = typer.Option(
        None, help="Encode in bfloat16.", show_default="where the device has it"
    ),
    trust_remote_code: list[str] = typer.Option(
        [],
        "--trust-remote-code",
        metavar="NAME",
        help="A model whose own program code may be run; repeatable. Only for a repository you have read.",
    ),
    seed: int = typer.Option(42, help="Of the draw."),
    engine: EngineName = ENGINE,
    address: str | None = ADDRESS,
) -> None:
    """Find hard negatives for training data, and drop those that are probably relevant.

    The same command goes on where it was stopped.

    Examples:

      neural-sparse mine pairs.jsonl --corpus corpus.jsonl -o mined.jsonl

      neural-sparse mine my-collection/ -s bm25 -s dense:BAAI/bge-small-en-v1.5 --relative-margin 0.05 -o mined.jsonl
    """
    from neural_sparse.config import check_language, check_trusted
    from neural_sparse.data.prepared import PreparedSet, is_prepared
    from neural_sparse.data.training_set import load_training_set
    from neural_sparse.errors import InputError
    from neural_sparse.io.files import check_output, check_output_folder
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.io.urls import location
    from neural_sparse.mining.miner import Miner, MiningOptions
    from neural_sparse.mining.run import mine_to_file
    from neural_sparse.mining.sources import PAIR_SCORERS, SOURCE_KINDS, Sources, parse_source
    from neural_sparse.teachers.builder import TeacherBuilder
    from neural_sparse.teachers.cache import TeacherCache

    # Everything that can be wrong on the command line, before hours of encoding.
    if not (window := re.fullmatch(r"(\d+)-(\d+)", ranks)):
        raise InputError(f"--ranks {ranks}: write them as 10-100, counted from 1")
    options = MiningOptions(
        num_negatives=negatives,
        first_rank=int(window[1]),
        last_rank=int(window[2]),
        sample=not top,
        absolute_margin=absolute_margin,
        relative_margin=relative_margin,
        max_score=max_score,
        max_cross_encoder_score=max_cross_encoder_score,
        below_positive=scores,
        jaccard=jaccard or None,
        containment=containment or None,
        seed=seed,
    )
    language = check_language(language)
    for text in source:
        parse_source(text)
    if teacher is not None:
        parse_source(teacher, (*SOURCE_KINDS, *PAIR_SCORERS))
    elif options.needs_teacher:
        teacher = next((text for text in source if text != "bm25"), source[0])
    if cross_encoder is None and max_cross_encoder_score is not None:
        raise InputError("--max-cross-encoder-score needs --cross-encoder NAME")
    if scores and teacher is None and cross_encoder is None:
        raise InputError("--scores are a teacher's: name one with --teacher or --cross-encoder")

    named = [text.partition(":")[2] for text in (*source, teacher or "")]
    check_trusted(trust_remote_code, [*named, cross_encoder])

    prepared, target, first = None, location(output), location(data[0])
    if (
        not target.suffix
        and corpus is None
        and len(data) == 1
        and isinstance(first, Path)
        and is_prepared(first)
    ):
        if not isinstance(target, Path):
            raise InputError(
                f"{output}: a prepared folder is memory-mapped; write it to a disk, or name a .jsonl"
            )
        check_output_folder(target)
        prepared = PreparedSet.load(first)
    else:
        check_output(target)
    loaded = load_training_set(data, corpus)
    console = make_console()
    console.print(f"{len(loaded):,} examples, {len(loaded.documents):,} documents")
    lacking = loaded.without_negatives
    bring = len(loaded) - len(lacking)
    if keep and not len(lacking):
        raise InputError("every example brings negatives of its own; leave out --keep to mine others")
    if bring:
        what = "are kept" if keep else "are replaced (--keep keeps them and mines for the rest)"
        console.print(f"{bring:,} examples bring negatives of their own, which {what}")
    with chosen_engine(engine, address) as chosen:
        builder = TeacherBuilder((), bf16, tuple(trust_remote_code), max_length, language=language)
        sources = Sources(loaded, TeacherCache(teacher_cache, engine=chosen), builder)
        miner = Miner(
            loaded,
            [sources.source(text) for text in source],
            options=options,
            teacher=sources.scorer(teacher) if teacher is not None else None,
            cross_encoder=sources.scorer(f"cross-encoder:{cross_encoder}")
            if cross_encoder is not None
            else None,
            only=lacking if keep and bring else None,
        )
        # Only a cross-encoder computes while the blocks are mined.
        judged = cross_encoder is not None or (teacher or "").startswith("cross-encoder:")
        miners = chosen.without_gpus() if chosen is not None and not judged else chosen
        counts = mine_to_file(miner, target, with_scores=scores, engine=miners, prepared=prepared)
    _print_counts(counts, options.num_negatives, console)
    console.print(f"written to {output}")


def _print_counts(counts: Mapping[str, int], wanted: int, console: Console) -> None:
    from neural_sparse.report.tables import terminal_table

    candidates, queries = counts["candidates"], counts["queries"]
    rows = {
        "candidates": candidates,
        "known to be relevant": counts["known_relevant"],
        "equal to the positive": counts["equal"],
        "near-duplicate of the positive": counts["near_duplicate"],
        "too close by the teacher's score": counts["teacher"],
        "relevant by the cross-encoder": counts["cross_encoder"],
        "kept": counts["kept"],
    }
    rows["passed, not chosen"] = 2 * candidates - sum(rows.values())
    cells = [
        [name, f"{count:,}", f"{count / queries:.1f}", f"{count / candidates:.2%}" if candidates else ""]
        for name, count in rows.items()
    ]
    console.print(terminal_table(["", "documents", "per query", "share"], cells))
    if counts["fewer"]:
        console.print(
            f"{counts['fewer']:,} of {queries:,} queries ({counts['fewer'] / queries:.1%}) have fewer than the "
            f"{wanted} negatives asked for, {counts['none']:,} of them none: widen --ranks, add a --source or "
            "loosen the margins",
            style="yellow",
        )
