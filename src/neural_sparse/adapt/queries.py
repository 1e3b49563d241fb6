"""Queries made of documents, each of one part of its document, which then lacks it; and what kind each query is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from neural_sparse.adapt.corpus import Text, number_of
from neural_sparse.data.from_documents import MIN_SENTENCE_WORDS, first_sentence, load_generator
from neural_sparse.mining.made_queries import PREFIX, QueryMaker, QueryMakerSettings
from neural_sparse.text.shingles import WORD, normalised, words

Generator = Callable[[str, str], Iterable[str]]
LEAST_LEFT = 8  # words of a document without its query
MOST_WORDS = 40  # of a query
SENTENCES = 3  # one in so many documents that have a title gives a sentence
# Words of a text without title, heading and full stops that become a query: so many at least, so many at most.
OPENING = (5, 10)
LENGTHS = ((3, "1 to 3 words"), (7, "4 to 7 words"), (10**9, "8 words and more"))
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$", re.M)


class Made(NamedTuple):
    """A query made of a document.

    Attributes:
        query: its text; "" where none could be made.
        kind: "title", "heading", "sentence", "opening" or "generated".
        text: the document without what became the query (title, a space, body).
    """

    query: str
    kind: str
    text: str


def query_of(document: Text, seed: int, titles: bool = False) -> Made:
    """One query of a document: its title, a heading or its first sentence, by what it has and by its id; of a text that
    has none of them, its opening words.

    Args:
        titles: nothing but its title.
    """
    drawn = number_of(seed, "query", document.doc_id)
    made = [one for one in _choices(document) if one.kind == "title" or not titles]
    if not made and not titles:
        made = _opening(document, drawn)
    if not made:
        return Made("", "", document.whole)
    sentences = [one for one in made if one.kind == "sentence"]
    others = [one for one in made if one.kind != "sentence"]
    chosen = sentences if sentences and (not others or drawn % SENTENCES == 0) else others
    return chosen[drawn // SENTENCES % len(chosen)]


def generator_of(name: str) -> Generator:
    """The user's function "module:function", or a language model "endpoint:MODEL@URL" or "endpoint:FILE.yaml".

    Raises:
        InputError: no such function; settings that cannot be, or a key that is missing.
    """
    if not name.startswith(PREFIX):
        return load_generator(name)
    maker = QueryMaker(QueryMakerSettings.read(name))
    maker.endpoint.require_key()
    return maker


def generated_query(document: Text, generator: Generator) -> Made:
    """The first query that the user's function gives for a document, which stays whole."""
    query = next((text for text in generator(document.text, document.title) if text.strip()), "")
    return Made(query.strip(), "generated" if query else "", document.whole)


def _choices(document: Text) -> list[Made]:
    title, text = document.title.strip(), document.text.strip()
    found = []
    if len(words(title)) > 1:
        found.append(Made(title, "title", text))
    elif match := _HEADING.search(text):
        found.append(Made(match[1], "heading", (text[: match.start()] + text[match.end() :]).strip()))
    sentence, rest = first_sentence(text, MIN_SENTENCE_WORDS)
    if len(words(sentence)) >= MIN_SENTENCE_WORDS and not sentence.lstrip().startswith("#"):
        found.append(Made(sentence, "sentence", f"{title} {rest}".strip()))
    return [
        one for one in found if 1 < len(words(one.query)) <= MOST_WORDS and len(words(one.text)) >= LEAST_LEFT
    ]


def _opening(document: Text, drawn: int) -> list[Made]:
    """The first words of a text that cannot be cut elsewhere (inverse cloze: Lee et al. 2019, section 4)."""
    text, (least, most) = document.whole, OPENING
    count = least + drawn % (most - least + 1)
    ends = [match.end() for match in WORD.finditer(text)]
    if len(ends) < count + LEAST_LEFT:
        return []
    end = ends[count - 1]
    return [Made(text[:end].strip(), "opening", text[end:].strip())]


def unambiguous(made: Sequence[Made], documents: Sequence[Text]) -> list[Made]:
    """Without the queries that several documents gave: a search for one could not tell which is meant. Their
    documents are whole again."""
    often = Counter(normalised(one.query) for one in made)
    return [
        one if often[normalised(one.query)] == 1 else Made("", "", document.whole)
        for one, document in zip(made, documents, strict=True)
    ]


def length_of(query: str) -> str:
    """The class of lengths that a query is reported in."""
    count = len(words(query))
    return next(name for most, name in LENGTHS if count <= most)
