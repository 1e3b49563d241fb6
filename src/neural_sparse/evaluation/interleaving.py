"""Two result lists in one, so that clicks tell which is better: team-draft interleaving."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from neural_sparse.errors import InputError

Team = Literal["a", "b"]


class Placed(NamedTuple):
    """A document of an interleaved list; `team` is None where only one list had any left, so that none earns it."""

    doc_id: str
    team: Team | None


def seed_of(*parts: str) -> int:
    """A seed from texts, such as the test's secret, the session and the query: the same on every reload and machine.

    >>> seed_of("secret", "session", "red shoes") == seed_of("secret", "session", "red shoes")
    True
    >>> seed_of("a", "bc") == seed_of("ab", "c")
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return int.from_bytes(digest.digest()[:8], "little")


def team_draft(a: Sequence[str], b: Sequence[str], k: int, seed: int) -> list[Placed]:
    """The first k of both lists by team draft (Radlinski, Kurup and Joachims 2008, "How does clickthrough data reflect
    retrieval quality?").

    The team with fewer documents picks its best one that is not there yet; where both have as many, a coin decides. A
    document in both lists belongs to who picks it. Once a list has nothing new, the rest of the other fills the page
    for no team. The list is a function of its arguments, and that for k - 1 is its beginning: pages follow on one
    another.

    Args:
        a, b: document ids, best first.
        seed: of the coin, see `seed_of`.

    Raises:
        InputError: k < 1; an id twice in one list.

    >>> [tuple(placed) for placed in team_draft(["x", "y"], ["y", "z"], 3, seed=1)]
    [('y', 'b'), ('x', 'a'), ('z', None)]
    """
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    for name, one in (("a", a), ("b", b)):
        if len(set(one)) < len(one):
            raise InputError(f"list {name} holds an id twice")
    coin = random.Random(seed)
    lists: dict[Team, Sequence[str]] = {"a": a, "b": b}
    places: dict[Team, int] = {"a": 0, "b": 0}
    sizes: dict[Team, int] = {"a": 0, "b": 0}
    seen: set[str] = set()
    placed: list[Placed] = []

    def skip(team: Team) -> bool:
        """Whether the team has something new at its place."""
        ids = lists[team]
        while places[team] < len(ids) and ids[places[team]] in seen:
            places[team] += 1
        return places[team] < len(ids)

    while len(placed) < k:
        can = {team: skip(team) for team in lists}
        if not any(can.values()):
            break
        if all(can.values()):
            if sizes["a"] == sizes["b"]:
                team: Team = "a" if coin.getrandbits(1) else "b"
            else:
                team = min(sizes, key=lambda one: sizes[one])
            earns: Team | None = team
            sizes[team] += 1
        else:
            team, earns = ("a" if can["a"] else "b"), None
        doc_id = lists[team][places[team]]
        seen.add(doc_id)
        placed.append(Placed(doc_id, earns))
    return placed


def credit(teams: Mapping[str, Team | None], clicked: Iterable[str]) -> tuple[int, int]:
    """Clicks that teams a and b earn: each document once, those of no team not at all.

    >>> credit({"x": "a", "y": "b", "z": None}, ["y", "z", "y"])
    (0, 1)
    """
    earned = [teams[doc_id] for doc_id in set(clicked) if doc_id in teams]
    return earned.count("a"), earned.count("b")
