"""Libraries of engines from Maven Central, each known by its sha256 and fetched once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from neural_sparse.opensearch.node.archives import Artifact, fetch
from neural_sparse.opensearch.node.assembly import find_java_between


def default_cache() -> Path:
    """Where libraries are kept."""
    if os.geteuid() == 0:
        return Path("/var/cache/neural-sparse/engines")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neural-sparse" / "engines"


def known() -> dict[str, str]:
    """{path in the repository: sha256}."""
    lines = (files("neural_sparse.engines") / "java" / "libraries.sha256").read_text("ascii").splitlines()
    return {path: digest for digest, path in (line.split() for line in lines)}


def artifact_of(path: str) -> Artifact:
    """Of a jar's path in the repository."""
    *group, name, version, _ = path.split("/")
    return Artifact(".".join(group), name, version)


def fetched(artifacts: Iterable[Artifact]) -> list[Path]:
    """Files of the artifacts, in their order.

    Raises:
        InputError: as `opensearch.node.archives.fetch`.
    """
    sums = known()
    return [fetch(one, default_cache(), sums) for one in artifacts]


def java_of(least: int, what: str) -> Path:
    """Home of a Java that is recent enough. Raises InputError: there is none."""
    return find_java_between(least, None, what)
