"""A JSON object larger than memory, member by member."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

_READ = 1 << 20  # characters


def members(file: TextIO) -> Iterator[tuple[str, Any]]:
    """Keys and values of the JSON object that a file holds, parsed as it is read.

    Raises:
        JSONDecodeError: the file holds something else, or ends too early.
    """
    decoder = json.JSONDecoder()
    text, place, whole = "", 0, False

    def skip(expected: str) -> str:
        """The next character that is no space, which must be one of `expected`."""
        nonlocal text, place, whole
        while True:
            while place < len(text) and text[place].isspace():
                place += 1
            if place < len(text):
                if text[place] not in expected:
                    raise json.JSONDecodeError(f"expected one of {expected}", text, place)
                place += 1
                return text[place - 1]
            more()

    def more() -> None:
        nonlocal text, place, whole
        if whole:
            raise json.JSONDecodeError("ends too early", text, len(text))
        block = file.read(_READ)
        text, place, whole = text[place:] + block, 0, not block

    def value() -> Any:
        nonlocal place
        while True:
            while place < len(text) and text[place].isspace():
                place += 1
            try:
                found, end = decoder.raw_decode(text, place)
            except json.JSONDecodeError:
                if whole:
                    raise
            else:
                if whole or text[end : end + 1] in (*",:}", *" \t\r\n"):  # else a number may go on
                    place = end
                    return found
            more()

    skip("{")
    mark = skip('"}')
    while mark == '"':
        place -= 1
        key = value()
        skip(":")
        yield key, value()
        if (mark := skip(",}")) == ",":
            mark = skip('"')
