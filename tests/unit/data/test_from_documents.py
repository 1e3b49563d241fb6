"""Queries made from documents."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from neural_sparse.data.from_documents import (
    Document,
    examples_from,
    first_sentence,
    generator_sum,
    load_generator,
    passages,
)
from neural_sparse.data.layouts import Example
from neural_sparse.errors import InputError
from neural_sparse.io.files import sha256_file

MARKDOWN = """Preface that no heading goes with.

# Sorting lists

Use sorted() for a new list.

## Keys

A key function is called once per item.

```python
# not a heading
```

# Reading files and folders #

Open them.
"""


def test_a_title_searches_its_body() -> None:
    assert examples_from(Document("Sort a list", "Use sorted()."), "auto") == [
        Example("Sort a list", ("Use sorted().",))
    ]


def test_a_heading_searches_its_section() -> None:
    found = examples_from(Document("", MARKDOWN), "heading")
    assert [example.query for example in found] == [
        "Sorting lists",
        "Sorting lists Keys",  # one word says too little alone
        "Reading files and folders",
    ]
    assert found[1].documents[0].startswith("A key function")
    assert "# not a heading" in found[1].documents[0]
    assert found[2].documents == ("Open them.",)


def test_a_first_sentence_searches_the_rest() -> None:
    text = "The index is built once, e.g. at night. It is then read by every worker and never changes again."
    (example,) = examples_from(Document("", text), "auto")
    assert example.query == "The index is built once, e.g."  # four words; a full stop is a full stop
    assert text == f"{example.query} {example.documents[0]}"


@pytest.mark.parametrize(
    ("way", "text"), [("auto", "Short."), ("title", "No title here. And more."), ("none", MARKDOWN)]
)
def test_without_a_query_the_document_stays_whole(way: str, text: str) -> None:
    assert examples_from(Document("", text), way) == [Example(None, (text.strip(),))]


def test_first_sentence() -> None:
    assert first_sentence("One. Two. Three.") == ("One.", "Two. Three.")
    assert first_sentence("One. Two words. Three.", 3) == ("One. Two words.", "Three.")
    assert first_sentence("색인은 한 번 만든다。그 다음") == ("색인은 한 번 만든다。", "그 다음")
    assert first_sentence("no end") == ("no end", "")


def test_passages_lose_no_word_and_are_of_bounded_size() -> None:
    paragraphs = [
        " ".join(f"w{n}.{m}" for m in range(length)) for n, length in enumerate((3, 50, 900, 90, 120, 1))
    ]
    found = list(passages("\n\n".join(paragraphs), 100))
    assert " ".join(found).split() == " ".join(paragraphs).split()
    assert all(len(passage.split()) <= 200 for passage in found)
    assert list(passages(" \n\n ")) == []


@pytest.fixture
def own_generators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_queries.py").write_text(
        "def ask(text, title):\n    return [f'what is {title}', text.split()[0]]\n"
        "def none(text, title):\n    return []\n"
        "def wrong(text, title):\n    return 'one text'\n"
        "def numbers(text, title):\n    return [3]\n"
        "value = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_queries", raising=False)


@pytest.mark.usefixtures("own_generators")
def test_the_user_s_own_generator() -> None:
    document = Document("sorting", "Lists are sorted.")
    assert "my_queries" not in sys.modules
    ask = load_generator("my_queries:ask")
    whole = "sorting Lists are sorted."
    assert examples_from(document, "", ask) == [
        Example("what is sorting", (whole,)),
        Example("Lists", (whole,)),
    ]
    assert examples_from(document, "", load_generator("my_queries:none")) == [Example(None, (whole,))]
    for name, message in (("wrong", "a list of queries, not str"), ("numbers", "give texts, not int")):
        with pytest.raises(InputError, match=message):
            examples_from(document, "", load_generator(f"my_queries:{name}"))


@pytest.mark.usefixtures("own_generators")
def test_a_generator_is_known_by_its_file(tmp_path: Path) -> None:
    before = generator_sum("my_queries:ask")
    assert before == sha256_file(tmp_path / "my_queries.py")
    (tmp_path / "my_queries.py").write_text("def ask(text, title):\n    return []\n")
    assert generator_sum("my_queries:ask") != before
    assert generator_sum("auto") is None


@pytest.mark.usefixtures("own_generators")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_queries", "written module:function"),
        ("no_such_module:f", "cannot be imported"),
        ("my_queries:absent", "cannot be imported"),
        ("my_queries:value", "is no function"),
    ],
)
def test_a_generator_that_is_none(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_generator(name)
