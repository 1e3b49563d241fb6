"""Files of data sets on the Hugging Face hub: from the cache of this machine, or downloaded into it."""

from __future__ import annotations

import logging
import re
from fnmatch import fnmatch
from pathlib import Path

from neural_sparse.disk import require_space
from neural_sparse.errors import InputError

logger = logging.getLogger(__name__)

_NUMBERED = re.compile(r"-of-(\d+)\.parquet$")


def hub_files(name: str, repository: str, revision: str, patterns: tuple[str, ...]) -> list[Path]:
    """The files that the patterns mean, in order of pattern and name.

    A download that was interrupted goes on where it stopped; a file counts only once it is whole.

    Raises:
        InputError: neither cached nor to be downloaded, terms of the hub not accepted, no such file, or too
            little space (with what is needed).
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                repository,
                repo_type="dataset",
                revision=revision,
                allow_patterns=list(patterns),
                local_files_only=True,
            )
        )
        if found := complete_files(folder, patterns):
            return found
    except (LocalEntryNotFoundError, ValueError):
        pass
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


def _download(name: str, repository: str, revision: str, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        info = HfApi().dataset_info(repository, revision=revision, files_metadata=True)
        sizes = {
            one.rfilename: one.size or 0
            for one in info.siblings or []
            if any(fnmatch(one.rfilename, pattern) for pattern in patterns)
        }
        require_space(Path(HF_HUB_CACHE), sum(sizes.values()), f"the download of {name}")
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
        "HF_ENDPOINT for a mirror, or give the files themselves in place of the name"
    )
