from __future__ import annotations

import hashlib
import math
from pathlib import Path

import pytest

from neural_sparse.errors import InputError
from neural_sparse.files import (
    read_json,
    read_jsonl,
    replacing,
    replacing_folder,
    sha256_file,
    write_json,
    write_text,
)


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
    assert target.stat().st_mode & 0o777 == 0o644


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_text(target, "before")
    with pytest.raises(RuntimeError, match="half way"), replacing(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError("half way")
    assert target.read_text() == "before"
    assert names(tmp_path) == ["file"]


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
        pytest.raises(InputError, match=r"cannot write .*name: Not a directory"),
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


def test_json(tmp_path: Path) -> None:
    value = {"ä": [1, 2.5, None], "b": {"c": "한"}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": math.nan})
    assert read_json(tmp_path / "a.json") == value
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xe4"}')
    for file, message in [("absent.json", "no such file"), ("latin.json", "not valid JSON")]:
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
