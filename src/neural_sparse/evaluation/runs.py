"""TREC run files: query-id Q0 document-id rank score tag, one line per retrieved document."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Container, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neural_sparse.errors import InputError
from neural_sparse.evaluation.measures import Run, trec_order, without_ties
from neural_sparse.io.files import replacing
from neural_sparse.io.lines import text_lines

if TYPE_CHECKING:
    from neural_sparse.search import Hits

logger = logging.getLogger(__name__)


def run_from_hits(hits: Hits, query_ids: Sequence[str], doc_ids: Sequence[str]) -> Run:
    """A run of an engine's hits, its order kept and no two scores of a query equal (see `ranking`).

    `hits.docs` are rows of `doc_ids`; -1 marks places without a hit.
    """
    scores = without_ties(hits.scores) if hits.scores.size else hits.scores
    run: Run = {}
    for query_id, rows, values in zip(query_ids, hits.docs, scores, strict=True):
        found = int(np.count_nonzero(rows >= 0))
        run[query_id] = {
            doc_ids[row]: value
            for row, value in zip(rows[:found].tolist(), values[:found].tolist(), strict=True)
        }
    return run


def write_run(path: str | Path, run: Run, tag: str = "neural-sparse") -> None:
    """Write a run, best document first. Scores are written with the digits that give the same float back.

    Columns are parted by spaces, as trec_eval reads them, or by tabs where an id holds a space, which is said.

    Raises:
        InputError: see `check_ids`.
    """
    spaced = check_ids(run, (doc_id for scores in run.values() for doc_id in scores))
    if spaced is not None:
        logger.warning("%s: parted by tabs, for %r holds a space: trec_eval cannot read it", path, spaced)
    part = " " if spaced is None else "\t"
    tag = re.sub(r"\s+", "-", tag.strip()) or "run"
    with replacing(path) as file, file.open("w", encoding="utf-8") as out:
        for query_id, scores in run.items():
            for rank, doc_id in enumerate(trec_order(scores), start=1):
                score = f"{float(np.float32(scores[doc_id])):.9g}"
                out.write(part.join((query_id, "Q0", doc_id, str(rank), score, tag)) + "\n")


def check_ids(
    *several: Iterable[str], fix: str = "give the collection other ids, or leave out --output"
) -> str | None:
    """The first id with a space in it, None where there is none.

    Args:
        fix: what the error says is to be done.

    Raises:
        InputError: an id that is empty, begins or ends with white space, or holds a tab or the end of a line, which
            no run file can carry.
    """
    spaced = None
    for one in chain(*several):
        if one.isspace() or not one or one != one.strip() or len(one.splitlines()) > 1 or "\t" in one:
            raise InputError(
                f"a run file cannot hold the id {one!r}: ids must not be empty, begin or end with white space, or hold "
                f"tabs or ends of lines; {fix}"
            )
        if spaced is None and len(one.split()) != 1:
            spaced = one
    return spaced


def read_run(path: str | Path) -> Run:
    """Read a run file; columns are parted by any white space, or by five tabs, between which ids may
    hold spaces. The score decides the order, not the rank.

    Scores are kept as 32-bit floats, which is what trec_eval compares.

    Raises:
        InputError: a missing or empty file; a line without six columns, with a score that is no number, or
            naming a document a second time for its query (file and line).
    """
    path = Path(path)
    run: Run = {}
    for place, line in text_lines(path):
        columns = line.split("\t") if line.count("\t") == 5 else line.split()
        if len(columns) != 6:
            raise InputError(
                f"{place}: expected 6 columns (query-id Q0 document-id rank score tag), found {len(columns)}"
            )
        query_id, _, doc_id, _, text, _ = columns
        try:
            score = float(np.float32(text))
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise InputError(f"{place}: the score {text!r} is no number")
        scores = run.setdefault(query_id, {})
        if doc_id in scores:
            raise InputError(f"{place}: query {query_id} has document {doc_id} twice")
        scores[doc_id] = score
    if not run:
        raise InputError(f"{path}: the run is empty")
    return run


def unknown_documents(run: Run, doc_ids: Container[str], name: str = "the run") -> int:
    """Count the retrieved documents that the collection does not hold, and say so once.

    They stay in the run: they take up places, as they would in trec_eval.
    """
    unknown = [doc_id for scores in run.values() for doc_id in scores if doc_id not in doc_ids]
    if unknown:
        logger.warning(
            "%s: %d of %d retrieved documents are not in the collection (first: %s), so not relevant",
            name,
            len(unknown),
            sum(map(len, run.values())),
            unknown[0],
        )
    return len(unknown)
