"""Answers that lack what a shard holds, as OpenSearch 3.6.0 gives them."""

from __future__ import annotations

from typing import Any

import pytest

from neural_sparse import InputError
from neural_sparse.opensearch.shards import missing, require_whole


def test_whole_answers() -> None:
    require_whole(
        {"_shards": {"total": 3, "successful": 3, "skipped": 1, "failed": 0}, "timed_out": False}, "here"
    )
    assert missing({"hits": {}}) == ""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {
                "_shards": {
                    "total": 3,
                    "successful": 2,
                    "failed": 1,
                    "failures": [{"reason": {"type": "x", "reason": "the node left"}}],
                }
            },
            r"here: 1 of 3 shards did not answer \(the node left\), so what they hold is missing",
        ),
        ({"_shards": {"total": 4, "successful": 2, "failed": 0}}, "here: 2 of 4 shards did not answer, so"),
        (
            {"_shards": {"total": 1, "successful": 1, "failed": 0}, "timed_out": True},
            "stopped before the end",
        ),
    ],
)
def test_answers_that_lack_something(answer: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        require_whole(answer, "here")
