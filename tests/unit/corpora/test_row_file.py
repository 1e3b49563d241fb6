"""Files of rows: counted, cut into chunks of one size, and what damage does."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neural_sparse.corpora.row_file import chunks, parse, rows_of, scan
from neural_sparse.errors import InputError

ROWS = [{"query": f"q{number}", "pos": f"d{number}"} for number in range(11)]


def write(path: Path) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=4)
    elif path.suffix == ".tsv":
        path.write_text("query\tpos\n" + "".join(f"{row['query']}\t{row['pos']}\n" for row in ROWS))
    elif path.suffix == ".csv":
        path.write_text("query,pos\n" + "".join(f'{row["query"]},"{row["pos"]}"\n' for row in ROWS))
    else:
        path.write_text(lines.rstrip("\n"))  # the last line need not end
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet", "a.tsv", "a.csv"])
@pytest.mark.parametrize("size", [1, 3, 4, 11, 50])
def test_rows_and_their_numbers_whatever_the_chunks(tmp_path: Path, name: str, size: int) -> None:
    file = scan(write(tmp_path / name))
    header = name.endswith(".tsv")
    assert file.rows == 11 + header
    found = []
    for place, chunk in enumerate(chunks(file, size)):
        assert len(chunk) == size or place == file.rows // size
        found += list(parse(file, chunk, place * size))
    assert found == [(number + header, row) for number, row in enumerate(ROWS)]


def test_blank_lines_and_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("what is x\tit is y\n\nwho\tme\tnot me\n")
    file = scan(tmp_path / "a.tsv")
    (chunk,) = chunks(file, 10)
    assert list(parse(file, chunk, 0)) == [(0, ["what is x", "it is y"]), (2, ["who", "me", "not me"])]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("packed", [False, True])
def test_csv_as_spreadsheets_write_it(tmp_path: Path, delimiter: str, packed: bool) -> None:
    rows = [
        {"_id": "007", "title": f"a{delimiter} b", "text": 'two\n"quoted" lines'},
        {"_id": "1e3", "title": "", "text": "NULL"},
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    content = ("\ufeff" + text.getvalue() + "\r\n").encode()
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    found = list(rows_of(path))
    assert [row for _, row in found] == rows
    assert [str(place) for place, _ in found] == [f"{path}, row 1", f"{path}, row 2"]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.parquet"])
def test_a_half_downloaded_file_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=rf"{name}: cut short or damaged .* download it again"):
        scan(path)


def test_a_half_downloaded_line_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl")
    path.write_bytes(path.read_bytes()[:-5])
    file = scan(path)
    with pytest.raises(InputError, match=r"a.jsonl, line 11: not valid JSON .* download unfinished"):
        [list(parse(file, chunk, 0)) for chunk in chunks(file, 20)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"", "unknown kind of file; known are .jsonl"),
        ("a.csv", b"", "line 1: has to name every column"),
        ("a.csv", b"_id,text,text\n1,a,b\n", "line 1: has to name every column, each by another name"),
        ("a.csv", b'_id,text\n1,"two\nlines"\n2,b,c\n', "line 4: 3 cells, but the header names 2"),
        ("a.csv", b'_id,text\n1,"cut sh', "line 2: .*a quotation mark missing, or the file cut short"),
        ("a.csv", b'_id,text\n1,"a" b\n', "line 2: .*a quotation mark missing"),
        ("a.csv", b"_id,text\n1,caf\xe9\n", r"line 2: not UTF-8 .*iconv -f WINDOWS-1252"),
        ("a.csv", "_id,text\n1,a\n".encode("utf-16"), "line 1: .*UTF-16"),
        ("a.tsv", b"query\tpos\na\tb\tc\n", "line 2: 3 cells, but the header names 2"),
        ("a.tsv", b"a\t\xff\n", "line 1: not UTF-8"),
        ("b.tsv", b"x\ty\na\t\xff\n", "line 2: not UTF-8"),
    ],
)
def test_refuses(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        [list(parse(file, chunk, 0)) for file in [scan(tmp_path / name)] for chunk in chunks(file, 9)]


def test_absent(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        scan(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("first", "header"),
    [
        ("query\tpos", ("query", "pos")),
        (
            "query\tcomment",
            ("query", "comment"),
        ),  # then the missing column is named, and no example made of it
        ("frage\tantwort", ()),
        ("frage\tFrage 2", ()),
        ("what is a query\ttitle", ()),
    ],
)
def test_what_is_a_header(tmp_path: Path, first: str, header: tuple[str, ...]) -> None:
    (tmp_path / "a.tsv").write_text(f"{first}\nwhat is x\tit is y\n")
    assert scan(tmp_path / "a.tsv").header == header
    named = header or (("frage", "antwort") if first == "frage\tantwort" else ())
    assert scan(tmp_path / "a.tsv", ("frage",)).header == named
