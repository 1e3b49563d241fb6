"""Queries where there are none: made from the documents themselves, which then lack what became the query."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from neural_sparse.data.layouts import Example
from neural_sparse.errors import InputError
from neural_sparse.io.files import sha256_file
from neural_sparse.io.lines import json_lines
from neural_sparse.text.passages import SENTENCE_END

Generator = Callable[[str, str], Iterable[str]]
WAYS = ("auto", "title", "heading", "first-sentence", "none")
ANSWERS = "answers:"
MIN_SENTENCE_WORDS = 4
PASSAGE_WORDS = 200
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"\s*(```|~~~)")


class Document(NamedTuple):
    """A document of a corpus; `title` may be empty."""

    title: str
    text: str

    @property
    def whole(self) -> str:
        """BEIR's document text: title, a space, body."""
        return f"{self.title} {self.text}".strip()


def examples_from(document: Document, way: str, generator: Generator | None = None) -> list[Example]:
    """Examples of one document; without a query where none can be made.

    Args:
        way: "title" (title, searching the body), "heading" (a Markdown heading, searching its section),
            "first-sentence" (inverse cloze: a passage's first sentence, searching the rest), "auto" (the first
            of these that the document has), or "none".
        generator: the user's own, in place of all these: called with text and title, gives queries.

    Raises:
        InputError: the generator gives something else than texts.
    """
    if generator is not None:
        return list(_generated(document, generator)) or [Example(None, (document.whole,))]
    if way in ("auto", "title") and document.title.strip() and document.text.strip():
        return [Example(document.title, (document.text,))]
    if way in ("auto", "heading") and (found := list(_from_headings(document.text))):
        return found
    if way in ("auto", "first-sentence"):
        return [_inverse_cloze(passage) for passage in passages(document.whole)]
    return [Example(None, (document.whole,))]


def load_generator(name: str) -> Generator:
    """The user's function that `module:function` names; imported now, from the path Python searches.

    "answers:FILE" looks queries up that were written before: {"key": `answers_key`, "queries": [...]} per line.

    Raises:
        InputError: no such module or function, or file of answers.
    """
    if name.startswith(ANSWERS):
        return _read_answers(Path(name.removeprefix(ANSWERS)))
    module, colon, function = name.partition(":")
    if not colon or not module or not function:
        raise InputError(f"{name!r}: a generator of queries is written module:function")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{name}: cannot be imported ({error}); is its folder in PYTHONPATH?") from error
    if not callable(found):
        raise InputError(f"{name} is no function; it is called with a text and a title and gives queries")
    return found  # type: ignore[no-any-return]


def answers_key(whole: str) -> str:
    """What a file of answers knows a document by: 128 bits of its text, `Document.whole`, in hexadecimal."""
    return hashlib.blake2b(whole.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _read_answers(file: Path) -> Generator:
    queries = {row["key"]: row["queries"] for _, row in json_lines(file)}
    return lambda text, title: queries.get(answers_key(Document(title, text).whole), [])


def generator_sum(name: str) -> str | None:
    """Checksum of the file that the user's generator is in; None where there is none."""
    if ":" not in name:
        return None
    if name.startswith(ANSWERS):
        return sha256_file(Path(name.removeprefix(ANSWERS)))
    file = importlib.import_module(name.partition(":")[0]).__file__
    return sha256_file(file) if file else None


def first_sentence(text: str, min_words: int = 1) -> tuple[str, str]:
    """A text's first sentence and the rest ("" if it has only one).

    Args:
        min_words: sentences are joined until they have as many, for a full stop may belong to "e.g.".
    """
    for match in SENTENCE_END.finditer(text):
        if len(text[: match.end()].split()) >= min_words:
            return text[: match.end()].strip(), text[match.end() :].strip()
    return text.strip(), ""


def passages(text: str, limit: int = PASSAGE_WORDS) -> Iterator[str]:
    """Paragraphs, short ones joined and long ones cut, of about `limit` words."""
    held: list[str] = []
    count = 0
    for paragraph in re.split(r"\n\s*\n", text):
        words = paragraph.split()
        if not words:
            continue
        if count and count + len(words) > limit:
            yield "\n".join(held)
            held, count = [], 0
        if len(words) > 2 * limit:
            parts = -(-len(words) // limit)
            size = -(-len(words) // parts)
            yield from (" ".join(words[start : start + size]) for start in range(0, len(words), size))
            continue
        held.append(paragraph.strip())
        count += len(words)
    if held:
        yield "\n".join(held)


def _inverse_cloze(passage: str) -> Example:
    query, rest = first_sentence(passage, MIN_SENTENCE_WORDS)
    if len(query.split()) < MIN_SENTENCE_WORDS or len(rest.split()) < 2 * MIN_SENTENCE_WORDS:
        return Example(None, (passage,))
    return Example(query, (rest,))


def _from_headings(text: str) -> Iterator[Example]:
    """A heading with each passage of its section; a heading of one or two words goes with those above it."""
    above: list[tuple[int, str]] = []
    section: list[str] = []
    fenced = False

    def finished() -> Iterator[Example]:
        body = "\n".join(section).strip()
        query = ""
        for _, heading in reversed(above):
            query = f"{heading} {query}".strip()
            if len(query.split()) > 2:
                break
        for passage in passages(body):
            yield Example(query, (passage,))

    for line in text.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        match = None if fenced else _HEADING.match(line)
        if match is None:
            section.append(line)
            continue
        if above:
            yield from finished()
        level = len(match[1])
        above = [(depth, heading) for depth, heading in above if depth < level] + [(level, match[2])]
        section = []
    if above:
        yield from finished()


def _generated(document: Document, generator: Generator) -> Iterator[Example]:
    queries = generator(document.text, document.title)
    if isinstance(queries, str) or not isinstance(queries, Iterable):
        raise InputError(f"the generator must give a list of queries, not {type(queries).__name__}")
    for query in queries:
        if not isinstance(query, str):
            raise InputError(f"the generator must give texts, not {type(query).__name__}")
        yield Example(query, (document.whole,))
