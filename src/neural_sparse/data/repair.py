"""Repair of single texts: mojibake, Unicode form, control characters."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Any

# What UTF-8 looks like after it was read as latin-1 or windows-1252: a lead byte, then a continuation byte.
_CONTINUATION = "\x80-\xbf" + bytes(
    byte for byte in range(0x80, 0xC0) if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
).decode("windows-1252")
_SUSPECT = re.compile(f"[\xc2-\xf4][{_CONTINUATION}]")
_BREAKS = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Controls but tab and newline; zero-width space and byte order mark; not the joiners that scripts need.
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x9f\u200b\ufeff\ufffe\uffff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_CODECS = ("latin-1", "sloppy-windows-1252")
_DEPTH = 3  # text that was spoiled more often than this is left alone


def repair(text: str) -> str:
    """The text as it was meant: mojibake undone where that round-trips, NFC, no control characters.

    Line breaks and tabs stay; space around the text does not.
    """
    text = repair_mojibake(text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", _SURROGATES.sub("\ufffd", text))
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("", _BREAKS.sub("\n", text)).strip()


def repair_mojibake(text: str) -> str:
    """UTF-8 that was read as latin-1 or windows-1252, read right.

    ftfy proposes; the proposal stands only if spoiling it again gives the text back, so nothing is guessed.
    """
    if text.isascii() or not _SUSPECT.search(text):
        return text
    import ftfy

    fixed = ftfy.fix_encoding(text, _config())
    return fixed if fixed != text and _round_trips(text, fixed) else text


@cache
def _config() -> Any:
    import ftfy

    return ftfy.TextFixerConfig(
        unescape_html=False,
        restore_byte_a0=False,  # this and the next two guess what was lost
        replace_lossy_sequences=False,
        fix_c1_controls=False,
        normalization=None,
    )


def _round_trips(text: str, fixed: str) -> bool:
    """Whether `text` is `fixed` with some characters spoiled."""
    at = 0
    for character in fixed:
        if text.startswith(character, at):
            at += len(character)
            continue
        for spoiled in _spoiled(character):
            if text.startswith(spoiled, at):
                at += len(spoiled)
                break
        else:
            return False
    return at == len(text)


@cache
def _spoiled(character: str) -> tuple[str, ...]:
    """What a character becomes when its UTF-8 is read as something else, once or several times."""
    found: list[str] = []
    forms = [character]
    for _ in range(_DEPTH):
        forms = [
            spoiled for form in forms for codec in _CODECS if (spoiled := _misread(form, codec)) is not None
        ]
        found += forms
    return tuple(dict.fromkeys(found))


def _misread(text: str, codec: str) -> str | None:
    try:
        return text.encode("utf-8").decode(codec)
    except UnicodeError:
        return None
