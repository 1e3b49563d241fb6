"""The registry of public training data: registry.yaml, read and checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from neural_sparse.errors import InputError

_FILE = Path(__file__).with_name("registry.yaml")


@dataclass(frozen=True)
class PublicSet:
    """A public set of training data.

    Attributes:
        repository, revision: on the Hugging Face hub.
        files: names or patterns inside the repository.
        layout: "rows" (an example per row) or "beir" (corpus, queries, judgements).
        fields: what the two texts of a pair are.
        rows: pairs it holds, as published; None if that is not stated.
        sample: pairs that the recipe draws; None: all.
        licence: of the texts.
        accept: whether the user has to accept terms.
        url: of the terms or the source.
        qrels_repository, qrels_revision, qrels_files: of the judgements of a "beir" set.
    """

    name: str
    repository: str
    revision: str
    files: tuple[str, ...]
    layout: str
    fields: tuple[str, str]
    rows: int | None
    sample: int | None
    licence: str
    accept: bool
    url: str
    qrels_repository: str | None = None
    qrels_revision: str = "main"
    qrels_files: tuple[str, ...] = ()


@cache
def public_sets() -> dict[str, PublicSet]:
    """Every set by its name."""
    return {
        name: PublicSet(name=name, **{key: _plain(value) for key, value in entry.items()})
        for name, entry in _read()["sets"].items()
    }


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def groups() -> dict[str, list[str]]:
    """Names that stand for several sets: "pretraining" for the recipe's thirteen."""
    return dict(_read()["groups"])


def expand_groups(names: Iterable[str]) -> list[str]:
    """The names with groups replaced by their sets (folders and files of these names go first)."""
    known = groups()
    return [one for name in names for one in (known.get(name, [name]) if not Path(name).exists() else [name])]


def nearest(name: str) -> str:
    """The registered names that a mistyped one may mean, as the end of a message."""
    by_lower = {known.lower(): known for known in [*public_sets(), *groups()]}
    near = get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(by_lower[one] for one in near)}?" if near else ""


def require_acceptance(entry: PublicSet, accepted: Iterable[str]) -> None:
    """
    Raises:
        InputError: the set's terms must be accepted, and are not.
    """
    if entry.accept and entry.name not in accepted and "all" not in accepted:
        raise InputError(
            f"{entry.name}: its licence ({entry.licence}) must be accepted first; read {entry.url} and, if you "
            f"agree, add --accept-licence {entry.name}"
        )


@cache
def _read() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return values
