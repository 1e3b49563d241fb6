"""Help and errors of the command line; what needs a model is in the integration tests."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from neural_sparse.cli import main as command_line
from neural_sparse.cli.main import app
from neural_sparse.io.files import read_json, write_json
from neural_sparse.model.encoder import NeuralSparseEncoder

COMMANDS = list(get_command(app).commands)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit status, standard output and standard error of a command."""

    def call(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["neural-sparse", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "100")
        with pytest.raises(SystemExit) as caught:
            command_line.main()
        out, err = capsys.readouterr()
        code = caught.value.code
        return (code if isinstance(code, int) else 0), out, err

    return call


def test_commands() -> None:
    assert {"quickstart", "idf", "train", "evaluate", "encode", "search", "explain"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, run: Run) -> None:
    for flag in ("--help", "-h"):
        status, out, _ = run(command, flag)
        assert status == 0
        assert f"{command} [OPTIONS]" in out
        assert len(out.splitlines()) > 8


def test_version(run: Run) -> None:
    status, out, _ = run("--version")
    assert (status, out) == (0, f"neural-sparse {metadata.version('neural-sparse')}\n")


def test_output_is_short_everywhere() -> None:
    def walk(command: Any) -> Iterator[Any]:
        yield from (walked for sub in getattr(command, "commands", {}).values() for walked in walk(sub))
        yield from command.params

    options = [option.opts for option in walk(get_command(app)) if "--output" in option.opts]
    assert len(options) > 20
    assert [opts for opts in options if "-o" not in opts] == []


def test_help_lists_every_command_with_a_line(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    for command in COMMANDS:
        (line,) = [line for line in out.splitlines() if line.strip(" │").startswith(f"{command} ")]
        assert len(line.strip(" │").split()) > 4, line


def test_help_is_quick() -> None:
    code = (
        "import sys; import neural_sparse.cli.main; "
        "print([name for name in ('torch', 'transformers', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def error(result: tuple[int, str, str], lines: int = 1) -> str:
    status, out, err = result
    assert status == 2, (out, err)
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == lines
    return err


class TestErrors:
    """One line on standard error and status 2."""

    def test_corpus(self, run: Run, tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
        model, output = tiny_model("bert"), tmp_path / "out"
        bad = tmp_path / "bad.jsonl"
        bad.write_text('{"_id": "1", "text": "a"}\n{"_id": "2"')
        empty = tmp_path / "corpus.jsonl"
        empty.write_text("")
        notes = tmp_path / "notes"
        notes.mkdir()
        (notes / "a.md").write_text("# A note")
        for corpus, message in [
            (tmp_path / "absent", "no such file"),
            (bad, "bad.jsonl, line 2: not valid JSON"),
            (tmp_path, "the corpus is empty"),
            (notes, "corpus.jsonl: no such file (there is a.md); a corpus is a {_id, title, text} per line"),
        ]:
            assert message in error(run("idf", corpus, "--model", model, "--output", tmp_path / "idf.json"))
            assert message in error(run("encode", model, "--corpus", corpus, "--output", output))
        bad.write_text('{"_id": "1", "words": "a"}')
        assert "line 1: lacks 'text' (has '_id', 'words')" in error(run("idf", bad, "--model", model))
        binary = tmp_path / "latin.txt"
        binary.write_bytes("caf\xe9".encode("latin-1"))
        assert "latin.txt, line 1: not UTF-8" in error(run("idf", binary, "--model", model))
        assert not output.exists()
        assert not (tmp_path / "idf.json").exists()

    def test_output(self, run: Run, tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
        corpus = tmp_path / "corpus.jsonl"
        corpus.write_text('{"_id": "1", "text": "a new list"}\n')
        for output, message in [
            (tmp_path, "holds something else"),
            (corpus, "is a file, and the output is a folder"),
        ]:
            assert message in error(run("encode", tiny_model("bert"), "--corpus", corpus, "--output", output))
        assert "cannot write" in error(
            run("idf", corpus, "--model", tiny_model("bert"), "--output", tmp_path)
        )

    def test_recipe(self, run: Run, tmp_path: Path) -> None:
        recipe = tmp_path / "mine.yaml"
        recipe.write_text("init: m\ntrain: [a.jsonl]\nlambda_flop: 1\n")
        assert "unknown key 'lambda_flop'; did you mean 'lambda_flops'?" in error(run("train", recipe))
        assert "no such recipe" in error(run("train", tmp_path / "absent.yaml"))
        assert "unknown key 'stepz'" in error(run("train", "tiny-cpu", "stepz=4"))
        assert "name at least one file" in error(run("train", "tiny-cpu"))
        assert "absent.jsonl: no such file" in error(
            run("train", "tiny-cpu", f"train={tmp_path / 'absent.jsonl'}", f"output={tmp_path / 'out'}")
        )

    def test_search(self, run: Run, tmp_path: Path) -> None:
        assert "no encoded collection" in error(run("search", tmp_path, "query"))
        assert "make one with `neural-sparse encode`" in error(run("search", tmp_path / "absent", "query"))

    def test_model(self, run: Run) -> None:
        status, _, err = run("explain", "no-such-org/no-such-model", "a text")
        assert status == 2
        assert err.startswith("error: model 'no-such-org/no-such-model' was not found")

    def test_quickstart_data(self, run: Run, tmp_path: Path) -> None:
        output = tmp_path / "out"
        assert "x: no such file or folder" in error(
            run("quickstart", "--data", tmp_path / "x", "--output", output)
        )
        (tmp_path / "corpus.jsonl").write_text('{"_id": "1", "text": "a"}\n')
        (tmp_path / "qrels").mkdir()
        (tmp_path / "qrels" / "test.tsv").touch()
        assert "queries.jsonl: no such file" in error(
            run("quickstart", "--data", tmp_path, "--output", output)
        )

    def test_usage(self, run: Run) -> None:
        for arguments in (["nonsense"], ["idf"], ["search"], ["quickstart", "--steps", "0"], ["encode", "m"]):
            status, _, err = run(*arguments)
            assert status == 2
            assert "Traceback" not in err


def test_a_bug_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(command_line, "app", broken)
    monkeypatch.setattr(sys, "argv", ["neural-sparse"])
    with pytest.raises(ZeroDivisionError):
        command_line.main()


def test_plain_text_corpus(run: Run, tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    corpus = tmp_path / "lines.txt"
    corpus.write_text("a new list\n\n open a file \n")
    status, out, err = run("encode", tiny_model("bert"), "--corpus", corpus, "--output", tmp_path / "out")
    assert status == 0, err
    assert re.search(r"documents +│ +2 │", out)
    from neural_sparse.search.encoded import EncodedCollection

    collection = EncodedCollection(tmp_path / "out")
    assert list(collection.doc_ids) == ["1", "3"]  # line numbers
    assert [collection.text(row) for row in (0, 1)] == ["a new list", "open a file"]


def test_adapting_trained_weights(run: Run, tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    corpus, own, adapted = tmp_path / "corpus.txt", tmp_path / "own.json", tmp_path / "adapted.json"
    corpus.write_text("a new list\na list of files\n")
    assert run("idf", corpus, "--model", tiny_model("bert"), "--output", own)[0] == 0
    model = NeuralSparseEncoder(tiny_model("bert"), device="cpu")
    model.set_query_weights(start := model.idf_table() | {"list": 2.0})
    write_json(tmp_path / "idf.json", start)
    model.save_pretrained(str(tmp_path / "untrained"))
    model.set_query_weights(start | {"list": 3.0, "new": 0.5, "file": 0.0})
    model.save_pretrained(str(tmp_path / "trained"))
    options = ("--output", adapted)
    assert "they were not trained" in error(
        run("idf", "adapt", own, "--model", tmp_path / "untrained", *options)
    )
    elsewhere = tiny_model("bert")
    assert "name the IDF" in error(run("idf", "adapt", own, "--model", elsewhere, *options))
    assert "is a folder" in error(
        run("idf", "adapt", own, "--model", tmp_path / "trained", "--output", tmp_path)
    )
    assert not adapted.exists()
    code, out, _ = run("idf", "adapt", own, "--model", tmp_path / "trained", *options)
    assert code == 0
    assert "strengthened most by training: list x1.50" in out
    assert "weakened most by training: file x0.00 new x0.50" in out
    before, after = read_json(own), read_json(adapted)
    assert after["list"] == pytest.approx(1.5 * before["list"])
    assert after["new"] == pytest.approx(0.5 * before["new"])
    assert after["file"] == 0
    assert after["open"] == pytest.approx(before["open"])
