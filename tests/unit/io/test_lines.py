"""Encodings, byte order marks and places of lines."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from neural_sparse.errors import InputError
from neural_sparse.io import lines
from neural_sparse.io.files import read_json
from neural_sparse.io.lines import json_lines, text_lines

TEXT = "café 문서\r\n\nsecond\n"


def test_a_mark_and_ends_of_lines_make_no_difference(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert [(str(place)[-6:], text) for place, text in text_lines(tmp_path / "a")] == [
        ("line 1", "café 문서"),
        ("line 3", "second"),
    ]
    (tmp_path / "b.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    (tmp_path / "c.txt").write_text("PAR1 is a receptor\n", encoding="utf-8")  # not Parquet
    assert [text for _, text in text_lines(tmp_path / "c.txt")] == ["PAR1 is a receptor"]
    assert read_json(tmp_path / "b.json") == {"a": 1}
    assert [value for _, value in json_lines(tmp_path / "b.json")] == [{"a": 1}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode("utf-16"), r"line 1: .*UTF-16.*iconv -f UTF-16 -t UTF-8 .*file"),
        (TEXT.encode("utf-16-le"), r"line 1: .*UTF-16"),
        (TEXT.encode("utf-32"), r"line 1: .*UTF-16"),
        ("fine\ncafé\n".encode("latin-1"), r"line 2: not UTF-8 \(byte 0xe9\).*iconv -f WINDOWS-1252"),
        (b"fine\n\0\n", r"line 2: holds NUL bytes.*tr -d .*file"),
        (b'fine\n{"_id": "a\0"}\n', r"line 2: holds NUL bytes.*tr -d .*file"),
        (b"PAR1\x15\x04", r"line 1: a Parquet file.*read_table.*file"),
        (b"\x1f\x8b\x08\0", r"line 1: packed with gzip.*gzip -dc .*file"),
        (b"PK\x03\x04\x14\0", "line 1: a zip archive or an Excel workbook"),
    ],
)
def test_other_encodings_are_refused_with_the_way_out(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(text_lines(tmp_path / "file"))


@pytest.mark.parametrize("content", ["a\n".encode("utf-16"), b"\xe9\n", b"a b c\0\n", b"\x1f\x8b\x08\0"])
def test_a_command_can_be_pasted_where_a_path_has_spaces(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "an export").write_bytes(content)
    with pytest.raises(InputError, match=f"(iconv|tr|gzip) .* '{tmp_path}/an export' > converted"):
        list(text_lines(tmp_path / "an export"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": ', "line 2: not valid JSON .*cut short"),
        ("[" * 100_000, "line 2: no JSON that can be read"),
        ("1" * 5000, "line 2: no JSON that can be read"),
    ],
)
def test_what_is_no_json(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "blank").write_text("\u3000\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 1: not valid JSON"):
        list(json_lines(tmp_path / "blank"))
    (tmp_path / "file").write_text("{}\n" + line)
    with pytest.raises(InputError, match=message):
        list(json_lines(tmp_path / "file"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('id,"a title",text\n1,"two\nlines, one ""quoted""",é\n', [["1", 'two\nlines, one "quoted"', "é"]]),
        ("\ufeffid;Titel\r\n1;a, b\r\n", [["1", "a, b"]]),
        ("id\ttext\n1\ta; b\n", [["1", "a; b"]]),
        ('[\n {"a": "é"},\n {"a": "b"}\n]\n', [["é"], ["b"]]),
        ('[{"a": 1}, {"a": 2}]', [[1], [2]]),
        ('{"a": 1},\n{"a": 2},\n', [[1], [2]]),
    ],
)
def test_the_command_that_a_message_names_makes_json_lines(
    tmp_path: Path, content: str, expected: list[list[object]]
) -> None:
    file = tmp_path / "an export's table"
    file.write_text(content, encoding="utf-8", newline="")
    with pytest.raises(InputError, match="line 1: ") as caught:
        list(json_lines(file))
    command = re.search(r"(python|sed) .* > converted(\.jsonl)?", str(caught.value))
    assert command is not None
    where = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", command[0].removesuffix(".jsonl")], check=True, cwd=tmp_path, env=where)
    rows = [list(row.values()) for _, row in json_lines(tmp_path / "converted")]
    assert rows == expected


def test_a_folder_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, and a file is expected"):
        read_json(tmp_path)


def test_an_object_over_lines_and_a_line_cut_short(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('{\n "a": 1\n}\n')
    with pytest.raises(InputError, match="line 1: an object over several lines"):
        list(json_lines(tmp_path / "file"))
    (tmp_path / "file").write_text('{"a": "b, c", "d')
    with pytest.raises(InputError, match=r"line 1: not valid JSON .*cut short"):
        list(json_lines(tmp_path / "file"))


def test_half_a_character_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps({"a\ud83d": ["b\ud83d", {"c": "\U0001f600"}]}))
    ((_, value),) = json_lines(tmp_path / "file")
    assert value == {"a\ufffd": ["b\ufffd", {"c": "\U0001f600"}]}


def test_where_a_line_is_is_only_looked_up_when_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> int:
        raise AssertionError

    from neural_sparse.data.training_set import load_training_set

    (tmp_path / "pairs.jsonl").write_text(json.dumps({"query": "q", "pos": "d", "negs": ["n"], "label": 1}))
    monkeypatch.setattr(lines, "line_number", never)
    assert len(load_training_set([tmp_path / "pairs.jsonl"])) == 1
