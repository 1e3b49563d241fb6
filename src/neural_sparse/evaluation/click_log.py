"""What users were shown and clicked: this package's own JSON lines, and events of User Behavior Insights (UBI).

Own form, one object per line (`neural-sparse ab-test serve` writes it):

    {"type": "impression", "time": "2026-05-04T09:00:00Z", "query_id": "q1", "session_id": "s1", "query": "red shoes",
     "hits": [{"id": "d3", "team": "a"}, {"id": "d9", "team": "b"}, {"id": "d4", "team": null}]}
    {"type": "click", "time": "2026-05-04T09:00:07Z", "query_id": "q1", "doc_id": "d9"}

An impression of a split test has "arm": "a" or "b" in place of teams. Times are ISO 8601 (without a zone: UTC) or
milliseconds since 1970.

UBI (schema 1.3 of ubisearch.dev; indexes ubi_queries and ubi_events): an impression is a query with query_id,
client_id, timestamp, query_response_hit_ids and, in query_attributes, "teams" (a letter per hit: "a", "b" or "-") or
"arm"; a click is an event of an action_name that counts, with query_id and event_attributes.object.object_id.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from neural_sparse.corpora.fields import as_id
from neural_sparse.errors import InputError
from neural_sparse.evaluation.interleaving import Team
from neural_sparse.io.lines import read_jsonl, text_lines

Unit = Literal["session", "user", "query"]


@dataclass
class Impression:
    """A page of results that was shown.

    Attributes:
        time: seconds since 1970.
        session, user: who saw it; "" if not known.
        teams: document -> who placed it, of an interleaved page.
        arm: whose page it was, of a split test.
        clicks: time of the first click on each document.
    """

    query_id: str
    time: float
    session: str
    user: str
    teams: dict[str, Team | None]
    arm: Team | None
    clicks: dict[str, float] = field(default_factory=dict)

    def unit(self, kind: Unit, place: object) -> str:
        """Raises InputError: not known."""
        if kind == "query":
            return self.query_id
        found = self.session if kind == "session" else self.user
        if not found:
            other = "user" if kind == "session" else "session"
            raise InputError(
                f"{place}: query {self.query_id!r} has no {kind} id; take --unit {other}, or log {kind} ids"
            )
        return found


@dataclass
class ClickLog:
    """Impressions by query id, with their clicks.

    Attributes:
        source: for messages.
        remarks: what was left out, and how often.
        last: time of the last line.
    """

    source: str
    impressions: dict[str, Impression]
    remarks: list[str]
    last: float


def read_click_log(*paths: str | Path) -> ClickLog:
    """Read files of the own form as one log, in any order of lines.

    Raises:
        InputError: no such file; a line that is no JSON, of another type, without a time, an id or its teams (file and
            line); no impression.
    """
    clicks: list[tuple[str, str, float]] = []
    impressions: list[Impression] = []
    for path in paths:
        for where, row in _rows(path):
            kind = row.get("type")
            if kind == "impression":
                impressions.append(_impression(row, where))
            elif kind == "click":
                query_id, doc_id = (as_id(row.get(name), where, name) for name in ("query_id", "doc_id"))
                clicks.append((query_id, doc_id, seconds(row.get("time"), where)))
            elif kind not in ("test", "failure"):
                raise InputError(f'{where}: "type" is impression, click, failure or test, not {kind!r}')
    return _joined(", ".join(map(str, paths)), impressions, clicks)


def read_ubi(
    queries: str | Path | None,
    events: str | Path,
    log: str | Path | None = None,
    actions: Collection[str] = ("click",),
) -> ClickLog:
    """Read exports of ubi_queries and ubi_events: JSON lines of documents, or of hits that hold them as "_source".

    Args:
        queries: impressions; or `log`, of the own form, which knows teams.
        actions: of events that count as clicks.

    Raises:
        InputError: as `read_click_log`.
    """
    impressions: list[Impression] = []
    if log is not None:
        impressions += [
            _impression(row, where) for where, row in _rows(log) if row.get("type") == "impression"
        ]
    if queries is not None:
        impressions += [_ubi_query(_source(row), where) for where, row in _rows(queries)]
    clicks = []
    others: dict[str, int] = {}
    sessions: dict[str, str] = {}
    for where, row in _rows(events):
        event = _source(row)
        action = event.get("action_name")
        if not isinstance(action, str):
            raise InputError(f"{where}: an event of UBI has an action_name, here it is {action!r}")
        query_id = event.get("query_id")
        if isinstance(query_id, str) and isinstance(event.get("session_id"), str):
            sessions.setdefault(query_id, event["session_id"])
        if action not in actions:
            others[action] = others.get(action, 0) + 1
            continue
        if query_id is None:
            others[f"{action} without a query_id"] = others.get(f"{action} without a query_id", 0) + 1
            continue
        attributes = event.get("event_attributes")
        about = attributes.get("object") if isinstance(attributes, dict) else None
        if not isinstance(about, dict) or not (found := about.get("object_id", about.get("internal_id"))):
            raise InputError(f"{where}: a {action} of UBI has event_attributes.object.object_id")
        clicks.append(
            (as_id(query_id, where, "query_id"), as_id(found, where, "object_id"), _ubi_time(event, where))
        )
    for one in impressions:  # ubi_queries has no sessions, its events have
        one.session = one.session or sessions.get(one.query_id, "")
    found_log = _joined(str(events), impressions, clicks)
    found_log.remarks += [f"{count:,} events of {name} left out" for name, count in others.items()]
    return found_log


def seconds(value: Any, where: object) -> float:
    """Seconds since 1970 of a time in ISO 8601, or in milliseconds.

    Raises:
        InputError: none of the two.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value / 1000
    if isinstance(value, str):
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    raise InputError(f"{where}: the time {value!r} is neither ISO 8601 nor milliseconds since 1970")


def _rows(path: str | Path) -> Iterator[tuple[object, dict[str, Any]]]:
    # read_jsonl tells errors with their lines; places are read beside it for what is wrong inside a row.
    yield from ((where, row) for (where, _), row in zip(text_lines(path), read_jsonl(path), strict=True))


def _source(row: dict[str, Any]) -> dict[str, Any]:
    inner = row.get("_source")
    return inner if isinstance(inner, dict) else row


def _impression(row: Mapping[str, Any], where: object) -> Impression:
    arm = _team(row["arm"], where) if row.get("arm") is not None else None
    hits = row.get("hits")
    if not isinstance(hits, list) or not all(isinstance(hit, dict) for hit in hits):
        raise InputError(f'{where}: an impression has "hits", a list of {{"id": ..., "team": ...}}')
    teams: dict[str, Team | None] = {}
    for hit in hits:
        doc_id = as_id(hit.get("id"), where, "the id of a hit")
        if doc_id in teams:
            raise InputError(f"{where}: hit {doc_id!r} is there twice")
        if arm is None and "team" not in hit:
            raise InputError(
                f'{where}: hit {doc_id!r} has no "team" (a, b or null), and the impression no "arm"'
            )
        teams[doc_id] = None if hit.get("team") is None else _team(hit["team"], where)
    return Impression(
        as_id(row.get("query_id"), where, "query_id"),
        seconds(row.get("time"), where),
        session=_who(row.get("session_id"), where, "session_id"),
        user=_who(row.get("user_id"), where, "user_id"),
        teams=teams,
        arm=arm,
    )


def _ubi_query(row: Mapping[str, Any], where: object) -> Impression:
    attributes = row.get("query_attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    hits = row.get("query_response_hit_ids")
    hits = [] if hits is None else hits
    if not isinstance(hits, list):
        raise InputError(f"{where}: query_response_hit_ids is a list of ids")
    ids = [as_id(hit, where, "the id of a hit") for hit in hits]
    arm = attributes.get("arm")
    letters = "-" * len(ids) if arm is not None else attributes.get("teams")
    if not isinstance(letters, str) or len(letters) != len(ids) or not set(letters) <= set("ab-"):
        raise InputError(
            f'{where}: query_attributes of an interleaved query has "teams", a letter (a, b or -) for each of its '
            f'{len(ids)} hits, or "arm" in a split test; found {letters!r}. Or give the log of `ab-test serve` (--log)'
        )
    if len(set(ids)) < len(ids):
        raise InputError(f"{where}: a hit is there twice")
    teams: dict[str, Team | None] = {
        doc_id: None if letters[place] == "-" else _team(letters[place], where)
        for place, doc_id in enumerate(ids)
    }
    return Impression(
        as_id(row.get("query_id"), where, "query_id"),
        _ubi_time(row, where),
        session=_who(attributes.get("session_id"), where, "session_id"),
        user=_who(row.get("client_id"), where, "client_id"),
        teams=teams,
        arm=None if arm is None else _team(arm, where),
    )


def _ubi_time(row: Mapping[str, Any], where: object) -> float:
    return seconds(row.get("timestamp"), where)


def _team(value: Any, where: object) -> Team:
    if value not in ("a", "b"):
        raise InputError(f'{where}: teams and arms are "a" and "b", not {value!r}')
    return "a" if value == "a" else "b"


def _who(value: Any, where: object, name: str) -> str:
    return "" if value is None or value == "" else as_id(value, where, name)


def _joined(source: str, rows: list[Impression], clicks: list[tuple[str, str, float]]) -> ClickLog:
    """Clicks put to their impressions; a page that was loaded again is one."""
    impressions: dict[str, Impression] = {}
    mixed: set[str] = set()
    for one in sorted(rows, key=lambda row: row.time):
        first = impressions.setdefault(one.query_id, one)
        if first is one:
            continue
        if first.arm != one.arm or (first.session, first.user) != (one.session, one.user):
            mixed.add(one.query_id)
        for doc_id, team in one.teams.items():
            if first.teams.setdefault(doc_id, team) != team:
                mixed.add(one.query_id)
    if not impressions:
        raise InputError(f"{source}: no impression")
    unknown = elsewhere = early = 0
    for query_id, doc_id, time in sorted(clicks, key=lambda click: click[2]):
        shown = impressions.get(query_id)
        if shown is None:
            unknown += 1
        elif shown.teams and doc_id not in shown.teams:
            elsewhere += 1
        elif time < shown.time - 1:
            early += 1
        else:
            shown.clicks.setdefault(doc_id, time)
    for query_id in mixed:
        del impressions[query_id]
    remarks = [
        f"{count:,} {what} left out"
        for count, what in (
            (unknown, "clicks of queries that no impression has"),
            (elsewhere, "clicks on documents that the page did not show"),
            (early, "clicks from before their page was shown"),
            (len(mixed), "queries whose page changed its teams, arm or user between two loads"),
        )
        if count
    ]
    last = max([one.time for one in rows] + [time for _, _, time in clicks])
    return ClickLog(source, impressions, remarks, last)
