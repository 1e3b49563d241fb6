"""Fingerprints of what a run reads: another file under an old name is another run, as another recipe is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neural_sparse.config import Recipe
from neural_sparse.corpora.corpus_file import corpus_file
from neural_sparse.data.prepared import MANIFEST, is_prepared
from neural_sparse.io.files import sha256_file
from neural_sparse.io.urls import Location, Url, location
from neural_sparse.model.location import content_hash

FILE = "inputs.json"  # in the run's folder


def input_sums(recipe: Recipe) -> dict[str, str]:
    """{"key: name": sha256} of the files that decide a run; names that are no files here are left out.

    Of a prepared folder that of its manifest, which holds the sums of its files; of a start model that is a folder,
    its weights, tokenizer and configuration.
    """
    named: list[tuple[str, Any]] = [("train", one) for one in recipe.train]
    named += [("corpus", recipe.corpus), ("idf", recipe.idf), ("dev", recipe.dev)]
    named += [("teachers", one.name) for one in recipe.teachers if one.kind == "precomputed"]
    sums = {}
    for key, name in named:
        if name is not None and (found := _sum(location(str(name)))) is not None:
            sums[f"{key}: {name}"] = found
    if Path(recipe.init).is_dir():
        sums[f"init: {recipe.init}"] = content_hash(Path(recipe.init))
    return sums


def changed_inputs(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A word for each input that is there both times and is not the same."""
    return [f"the data of {name} have changed" for name in now if before.get(name, now[name]) != now[name]]


def _sum(place: Location) -> str | None:
    sums = [f"{file} {sha256_file(file)}".removeprefix(str(place)) for file in _files(place)]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest() if sums else None


def _files(place: Location) -> Iterator[Location]:
    if place.is_file():
        yield place
        return
    if not place.is_dir():
        return
    if isinstance(place, Path) and is_prepared(place):
        yield place / MANIFEST
        return
    parts: list[Location] = [corpus_file(place), place / "queries.jsonl"]
    if isinstance(place, Url):
        parts.append(place / "qrels" / "train.tsv")  # type: ignore[arg-type]
    else:
        parts += sorted((place / "qrels").glob("*.tsv"))
    yield from (part for part in parts if part.is_file())
