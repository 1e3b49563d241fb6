"""Encodings, byte order marks and places of lines."""

import json
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
    assert read_json(tmp_path / "b.json") == {"a": 1}
    assert [value for _, value in json_lines(tmp_path / "b.json")] == [{"a": 1}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode("utf-16"), r"line 1: .*UTF-16.*iconv -f UTF-16 -t UTF-8 .*file"),
        (TEXT.encode("utf-16-le"), r"line 1: .*UTF-16"),
        (TEXT.encode("utf-32"), r"line 1: .*UTF-16"),
        ("fine\ncafé\n".encode("latin-1"), r"line 2: not UTF-8 \(byte 0xe9\).*iconv -f WINDOWS-1252"),
        (b"fine\n\0\n", r"line 2: .*NUL bytes"),
    ],
)
def test_other_encodings_are_refused_with_the_way_out(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(text_lines(tmp_path / "file"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": ', "line 2: not valid JSON .*cut short"),
        ("[" * 100_000, "line 2: no JSON that can be read"),
        ("1" * 5000, "line 2: no JSON that can be read"),
    ],
)
def test_what_is_no_json(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "file").write_text("{}\n" + line)
    with pytest.raises(InputError, match=message):
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
