"""Archives of a node: fetched from a repository on loopback that breaks off, goes on, and lies."""

from __future__ import annotations

import hashlib
import random
import stat
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from neural_sparse.errors import InputError
from neural_sparse.opensearch.node import archives, assembly
from neural_sparse.opensearch.node.archives import Artifact, fetch

ARTIFACT = Artifact("org.example", "thing", "1.0")
CONTENT = random.Random(0).randbytes(300_000)


class Repository(ThreadingHTTPServer):
    """Serves CONTENT, with Range; `breaks` answers end after 100,000 bytes."""

    content = CONTENT
    breaks = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str | None] = []


class Answer(BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if self.path != f"/maven/{ARTIFACT.path}":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(self.server.content):
            self.send_error(416)
            return
        rest = self.server.content[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.server.breaks:
            self.server.breaks -= 1
            rest = rest[:100_000]
        self.wfile.write(rest)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Repository]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(archives, "known_sums", lambda: {ARTIFACT.path: hashlib.sha256(CONTENT).hexdigest()})
    with Repository() as server:
        monkeypatch.setenv(archives.MIRROR_VARIABLE, f"http://127.0.0.1:{server.server_address[1]}/maven/")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_download_that_breaks_off_goes_on_where_it_was(repository: Repository, tmp_path: Path) -> None:
    repository.breaks = 2
    assert fetch(ARTIFACT, tmp_path).read_bytes() == CONTENT
    assert repository.asked == [None, "bytes=100000-", "bytes=200000-"]
    assert fetch(ARTIFACT, tmp_path).read_bytes() == CONTENT  # and is not asked for again
    assert len(repository.asked) == 3
    assert [path.name for path in tmp_path.iterdir()] == [ARTIFACT.file]


def test_a_download_that_a_killed_process_left(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / f"{ARTIFACT.file}.part").write_bytes(CONTENT[:1000])
    assert fetch(ARTIFACT, tmp_path).read_bytes() == CONTENT
    assert repository.asked == ["bytes=1000-"]


@pytest.mark.parametrize("left", [b"no beginning of it", CONTENT + b"and more"])
def test_what_was_left_of_another_file_is_fetched_anew(
    repository: Repository, tmp_path: Path, left: bytes
) -> None:
    (tmp_path / f"{ARTIFACT.file}.part").write_bytes(left)
    assert fetch(ARTIFACT, tmp_path).read_bytes() == CONTENT
    assert repository.asked == [f"bytes={len(left)}-", None]


def test_another_file_than_the_known_one_is_never_taken(repository: Repository, tmp_path: Path) -> None:
    repository.content = CONTENT[:-1] + b"?"
    with pytest.raises(InputError, match="is not the file it should be"):
        fetch(ARTIFACT, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_repository_that_lacks_it_or_is_not_there(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(archives.MIRROR_VARIABLE, f"http://127.0.0.1:{repository.server_address[1]}/other")
    with pytest.raises(InputError, match=r"answered 404: name a Maven repository .* NEURAL_SPARSE_MAVEN"):
        fetch(ARTIFACT, tmp_path)
    monkeypatch.setenv(archives.MIRROR_VARIABLE, "http://127.0.0.1:1")
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch(ARTIFACT, tmp_path)


def test_the_local_maven_repository_is_looked_at_first(repository: Repository, tmp_path: Path) -> None:
    local = tmp_path / "home" / ".m2" / "repository" / ARTIFACT.path
    local.parent.mkdir(parents=True)
    local.write_bytes(b"something else")
    assert fetch(ARTIFACT, tmp_path / "a").read_bytes() == CONTENT
    assert len(repository.asked) == 1
    local.write_bytes(CONTENT)
    assert fetch(ARTIFACT, tmp_path / "b").read_bytes() == CONTENT
    assert len(repository.asked) == 1


def test_a_mirror_of_mavens_own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(archives.MIRROR_VARIABLE, raising=False)
    assert archives.repository() == archives.CENTRAL
    (tmp_path / ".m2").mkdir()
    for of, taken in (("central", True), ("*", True), ("*,!central", False), ("another", False)):
        (tmp_path / ".m2" / "settings.xml").write_text(
            '<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0"><mirrors><mirror><id>m</id>'
            f"<mirrorOf>{of}</mirrorOf><url>https://maven.example.org/all/</url></mirror></mirrors></settings>"
        )
        assert archives.repository() == ("https://maven.example.org/all" if taken else archives.CENTRAL), of


def test_nothing_is_unpacked_outside(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("top/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for number, member in enumerate((zipfile.ZipInfo("top/../../evil"), zipfile.ZipInfo("/evil"), link)):
        archive = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(archive, "w") as out:
            out.writestr("top/good", "good")
            out.writestr(member, "evil")
        with pytest.raises(InputError, match="does not belong into an archive"):
            assembly.unpack(archive, tmp_path / "inside" / str(number), "top")
    assert not list(tmp_path.rglob("evil"))
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as out:
        out.writestr("top/a/b", "good")
        out.writestr("other/c", "left out")
    assembly.unpack(tmp_path / "good.zip", tmp_path / "good", "top")
    assert [str(path.relative_to(tmp_path / "good")) for path in (tmp_path / "good").rglob("*")] == [
        "a",
        "a/b",
    ]


def test_every_archive_of_every_version_is_known() -> None:
    known = archives.known_sums()
    asked = [archives.LIBTORCH, archives.LIBTORCH_JNI]
    for version in archives.VERSIONS:
        asked += [
            archives.distribution(version),
            *(archives.plugin(name, version) for name in archives.PLUGINS),
        ]
        if version.startswith("2."):
            for made in assembly._MODULES:
                asked += [*(archives.module(name, version) for name in made.jars), *made.libraries]
    asked += [archives.plugin("opensearch-security", version) for version in archives.SECURE_VERSIONS]
    assert {artifact.path for artifact in asked} == set(known)
    assert all(len(digest) == 64 for digest in known.values())


def test_versions_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no node of OpenSearch 2\.11\.0: choose from 2\.19\.1"):
        assembly.install("2.11.0", cache=tmp_path)
    with pytest.raises(InputError, match=r"security plugin for 3\.6\.0 is not on Maven Central"):
        assembly.install("3.6.0", security=True, cache=tmp_path)


def test_java_has_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, text in ((8, "1.8.0_402"), (17, "17.0.15"), (25, "25.0.1")):
        (tmp_path / str(number) / "bin").mkdir(parents=True)
        (tmp_path / str(number) / "release").write_text(f'JAVA_VERSION="{text}"\n')
        (tmp_path / str(number) / "bin" / "java").touch(mode=0o755)
    homes = [tmp_path / "missing", tmp_path / "8", tmp_path / "25", tmp_path / "17"]
    monkeypatch.setattr(assembly, "_java_homes", lambda: homes)
    assert assembly.find_java("2.19.1") == tmp_path / "17"
    assert assembly.find_java("3.6.0") == tmp_path / "25"
    homes.remove(tmp_path / "25")
    with pytest.raises(InputError, match=r"3\.6\.0 runs on Java 21 or later \(found: 8, 17\): install one"):
        assembly.find_java("3.6.0")
