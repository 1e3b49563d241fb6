"""Query sets and judgements for OpenSearch's Search Relevance Workbench (3.1 or later)."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neural_sparse.corpora.qrels_file import Qrels
from neural_sparse.errors import InputError
from neural_sparse.io.files import replacing_folder, write_json, write_text

logger = logging.getLogger(__name__)

_REFUSED = re.compile(r'["\\<>\r\n]+')  # by the plugin, in every text
_LONGEST = 2000
_LONGEST_NAME = 50
_MOST_QUERIES = 1000  # plugins.search_relevance.query_set.maximum, unless the cluster says otherwise


def write_workbench(
    folder: str | Path, name: str, queries: Mapping[str, str], qrels: Qrels, replace: bool = False
) -> tuple[int, int]:
    """Write query_set.json and judgments.json, the bodies of two PUT requests, and requests.http that sends them.

    The workbench knows queries by their texts alone: judgements of equal texts are joined.

    Args:
        name: of the query set and the judgement list.
        replace: put a space where a text holds what the plugin refuses (quotes, backslashes, angle brackets, ends of
            lines), in both files.

    Returns:
        Number of queries and of judgements.

    Raises:
        InputError: a name or a text that the plugin refuses; two grades of one document for one text; no query with a
            judgement.
    """
    if not 0 < len(name) <= _LONGEST_NAME or _REFUSED.search(name):
        raise InputError(
            f"the workbench wants a name of 1 to {_LONGEST_NAME} characters without quotes, backslashes or angle "
            f"brackets, not {name!r}"
        )
    ratings: dict[str, dict[str, int]] = {}
    for query_id, text in queries.items():
        if query_id not in qrels:
            continue
        text = _text(query_id, text, replace)
        joined = ratings.setdefault(text, {})
        for doc_id, grade in qrels[query_id].items():
            if joined.setdefault(doc_id, grade) != grade:
                raise InputError(
                    f"query {query_id!r}: another query has the same text, and document {doc_id!r} another grade "
                    f"for it ({joined[doc_id]} and {grade}); the workbench knows queries by their texts: leave one out"
                )
    if not ratings:
        raise InputError("no query has a judgement: are the files of one collection?")
    if len(ratings) > _MOST_QUERIES:
        logger.warning(
            "%d queries: a cluster takes %d in a set unless plugins.search_relevance.query_set.maximum says otherwise",
            len(ratings),
            _MOST_QUERIES,
        )
    query_set: dict[str, Any] = {
        "name": name,
        "description": f"{len(ratings)} judged queries",
        "sampling": "manual",
        "querySetQueries": [{"queryText": text} for text in ratings],
    }
    judgements: dict[str, Any] = {
        "name": name,
        "description": f"Judgements of {len(ratings)} queries",
        "type": "IMPORT_JUDGMENT",
        "judgmentRatings": [
            {
                "query": text,
                "ratings": [{"docId": doc_id, "rating": str(float(grade))} for doc_id, grade in one.items()],
            }
            for text, one in ratings.items()
        ],
    }
    with replacing_folder(folder) as at:
        write_json(at / "query_set.json", query_set)
        write_json(at / "judgments.json", judgements)
        write_text(at / "requests.http", _REQUESTS)
    return len(ratings), sum(map(len, ratings.values()))


def _text(query_id: str, text: str, replace: bool) -> str:
    if replace:
        text = " ".join(_REFUSED.sub(" ", text).split())
    elif found := _REFUSED.search(text):
        raise InputError(
            f"query {query_id!r} holds {found[0]!r}, and the workbench refuses quotes, backslashes, angle brackets and "
            "ends of lines: --replace puts spaces there"
        )
    if not text or len(text) > _LONGEST:
        raise InputError(
            f"query {query_id!r} has {len(text):,} characters, and the workbench takes 1 to {_LONGEST:,}: leave it out"
        )
    return text


_REQUESTS = """PUT {{url}}/_plugins/_search_relevance/query_sets
Content-Type: application/json

< ./query_set.json

###
PUT {{url}}/_plugins/_search_relevance/judgments
Content-Type: application/json

< ./judgments.json
"""
