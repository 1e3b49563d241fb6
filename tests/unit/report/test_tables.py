"""Tables: figures to the right, texts never markup, Markdown that stays one table."""

from __future__ import annotations

from rich.text import Text

from neural_sparse.io.terminal import console
from neural_sparse.report.tables import ABSENT, markdown_table, terminal_table


def lines_of(*arguments: object, **settings: object) -> list[str]:
    printer = console(60)
    with printer.capture() as captured:
        printer.print(terminal_table(*arguments, **settings))  # type: ignore[arg-type]
    return captured.get().splitlines()


def test_figures_stand_to_the_right_and_texts_to_the_left() -> None:
    rows = [["[bold]a[/]", "1.5", "b", Text("ok", "green")], ["c :smile:", ABSENT, "long", "no"]]
    shown = lines_of(["name", "figure", "text", "state"], rows, frame=False)
    assert [line.rstrip() for line in shown] == [
        "name        figure  text  state",
        "[bold]a[/]     1.5  b     ok",
        "c :smile:        –  long  no",
    ]


def test_no_heading_no_header() -> None:
    shown = lines_of(["", ""], [["documents", "2"]])
    assert [line.strip() for line in shown[1:2]] == ["│ documents │ 2 │"]


def test_markdown_escapes_what_would_end_a_cell() -> None:
    assert markdown_table(["a", "b"], [["x|y", "1\n2"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 2 |\n"
