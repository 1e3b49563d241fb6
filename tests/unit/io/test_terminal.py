"""User text is never markup, and what the terminal cannot show is replaced."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from neural_sparse.io import terminal

CODE = """
from neural_sparse.io.terminal import console, replace_what_cannot_be_shown
replace_what_cannot_be_shown()
print("달 \\ud83d")
console().print("문서 \\ud83d [/best]")
"""


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_any_text_can_be_printed(encoding: str) -> None:
    environment = {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(terminal.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"[/best]" in done.stdout


def test_brackets_and_colons_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("column [bold]", title="title [/best]")
    table.add_row("[red]cell :smile:")
    made = terminal.console(100)
    made.print("tuned [/best] :smile:")
    made.print(table)
    shown = capsys.readouterr().out
    for text in ("tuned [/best] :smile:", "title [/best]", "column [bold]", "[red]cell :smile:"):
        assert text in shown


def test_there_is_one_door() -> None:
    """Every console comes from `terminal`: one of rich's own would take names for markup."""
    package = Path(terminal.__file__).parents[1]
    made = [
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if re.search(r"\bConsole\(|from_markup\(|rich\.print\(|rich import print", file.read_text())
    ]
    assert made == ["io/terminal.py"]
