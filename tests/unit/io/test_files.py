from __future__ import annotations

import hashlib
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neural_sparse.errors import InputError
from neural_sparse.io import files
from neural_sparse.io.files import (
    check_output,
    check_output_folder,
    read_json,
    reading_folder,
    replacing,
    replacing_folder,
    sha256_file,
    write_json,
    write_text,
    writing,
)
from neural_sparse.io.lines import read_jsonl


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_replaces_a_file_at_the_end_only(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    write_text(target, "before")
    with replacing(target) as temporary:
        temporary.write_text("after")
        assert target.read_text() == "before"
    assert target.read_text() == "after"
    assert names(target.parent) == ["file"]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_text(target, "before")
    with pytest.raises(RuntimeError, match="half way"), replacing(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError("half way")
    assert target.read_text() == "before"
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_an_array_that_the_disk_has_no_place_for_is_said_to_be_so(tmp_path: Path) -> None:
    """numpy's own error says how many items were written, and not why no more."""
    with pytest.raises(InputError, match=r"cannot write .*: No space left on device"), writing(tmp_path):
        np.zeros(1 << 20, np.uint8).tofile("/dev/full")


def test_replaces_a_folder_at_the_end_only(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with replacing_folder(target) as temporary:
        (temporary / "old").write_text("1")
    with replacing_folder(target) as temporary:
        (temporary / "new").write_text("2")
        assert names(target) == ["old"]
    assert names(target) == ["new"]
    with pytest.raises(RuntimeError), replacing_folder(target) as temporary:  # noqa: PT012
        (temporary / "half").write_text("3")
        raise RuntimeError
    assert names(target) == ["new"]
    assert names(tmp_path) == ["folder"]


def test_a_folder_does_not_take_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("a file")
    with (
        pytest.raises(InputError, match=r"cannot write .*name: it is a file"),
        replacing_folder(tmp_path / "name"),
    ):
        pass
    assert names(tmp_path) == ["name"]
    assert (tmp_path / "name").read_text() == "a file"


def test_a_place_that_cannot_be_written_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        write_text(tmp_path / "file" / "below", "x")
    with pytest.raises(InputError, match="cannot write"), replacing_folder(tmp_path / "file" / "below"):
        pass
    with pytest.raises(InputError, match="cannot write"):
        write_text(tmp_path / "folder", "x")
    assert names(tmp_path) == ["file", "folder"]


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_permissions_are_those_of_new_files(tmp_path: Path, umask: int) -> None:
    write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask
    with replacing_folder(tmp_path / "folder") as folder:
        (folder / "inner").mkdir(mode=0o700)
        (folder / "inner" / "private").touch(mode=0o600)
        (folder / "script").touch(mode=0o744)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "folder").rglob("*")}
    assert modes == {"inner": 0o777 & ~umask, "private": 0o666 & ~umask, "script": 0o777 & ~umask}
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~umask


def test_what_is_private_stays_private(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "before")
    (tmp_path / "file").chmod(0o600)
    write_text(tmp_path / "file", "after")
    (tmp_path / "folder").mkdir(mode=0o700)
    with replacing_folder(tmp_path / "folder") as folder:
        (folder / "inner").touch()
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"file": 0o600, "folder": 0o700, "inner": 0o600}


def test_what_a_killed_process_left_is_deleted(tmp_path: Path) -> None:
    target = tmp_path / "folder[1]"
    code = f"""
import os, signal
from neural_sparse.io.files import replacing_folder
with replacing_folder({str(target)!r}) as folder:
    (folder / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    with (
        replacing_folder(target) as outer,
        replacing_folder(target) as inner,
    ):  # another at work is left alone
        assert outer.is_dir()
        assert inner.is_dir()
        assert len(names(tmp_path)) == 2


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "folder").mkdir(parents=True)
    (tmp_path / "elsewhere" / "file").write_text("before")
    for name in ("folder", "file"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere" / name)
    write_text(tmp_path / "file", "after")
    with replacing_folder(tmp_path / "folder") as folder:
        (folder / "new").write_text("")
    assert (tmp_path / "file").is_symlink()
    assert (tmp_path / "folder").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_text() == "after"
    assert names(tmp_path / "elsewhere" / "folder") == ["new"]
    assert names(tmp_path / "elsewhere") == ["file", "folder"]


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="a device or a pipe"):
        write_text(tmp_path / "pipe", "text")
    assert names(tmp_path) == ["pipe"]


def test_a_mount_point_is_refused_before_the_work() -> None:
    with pytest.raises(InputError, match=r"mount point.* name a folder in it, such as /output"):
        check_output_folder("/")
    with pytest.raises(InputError, match="mount point"), replacing_folder("/"):
        pytest.fail("the work has begun")


@pytest.mark.parametrize("exchanged", [True, False])
def test_the_old_folder_stays_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanged: bool
) -> None:
    target = tmp_path / "folder"
    with replacing_folder(target) as folder:
        (folder / "old").write_text("")
    rename = Path.rename

    def refused(self: Path, other: Path) -> Path:
        if self.suffix == ".tmp":
            raise OSError(16, "Device or resource busy")
        return rename(self, other)

    def exchange(one: Path, other: Path) -> bool:
        if exchanged:
            raise OSError(16, "Device or resource busy")
        return False

    monkeypatch.setattr(Path, "rename", refused)
    monkeypatch.setattr(files, "_exchange", exchange)
    with (
        pytest.raises(InputError, match=r"busy; what is there is unchanged, .* is kept at") as told,
        replacing_folder(target) as folder,
    ):
        (folder / "new").write_text("")
    assert names(target) == ["old"]
    assert names(Path(str(told.value).rpartition(" ")[2])) == ["new"]


def test_without_an_exchange_the_old_folder_is_moved_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for name in ("old", "new"):
        with replacing_folder(tmp_path / "folder") as folder:
            (folder / name).write_text("")
    assert names(tmp_path / "folder") == ["new"]
    assert names(tmp_path) == ["folder"]


def test_a_reader_finds_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"

    def write(version: int) -> None:
        with replacing_folder(target) as folder:
            for name in ("one", "two"):
                (folder / name).write_text(str(version))

    def read() -> tuple[str, ...]:
        return tuple((target / name).read_text() for name in ("one", "two"))

    write(0)
    writer = threading.Thread(target=lambda: [write(version) for version in range(1, 300)])
    writer.start()
    seen = set()
    while writer.is_alive():
        assert target.is_dir()
        one, two = reading_folder(target, read)
        assert one == two
        seen.add(one)
    writer.join()
    assert reading_folder(target, read) == ("299", "299")
    assert len(seen) > 1
    (target / "two").unlink()
    with pytest.raises(FileNotFoundError):
        reading_folder(target, read)


def test_an_output_folder_is_looked_at_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.json").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    check_output_folder(tmp_path / "new" / "below")
    check_output_folder(tmp_path / "empty")
    check_output_folder(tmp_path / "mine", "index.json")
    with pytest.raises(InputError, match="mine exists; choose another output"):
        check_output_folder(tmp_path / "mine")
    with pytest.raises(InputError, match=r"holds something else \(no manifest.json\)"):
        check_output_folder(tmp_path / "mine", "manifest.json")
    with pytest.raises(InputError, match="it is a file"):
        check_output_folder(tmp_path / "file")


def test_an_output_file_is_looked_at_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    check_output(tmp_path / "file")
    check_output(tmp_path / "new" / "file")
    check_output(tmp_path, folder=True)
    check_output(tmp_path / "new", folder=True)
    with pytest.raises(InputError, match="it is a folder"):
        check_output(tmp_path)
    with pytest.raises(InputError, match="a device or a pipe"):
        check_output(tmp_path / "pipe")
    with pytest.raises(InputError, match="it is a file"):
        check_output(tmp_path / "file", folder=True)
    for folder in (True, False):
        with pytest.raises(InputError, match=r"file/below: .*/file is a file"):
            check_output(tmp_path / "file" / "below", folder=folder)
    with pytest.raises(InputError, match="file is a file"):
        check_output_folder(tmp_path / "file" / "below")


def test_an_output_at_a_url_is_looked_at_too() -> None:
    fsspec = pytest.importorskip("fsspec", reason="needs the optional fsspec")
    fsspec.filesystem("memory").pipe("/outputs/here.json", b"{}")
    check_output("memory://outputs/here.json")
    check_output("memory://outputs/new.json")
    check_output("memory://outputs", folder=True)
    with pytest.raises(InputError, match="cannot write memory://outputs: it is a folder"):
        check_output("memory://outputs")
    with pytest.raises(InputError, match=r"cannot write memory://outputs/here\.json: it is a file"):
        check_output("memory://outputs/here.json", folder=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_permission_is_found_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    for check in (check_output, check_output_folder):
        with pytest.raises(InputError, match="no permission to write in"):
            check(tmp_path / "new")
    tmp_path.chmod(0o700)


def test_what_fails_elsewhere_is_not_told_as_a_failure_to_write(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing_folder(tmp_path / "folder"):
        (tmp_path / "absent").read_text()
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        (tmp_path / "absent").read_text()
    with pytest.raises(ConnectionError), replacing(tmp_path / "file"):
        raise ConnectionResetError("peer")
    with pytest.raises(InputError, match=r"cannot write .*file: No space left"), replacing(tmp_path / "file"):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_json(tmp_path: Path) -> None:
    value = {"ä": [1, 2.5, None], "b": {"c": "한"}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": math.nan})
    assert read_json(tmp_path / "a.json") == value
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xe4"}')
    for file, message in [
        ("absent.json", "no such file"),
        ("latin.json", "latin.json: not UTF-8 .byte 0xe4"),
    ]:
        with pytest.raises(InputError, match=message):
            read_json(tmp_path / file)


def test_jsonl(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1}\n\n  \r\n{"a": "\u2028 one line"}\r\n{"a": 3}')
    assert [row["a"] for row in read_jsonl(file, ("a",))] == [1, "\u2028 one line", 3]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'a': 1}", "line 2: not valid JSON"),
        ("[1]", "line 2: expected a JSON object, found list"),
        ('{"b": 1}', r"line 2: lacks 'a' \(has 'b'\)"),
    ],
)
def test_jsonl_names_the_line(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1}\n' + line)
    with pytest.raises(InputError, match=message):
        list(read_jsonl(file, ("a",)))
    with pytest.raises(InputError, match="no such file"):
        list(read_jsonl(tmp_path / "absent"))


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"neural sparse")
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"neural sparse").hexdigest()
