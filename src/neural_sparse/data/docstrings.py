"""From a docstring to prose: the summary apart from the body, without examples and markup."""

from __future__ import annotations

import inspect
import re

_SIGNATURE = re.compile(r"^[\w.]+\s*\([^\n]*\)\s*(->.*)?\\?$")
_UNDERLINE = re.compile(r"^\s*([-=~^*#\"'])\1{2,}\s*$")
# Examples are mostly code and its output; "see also" quotes the summaries (the queries) of other objects.
_DROPPED_SECTION = re.compile(r"^\s*(Examples?|Doctests?|See also)\s*:{0,2}$", re.IGNORECASE)
_DROPPED_LINE = re.compile(
    r"^\s*\.\. (versionadded|versionchanged|rubric|plot|only|index|currentmodule|seealso)\s*::"
    r"|^\s*\.\. _|^\s+:[\w-]+:(\s.*)?$|^\s*(\{\w+\}|%\(\w+\)s)\s*$|^\s*[-=+| ]{3,}$"
)
_DIRECTIVE = re.compile(r"^(\s*)\.\. [\w:-]+\s?::\s*")
_ROLE = re.compile(r":[\w:+-]+:`([^`]*)`")
_ROLE_TARGET = re.compile(r"^(.+?)\s*<[^>]*>$", re.DOTALL)
_TICKS = re.compile(r"`{1,2}([^`\n]*)`{1,2}_{0,2}")
_SENTENCE_END = re.compile(
    r"(?<!e\.g)(?<!i\.e)(?<!etc)(?<!vs)(?<! cf)(?<! al)(?<![ .][A-Z])[.!?][)\"']?\s+(?=[A-Z`\"'(*:])"
)


def split_docstring(docstring: str) -> tuple[str, str]:
    """Summary (first sentence, one line) and body (the rest) of a docstring; either may be empty.

    Signature lines before the summary, examples, "see also", underlines and version notes are dropped; roles
    and literals keep their text only. The body does not repeat the summary.
    """
    lines = _without_sections(_without_sessions(inspect.cleandoc(docstring).splitlines()))
    while lines and (not lines[0].strip() or _SIGNATURE.match(lines[0].strip())):
        lines.pop(0)
    end = next((at for at, line in enumerate(lines) if not line.strip()), len(lines))
    first = " ".join(line.strip() for line in lines[:end] if not _UNDERLINE.match(line))
    sentence = _SENTENCE_END.search(first)
    split = sentence.end() if sentence else len(first)
    summary = _plain(first[:split]).strip()
    body = _tidy([first[split:], "", *lines[end:]])
    return summary, body.replace(summary, "").strip() if summary else body


def _without_sessions(lines: list[str]) -> list[str]:
    """Drop interpreter sessions: a prompt, what continues it, and its output up to the next blank line."""
    kept: list[str] = []
    in_session = False
    for line in lines:
        in_session = line.lstrip().startswith((">>>", "# >>>", "In [")) or (in_session and bool(line.strip()))
        if not in_session:
            kept.append(line)
    return kept


def _without_sections(lines: list[str]) -> list[str]:
    """Drop sections by heading: up to the next underlined heading, or the block indented under `Example:`."""
    kept: list[str] = []
    at = 0
    while at < len(lines):
        if not _DROPPED_SECTION.match(lines[at]):
            kept.append(lines[at])
            at += 1
        elif at + 1 < len(lines) and _UNDERLINE.match(lines[at + 1]):
            at += 2
            while at < len(lines) and not (
                at + 1 < len(lines) and lines[at].strip() and _UNDERLINE.match(lines[at + 1])
            ):
                at += 1
        else:
            margin = _indent(lines[at])
            at += 1
            while at < len(lines) and (not lines[at].strip() or _indent(lines[at]) > margin):
                at += 1
            kept.append("")
    return kept


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _tidy(lines: list[str]) -> str:
    kept: list[str] = []
    for line in lines:
        if _UNDERLINE.match(line) or _DROPPED_LINE.match(line):
            continue
        line = _DIRECTIVE.sub(r"\1", line).rstrip()
        if line or (kept and kept[-1]):
            kept.append(line)
    return _plain("\n".join(kept)).strip()


def _plain(text: str) -> str:
    """Roles and literals reduced to what a reader sees of them."""
    without_roles = _ROLE.sub(lambda match: _role_text(match[1]), text)
    return _TICKS.sub(
        lambda match: _role_text(match[1]) if match[1].startswith("~") else match[1], without_roles
    )


def _role_text(content: str) -> str:
    if match := _ROLE_TARGET.match(content):
        return match[1]
    if content.startswith("~"):
        return content.rpartition(".")[2].lstrip("~")
    return content.lstrip("!.")
