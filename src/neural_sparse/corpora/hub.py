"""Data sets of the Hugging Face hub, from the cache of this machine or downloaded: their files, and collections.

BEIR has two repositories per collection: texts in corpus/*.parquet and queries/*.parquet (older revisions:
corpus.jsonl.gz, queries.jsonl.gz), judgements in SPLIT.tsv. NanoBEIR has one: corpus/, queries/ and
qrels/, all parquet, and judgements without a grade (each is relevant).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.corpus_file import documents_of, queries_of
from neural_sparse.corpora.fields import with_title
from neural_sparse.corpora.qrels_file import Qrels, judgement, read_qrels, whole_grades
from neural_sparse.corpora.row_file import rows_of
from neural_sparse.errors import InputError, NoJudgementsError
from neural_sparse.io.resources import require_space

logger = logging.getLogger(__name__)

_NUMBERED = re.compile(r"-of-(\d+)\.parquet$")


def hub_files(name: str, repository: str, revision: str, patterns: tuple[str, ...]) -> list[Path]:
    """The files that the patterns mean, in order of pattern and name.

    A download that was interrupted goes on where it stopped; a file counts only once it is whole.

    Raises:
        InputError: neither cached nor to be downloaded, terms of the hub not accepted, no such file, or too
            little space (with what is needed).
    """
    if (cached := _cached(repository, revision, patterns)) and (found := complete_files(cached, patterns)):
        return found
    folder = _download(name, repository, revision, patterns)
    if found := complete_files(folder, patterns):
        return found
    raise InputError(f"{name}: {repository} at {revision} has no files {', '.join(patterns)}")


def complete_files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """Files that match, in order; none if a pattern has no file or a numbered series has gaps."""
    found: list[Path] = []
    for pattern in patterns:
        files = sorted(folder.glob(pattern))
        numbered = [int(match[1]) for file in files if (match := _NUMBERED.search(file.name))]
        if not files or (numbered and len(files) < max(numbered)):
            return []
        found += files
    return found


def _cached(repository: str, revision: str, patterns: tuple[str, ...]) -> Path | None:
    try:
        return Path(
            snapshot_download(
                repository,
                repo_type="dataset",
                revision=revision,
                allow_patterns=list(patterns),
                local_files_only=True,
            )
        )
    except (LocalEntryNotFoundError, ValueError):
        return None


def _download(name: str, repository: str, revision: str, patterns: tuple[str, ...]) -> Path:
    try:
        info = HfApi().dataset_info(repository, revision=revision, files_metadata=True)
        sizes = {
            one.rfilename: one.size or 0
            for one in info.siblings or []
            if any(fnmatch(one.rfilename, pattern) for pattern in patterns)
        }
        require_space(Path(constants.HF_HUB_CACHE), sum(sizes.values()), f"the download of {name}")
        logger.info("downloading %s: %d files, %.2f GB", repository, len(sizes), sum(sizes.values()) / 1e9)
        return Path(
            snapshot_download(
                repository, repo_type="dataset", revision=revision, allow_patterns=list(patterns)
            )
        )
    except InputError:
        raise
    except GatedRepoError as error:
        raise InputError(
            f"{name}: the terms of https://huggingface.co/datasets/{repository} must be accepted there, signed in; "
            "then set HF_TOKEN to a token of that account"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{name}: the hub has no data set {repository} at {revision}, or it is private (set HF_TOKEN)"
        ) from error
    # The hub's client raises its HTTP library's errors too, which derive from Exception alone.
    except (OSError, HfHubHTTPError, ValueError, RuntimeError) as error:
        raise unreachable(name, repository, error) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in (
            "httpx",
            "httpx2",
            "httpcore",
            "httpcore2",
            "requests",
        ):
            raise
        raise unreachable(name, repository, error) from error


def unreachable(name: str, repository: str, error: Exception) -> InputError:
    """What to say where the hub does not answer."""
    return InputError(
        f"{name}: the hub's data set {repository} is not on this machine and cannot be downloaded "
        f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}). "
        "Run the command again to go on; set HF_HOME to a cache that holds it, HTTPS_PROXY behind a proxy, "
        "HF_ENDPOINT for a mirror, or give the files or folder themselves in place of the name"
    )


_PATTERNS = ("*.parquet", "*.jsonl", "*.jsonl.gz", "*.tsv")
_SPLITS = {"dev": ("dev", "validation"), "validation": ("validation", "dev")}


def load_from_hub(name: str, repository: str, qrels_repository: str, split: str) -> Collection:
    """A collection from the hub's cache on this machine, or downloaded into it.

    Raises:
        InputError: neither cached nor to be downloaded, or a layout that is not known.
    """
    texts = _snapshot(repository, ("corpus", "queries"), name)
    judged = texts if qrels_repository == repository else _snapshot(qrels_repository, (), name)
    return read_hub_layout(name, texts, judged, split)


def read_hub_layout(name: str, texts: Path, judged: Path, split: str) -> Collection:
    """A collection from local copies of its repository of texts and its repository of judgements.

    Raises:
        InputError: a part or a split that is lacking, an empty or repeated id, a fractional grade.
    """
    qrels = _judgements(judged, split)  # before millions of documents are read
    corpus = {key: with_title(title, text) for key, title, text in documents_of(_rows(texts, "corpus"))}
    return Collection.of(corpus, queries_of(_rows(texts, "queries")), qrels, name)


def _judgements(folder: Path, split: str) -> Qrels:
    for candidate in _SPLITS.get(split, (split,)):
        if (folder / f"{candidate}.tsv").is_file():
            return read_qrels(folder / f"{candidate}.tsv")
        files = sorted([*folder.glob(f"qrels/{candidate}*.parquet"), *folder.glob(f"{candidate}*.parquet")])
        if files:
            grades: dict[str, dict[str, float]] = {}
            for where, row in (one for file in files for one in rows_of(file)):
                query_id, doc_id, grade = judgement(row, where)
                grades.setdefault(query_id, {})[doc_id] = grade
            return whole_grades(grades, str(folder))
    found = sorted(
        {
            file.name.split(".")[0].split("-")[0]
            for file in folder.rglob("*")
            if file.suffix in (".tsv", ".parquet")
        }
    )
    raise NoJudgementsError(
        f"{folder}: no judgements for the split {split!r}; found: {', '.join(found) or 'none'}"
    )


def _rows(folder: Path, part: str) -> Iterator[tuple[object, Any]]:
    files = (
        _parquet_files(folder, part)
        or [file for suffix in (".jsonl", ".jsonl.gz") if (file := folder / f"{part}{suffix}").is_file()][:1]
    )
    if not files:
        raise InputError(f"{folder}: holds no {part} (looked for {part}/*.parquet and {part}.jsonl[.gz])")
    for file in files:
        yield from rows_of(file)


def _parquet_files(folder: Path, part: str) -> list[Path]:
    """Parquet files of a part, all or none: a download that was cut short must not pass for a corpus."""
    files = sorted(folder.glob(f"{part}/*.parquet")) or sorted(folder.glob(f"{part}*.parquet"))
    for file in files:
        if (numbered := _NUMBERED.search(file.name)) and len(files) < int(numbered[1]):
            return []
    return files


def _snapshot(repository: str, parts: tuple[str, ...], name: str) -> Path:
    cached = _cached(repository, "main", _PATTERNS)
    if cached and all(_parquet_files(cached, part) or list(cached.glob(f"{part}.jsonl*")) for part in parts):
        return cached
    return _download(name, repository, "main", _PATTERNS)
