"""`neural-sparse doctor`: what a path is, exit status, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neural_sparse.cli.main import app
from neural_sparse.doctor import examine
from neural_sparse.doctor.examine import kind_of
from neural_sparse.errors import InputError

TABLE = {f"t{i}": 0.1 + 0.05 * i for i in range(150)}


def table(folder: Path, name: str, **changes: float) -> Path:
    file = folder / name
    file.write_text(json.dumps(TABLE | changes))
    return file


def test_several_paths_at_once(tmp_path: Path) -> None:
    good, bad = table(tmp_path, "good.json"), table(tmp_path, "bad.json", x=-1.0)
    done = CliRunner().invoke(app, ["doctor", str(good)])
    assert (done.exit_code, "healthy" in done.output, "IDF mean" in done.output) == (0, True, True)
    done = CliRunner().invoke(app, ["doctor", str(good), str(bad), "--json"])
    assert done.exit_code == 1
    one, other = json.loads(done.stdout)
    assert (one["kind"], one["path"], other["path"]) == ("idf", str(good), str(bad))
    assert {"check", "found", "verdict", "advice"} == set(other["findings"][0])
    assert [f["verdict"] for f in other["findings"]].count("problem") == 1


def test_a_warning_is_no_failure(tmp_path: Path) -> None:
    file = tmp_path / "few.json"
    file.write_text(json.dumps({"a": 0.9, "b": 1.2}))
    done = CliRunner().invoke(app, ["doctor", str(file)])
    assert (done.exit_code, "warning" in done.output) == (0, True)


def test_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", str(table(tmp_path, "a.json", **{"[/bold]": float("nan")}))])
    assert "[/bold]" in done.output


def test_with_a_tokenizer(tmp_path: Path, tiny_model) -> None:  # type: ignore[no-untyped-def]
    examined = examine(table(tmp_path, "idf.json"), str(tiny_model()))
    assert {f.check: f.verdict for f in examined.findings}["vocabulary"] == "problem"


def test_paths_that_are_nothing_of_these(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no such file or folder.*idf\.json, a model folder .* or a run folder"
    ):
        kind_of(tmp_path / "missing")
    with pytest.raises(InputError, match="holds nothing"):
        kind_of(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        InputError, match=r"no training_config\.json.*no modules\.json or config\.json.*notes\.txt"
    ):
        kind_of(tmp_path)
    with pytest.raises(InputError, match="a file, but no IDF table"):
        kind_of(tmp_path / "notes.txt")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(InputError, match="a file, but no IDF table"):
        kind_of(tmp_path / "list.json")
    (tmp_path / "deep.json").write_text('{"a": {"b": 1}}')
    with pytest.raises(InputError, match="which is flat"):
        examine(tmp_path / "deep.json")
    (tmp_path / "half.json").write_text('{"a": ')
    with pytest.raises(InputError, match="not valid JSON"):
        kind_of(tmp_path / "half.json")


def test_a_bad_path_is_found_before_the_work(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", str(table(tmp_path, "good.json")), str(tmp_path / "missing")])
    assert isinstance(done.exception, InputError)
    assert "IDF mean" not in done.output
    done = CliRunner().invoke(app, ["doctor", "--model", "x"])
    assert "--model goes with an IDF table" in str(done.exception)
