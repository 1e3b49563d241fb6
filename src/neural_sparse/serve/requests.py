"""What may be asked, and how much of it: every bound that a request has."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

DEEPEST = 1000  # hits of one search
LONGEST_QUERY = 10_000  # characters
LONGEST_ID = 512
LARGEST_BODY = 1 << 18  # bytes, of all requests but those with documents
LARGEST_DOCUMENTS = 32 << 20
MOST_TEXTS = 64  # encoded in one request
MOST_DOCUMENTS = 1000  # changed in one request


class Refused(Exception):
    """A request that is no good, with its status and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Request(BaseModel):
    """Unknown fields are refused, and so is a text where a number is wanted."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


Query = Annotated[str, Field(max_length=LONGEST_QUERY)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Id = Annotated[str, Field(min_length=1, max_length=LONGEST_ID)]
Index = Annotated[str | None, Field(description="Name of an index; the first, if not given.")]


class Fuse(Request):
    """With which ranking, and how."""

    index: str
    method: Annotated[str, Field(pattern="^(rrf|minmax|sum)$")] = "rrf"
    weight: Annotated[
        float, Field(ge=0, le=1, description="Of the index itself; the other has the rest.")
    ] = 0.5
    depth: Annotated[int, Field(ge=1, le=DEEPEST, description="Hits of each that are put together.")] = 100


class Search(Request):
    """Either a text or tokens with weights."""

    query: Query | None = None
    query_tokens: Annotated[dict[str, Weight], Field(max_length=1000)] | None = None
    index: Index = None
    k: Annotated[int, Field(ge=1, le=DEEPEST)] = 10
    # Made anew: pydantic would copy a default at depth, which takes as long as the rest of the request.
    without: Annotated[list[Id], Field(max_length=DEEPEST, description="Ids that may not be found.")] = Field(
        default_factory=list
    )
    filters: Annotated[
        dict[str, Any],
        Field(
            max_length=50,
            description='On metadata: {"lang": "en", "tags": ["a", "b"], "year": {"gte": 2000}}.',
        ),
    ] = Field(default_factory=dict)
    fuse: Annotated[Fuse | None, Field(description="Put together with the hits of another index.")] = None
    snippets: Annotated[bool, Field(description="With the passage that matches best.")] = False
    texts: Annotated[bool, Field(description="With the whole texts.")] = False
    explain: Annotated[bool, Field(description="With what matched, and what the model added.")] = False

    @model_validator(mode="after")
    def _one(self) -> Search:
        if (self.query is None) == (self.query_tokens is None):
            raise ValueError("give either query or query_tokens")
        if self.fuse is not None and self.query is None:
            raise ValueError("rankings of query_tokens cannot be fused: give a query")
        return self

    @property
    def plain(self) -> bool:
        """Whether ids and scores of the best of all documents are all that is wanted."""
        return not (self.fuse or self.without or self.filters or self.snippets or self.texts or self.explain)


class EncodeQuery(Request):
    query: Query
    index: Index = None


class EncodeDocuments(Request):
    texts: Annotated[
        list[Annotated[str, Field(max_length=1_000_000)]], Field(min_length=1, max_length=MOST_TEXTS)
    ]


class Document(Request):
    """What a line of a corpus.jsonl holds."""

    id: Id
    text: Annotated[str, Field(max_length=1_000_000)]
    title: Annotated[str, Field(max_length=LONGEST_QUERY)] = ""
    metadata: Annotated[
        dict[str, Any], Field(max_length=100, description="Fields that the index was encoded with.")
    ] = {}


class Upsert(Request):
    """Documents to add, or to replace those of the same id: all of them or none."""

    documents: Annotated[list[Document], Field(min_length=1, max_length=MOST_DOCUMENTS)]
    index: Index = None


class Delete(Request):
    """Ids that are not there do not matter."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_DOCUMENTS)]
    index: Index = None


class Judge(Request):
    query: Annotated[str, Field(min_length=1, max_length=LONGEST_QUERY)]
    id: Id
    relevant: Annotated[bool | None, Field(description="null takes a judgement back.")]
    index: Index = None


R = TypeVar("R", bound=Request)


def parsed(kind: type[R], body: bytes) -> R:
    """
    Raises:
        Refused: 422; what is wrong with which field.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        known = f"; there are {', '.join(kind.model_fields)}" if first["type"] == "extra_forbidden" else ""
        message = first["msg"].removeprefix("Value error, ")
        raise Refused(422, f"{where}: {message}{known}" if where else f"{message}{known}") from error


def answer(value: object) -> bytes:
    """JSON in UTF-8; half a surrogate pair, which neither can hold, becomes a question mark."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
