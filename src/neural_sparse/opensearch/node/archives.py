"""What a node is made of: archives on Maven Central, known by their sha256, fetched once."""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import urllib.error
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tqdm import tqdm

from neural_sparse.errors import InputError
from neural_sparse.io.files import sha256_file

logger = logging.getLogger(__name__)

CENTRAL = "https://repo1.maven.org/maven2"
MIRROR_VARIABLE = "NEURAL_SPARSE_MAVEN"  # address of another repository with the same files

# Lines whose archives are all served; the others lack one plugin or another.
VERSIONS = ("2.19.1", "2.19.6", "3.6.0")
SECURE_VERSIONS = ("2.19.1",)  # the security plugin of the other two is not on Maven Central
PLUGINS = ("opensearch-job-scheduler", "opensearch-knn", "neural-search", "opensearch-ml-plugin")
_TRIES = 5
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Artifact:
    """A file of a Maven repository.

    Attributes:
        tail: what follows NAME-VERSION in the file's name: classifier and ending.
    """

    group: str
    name: str
    version: str
    tail: str = ".jar"

    @property
    def file(self) -> str:
        return f"{self.name}-{self.version}{self.tail}"

    @property
    def path(self) -> str:
        """Below the repository's address, and in ~/.m2/repository."""
        return f"{self.group.replace('.', '/')}/{self.name}/{self.version}/{self.file}"


def plugin(name: str, version: str) -> Artifact:
    return Artifact("org.opensearch.plugin", name, f"{version}.0", ".zip")


def distribution(version: str) -> Artifact:
    return Artifact("org.opensearch.distribution.integ-test-zip", "opensearch", version, ".zip")


def module(name: str, version: str) -> Artifact:
    groups = {
        "opensearch-ssl-config": "org.opensearch",
        "opensearch-rest-client": "org.opensearch.client",
    }
    return Artifact(groups.get(name, "org.opensearch.plugin"), name, version)


# ML Commons would have them downloaded: DJL 0.31.1 of all these versions runs with both.
LIBTORCH = Artifact("ai.djl.pytorch", "pytorch-native-cpu", "2.5.1", "-linux-x86_64.jar")
LIBTORCH_JNI = Artifact("ai.djl.pytorch", "pytorch-jni", "2.5.1-0.32.0")


def default_cache() -> Path:
    """Where archives and unpacked nodes are kept.

    For root it is /var/cache: a node runs as another user, who cannot look into root's home.
    """
    if os.geteuid() == 0:
        return Path("/var/cache/neural-sparse/opensearch-node")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "neural-sparse" / "opensearch-node"


def fetch(artifact: Artifact, folder: Path, sums: Mapping[str, str] | None = None) -> Path:
    """The artifact's file in `folder`: there already, from ~/.m2/repository, or downloaded.

    A download that was stopped goes on where it was; a file of another content is never taken.

    Args:
        sums: {path in the repository: sha256}; those of nodes if None.

    Raises:
        InputError: the repository is out of reach or lacks the file; what came is not the file that is known.
    """
    known = (known_sums() if sums is None else sums)[artifact.path]
    target = folder / artifact.file
    folder.mkdir(parents=True, exist_ok=True)
    if target.is_file():  # was checked before it got its name
        return target
    local = Path.home() / ".m2" / "repository" / artifact.path
    part = target.with_name(f"{target.name}.part")
    if local.is_file() and sha256_file(local) == known:
        shutil.copyfile(local, part)
    else:
        _download(f"{repository()}/{artifact.path}", part)
    if sha256_file(part) != known:
        # Perhaps the beginning of another file: once more from nothing.
        part.unlink()
        _download(f"{repository()}/{artifact.path}", part)
        if (found := sha256_file(part)) != known:
            part.unlink()
            raise InputError(
                f"{repository()}/{artifact.path} is not the file it should be (sha256 {found}, expected {known}): "
                f"ask the repository's keeper, or name another with {MIRROR_VARIABLE}"
            )
    part.replace(target)
    return target


def known_sums() -> dict[str, str]:
    """{path in the repository: sha256} of everything that a node may be made of."""
    lines = (files(__package__) / "archives.sha256").read_text(encoding="ascii").splitlines()
    return {path: digest for digest, path in (line.split() for line in lines)}


def repository() -> str:
    """NEURAL_SPARSE_MAVEN, the mirror of ~/.m2/settings.xml, or Maven Central."""
    address = os.environ.get(MIRROR_VARIABLE) or _mirror(Path.home() / ".m2" / "settings.xml") or CENTRAL
    return address.rstrip("/")


def _mirror(settings: Path) -> str | None:
    """The mirror of Maven Central in a settings.xml."""
    try:
        root = ElementTree.parse(settings).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    for mirror in root.iter():
        if not mirror.tag.endswith("mirror"):
            continue
        about = {child.tag.rsplit("}", 1)[-1]: (child.text or "").strip() for child in mirror}
        of = {pattern.strip() for pattern in about.get("mirrorOf", "").split(",")}
        if of & {"*", "central", "external:*"} and "!central" not in of and about.get("url"):
            return about["url"]
    return None


def _download(url: str, part: Path) -> None:
    """Fetch `url` into `part`, going on behind what is there; again when the connection breaks."""
    for attempt in range(_TRIES):
        try:
            _download_once(url, part)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing behind what is there: complete, or not the file's beginning
                return
            if error.code < 500 or attempt == _TRIES - 1:
                raise InputError(f"{url} answered {error.code}: {_advice()}") from error
        except (OSError, http.client.HTTPException) as error:
            if attempt == _TRIES - 1:
                raise InputError(f"{url} cannot be fetched ({error}): {_advice()}") from error
            logger.info("%s: %s; going on", url, error)


def _advice() -> str:
    return f"name a Maven repository that can be reached with {MIRROR_VARIABLE}, or a mirror in ~/.m2/settings.xml"


def _download_once(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        if answer.status != 206:
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            part.open("ab" if have else "wb") as out,
            tqdm(
                total=total,
                initial=have,
                unit="B",
                unit_scale=True,
                desc=part.stem,
                disable=None,
                leave=False,
            ) as bar,
        ):
            for block in _blocks(answer):
                out.write(block)
                bar.update(len(block))
    if total is not None and part.stat().st_size < total:
        raise http.client.IncompleteRead(b"", total - part.stat().st_size)


def _blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while block := answer.read(_BLOCK):
        yield block
