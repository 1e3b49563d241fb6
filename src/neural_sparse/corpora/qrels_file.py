"""Relevance judgements on disk, in BEIR's or TREC's form, as every command reads them."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from neural_sparse.corpora.fields import as_id
from neural_sparse.errors import InputError
from neural_sparse.io.files import replacing
from neural_sparse.io.lines import text_lines
from neural_sparse.io.urls import Location, location

logger = logging.getLogger(__name__)

Qrels = dict[str, dict[str, int]]
_QUERY = re.compile(r"query[-_ ]?id|qid|query|topic", re.IGNORECASE)
_DOCUMENT = re.compile(r"(corpus|doc|document|passage)[-_ ]?id|docno|pid|doc|document|passage", re.IGNORECASE)
_GRADE = re.compile(r"score|relevance|rel|label|grade|judge?ment|qrel", re.IGNORECASE)


def read_qrels(path: str | Location) -> Qrels:
    """Judgements of a file: query id, document id and grade, or TREC's four columns; a header line names them.

    Columns are parted by tabs or, in a line without any, by spaces. A line that says again what another says counts
    once. Negative grades count as 0 (TREC-COVID in BEIR holds -1); how many is said once.

    Raises:
        InputError: a missing or empty file, too few columns, a grade that is no whole number, two grades of one
            document for one query (file and line).
    """
    path = location(path)
    grades: dict[str, dict[str, float]] = {}
    header: list[str] | None = None
    for place, line in text_lines(path):
        cells: Any = cells_of(line)
        if header is None:
            header = cells if is_header(cells) else []
            if header:
                continue
        if header:
            if len(cells) != len(header):
                raise InputError(f"{place}: {len(cells)} columns, but the header names {len(header)}")
            cells = dict(zip(header, cells, strict=True))
        query_id, doc_id, grade = judgement(cells, place)
        judged = grades.setdefault(query_id, {})
        if judged.setdefault(doc_id, grade) != grade:
            raise InputError(
                f"{place}: document {doc_id!r} has two grades for query {query_id!r}, {judged[doc_id]:g} and "
                f"{grade:g}"
            )
    if not grades:
        raise InputError(f"{path}: holds no judgement")
    return whole_grades(grades, str(path))


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()


def is_header(cells: Sequence[str]) -> bool:
    """Whether a first line names the columns: the first is a query's or the last a grade's, and no number."""
    last = cells[-1].strip()
    return not _is_number(last) and bool(_QUERY.fullmatch(cells[0].strip()) or _GRADE.fullmatch(last))


def judgement(row: Any, where: object) -> tuple[str, str, float]:
    """Query id, document id and grade of one row: cells, or a mapping from the names of a header.

    A mapping without a column for grades is relevant: NanoBEIR has none.

    Raises:
        InputError: columns that are missing, a grade that is no whole number.
    """
    if isinstance(row, Mapping):
        query, document, grade = (
            next((row[name] for name in row if pattern.fullmatch(str(name))), None)
            for pattern in (_QUERY, _DOCUMENT, _GRADE)
        )
        if query is None or document is None:
            raise InputError(
                f"{where}: expected query-id, corpus-id and score; found: {', '.join(map(str, row))}"
            )
        if not any(_GRADE.fullmatch(str(name)) for name in row):
            grade = 1
    elif len(row) in (3, 4):  # TREC has an iteration in second place
        query, document, grade = row[0], row[-2], row[-1]
    else:
        raise InputError(
            f"{where}: expected query-id, corpus-id and score parted by tabs, found {len(row)} columns"
        )
    value = float(str(grade)) if _is_number(grade) else math.nan
    if not value.is_integer():
        raise InputError(
            f"{where}: the grade {grade!r} is no whole number; round the grades, or multiply them to whole numbers"
        )
    return as_id(query, where, "the query's id"), as_id(document, where, "the document's id"), value


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def whole_grades(qrels: Mapping[str, Mapping[str, float]], source: str = "the judgements") -> Qrels:
    """Judgements as whole numbers >= 0; queries without any are dropped.

    A negative grade counts as 0, with one warning for all.

    Raises:
        InputError: a fractional grade.
    """
    negative = 0
    checked: Qrels = {}
    for query_id, judged in qrels.items():
        for doc_id, grade in judged.items():
            if not _is_number(grade) or not float(grade).is_integer():
                raise InputError(
                    f"{source}: the grade of document {doc_id!r} for {query_id!r} is {grade}, no whole number"
                )
            negative += grade < 0
        if judged:
            checked[query_id] = {doc_id: max(int(grade), 0) for doc_id, grade in judged.items()}
    if negative:
        logger.warning("%s: %d negative grades count as 0 (not relevant)", source, negative)
    return checked


def write_qrels(path: str | Location, qrels: Qrels) -> None:
    with replacing(str(path)) as file, file.open("w", encoding="utf-8") as out:
        out.write("query-id\tcorpus-id\tscore\n")
        for query_id, grades in qrels.items():
            for doc_id, grade in grades.items():
                out.write(f"{query_id}\t{doc_id}\t{grade}\n")
