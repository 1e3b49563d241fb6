"""Which examples are dropped, why, and that each is counted."""

from __future__ import annotations

from typing import Any

import pytest

from neural_sparse.corpora.overlap import TestTexts
from neural_sparse.data.cleaning import Cleaner, Cleaning, Counts
from neural_sparse.data.layouts import Example
from neural_sparse.errors import InputError

ENGLISH = "The index is built once and read by every worker of the search service."
GERMAN = "Der Index wird einmal gebaut und dann von jedem Prozess des Suchdienstes gelesen."
KOREAN = "색인은 한 번 만들어지고 검색 서비스의 모든 작업자가 읽습니다."


def clean(examples: list[Example], tests: list[TestTexts | None] | None = None, **settings: Any) -> Any:
    counts = Counts()
    kept = Cleaner(Cleaning(**settings), *(tests or [])).clean(examples, counts)
    assert counts.read == sum(one.example.query is not None for one in kept) + sum(counts.dropped.values())
    return [one.example for one in kept], counts


@pytest.mark.parametrize(
    ("example", "settings", "reason"),
    [
        (Example("?!", ("text",)), {}, "empty"),
        (Example("query", (" \x00",)), {}, "empty"),
        (Example("A text.", ("a TEXT",)), {}, "same_text"),
        (Example("one", ("a text",)), {"min_query_words": 2}, "query_length"),
        (Example("one two three", ("a text",)), {"max_query_words": 2}, "query_length"),
        (Example("one", ("a text",)), {"min_document_words": 3}, "document_length"),
        (Example("one", ("a longer text",)), {"max_document_words": 2}, "document_length"),
        (Example("Suche", (GERMAN,)), {"languages": ("en", "ko")}, "language"),
    ],
)
def test_reasons(example: Example, settings: dict[str, Any], reason: str) -> None:
    kept, counts = clean([example], **settings)
    assert kept == []
    assert counts.dropped == {reason: 1}


def test_what_is_kept_is_repaired() -> None:
    example = Example("itâ€™s", ("e\u0301te\u0301 \x00", "neg"), (2.0, 1.0))
    kept, counts = clean([example])
    assert kept == [Example("it’s", ("été", "neg"), (2.0, 1.0))]
    assert counts.repaired == 2
    assert clean([example], repair=False)[0] == [example]


def test_languages() -> None:
    examples = [Example("search", (ENGLISH,)), Example("Suche", (GERMAN,)), Example("검색", (KOREAN,))]
    assert clean(examples, languages=("en", "ko"))[0] == [examples[0], examples[2]]
    assert clean(examples)[0] == examples


def test_negatives_that_are_none() -> None:
    example = Example("q", ("pos", "one", "", "Pos!", "ONE", "two"), (9.0, 5.0, 4.0, 3.0, 2.0, None))
    kept, counts = clean([example])
    assert kept == [Example("q", ("pos", "one", "two"), (9.0, 5.0, None))]
    assert (counts.negatives, counts.negatives_dropped) == (5, 3)


def test_documents_that_no_query_goes_with() -> None:
    kept, counts = clean(
        [Example(None, ("a",)), Example(None, (" ",))], min_document_words=5, languages=("ko",)
    )
    assert kept == [Example(None, ("a",))]
    assert (counts.read, counts.documents) == (0, 2)


def test_test_queries_and_test_documents() -> None:
    queries = TestTexts.of(["what is the capital of france"], queries=True)
    documents = TestTexts.of(["Paris is the capital of France."], queries=False)
    examples = [
        Example("What is the capital of France?", ("Lyon.",)),
        Example("a city", ("What is the capital of France? A quiz.",)),  # holds the test query
        Example("seine", ("paris is the capital of france", "x")),
        Example("loire", ("Nantes.", "Paris is the capital of France", "Tours.")),
        Example(None, ("what is the capital of france",)),
        Example(None, ("Paris is the capital of France",)),
    ]
    kept, counts = clean(examples, [queries, documents], decontaminate=("x",), decontaminate_documents=True)
    assert kept == [Example("loire", ("Nantes.", "Tours.")), examples[4]]
    assert counts.dropped == {"test_query": 2, "test_document": 1}
    assert counts.negatives_dropped == 1
    kept, counts = clean(examples, [queries, None], decontaminate=("x",))
    assert kept == examples[2:]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"near_duplicates": 0.0}, "above 0 and at most 1"),
        ({"min_query_words": 5, "max_query_words": 4}, "min_query_words=5, max_query_words=4: nothing"),
        ({"decontaminate_documents": True}, "name the test collections"),
    ],
)
def test_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Cleaning(**settings)


def test_counts_add_up_and_survive_json() -> None:
    counts = Counts(read=3, negatives=2)
    counts.dropped["empty"] += 1
    counts.add(Counts.from_dict(counts.to_dict()))
    assert counts.to_dict() == {**Counts(read=6, negatives=4).to_dict(), "dropped": {"empty": 2}}
