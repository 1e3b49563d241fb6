"""What is printed to a terminal: user text is never markup, and what the terminal cannot show is replaced."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console(width: int | None = None, stderr: bool = False) -> Console:
    """A console that prints texts as they are: brackets and colons of names, paths and tokens mean nothing.

    Styles are given as `style=` or as `rich.text.Text`.

    Args:
        width: where the output is no terminal.
    """
    from rich.console import Console

    made = Console(stderr=stderr, markup=False, emoji=False)
    if width is not None and not made.is_terminal:
        made = Console(stderr=stderr, markup=False, emoji=False, width=width)
    return made


def story_console() -> Console:
    """For what a long job tells: tables are not folded where the output goes to a file."""
    return console(120)


def replace_what_cannot_be_shown() -> None:
    """Let standard output and error take any text: characters their encoding lacks become "?"."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
