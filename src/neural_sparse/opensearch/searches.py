"""How an index wants to be asked, read from its mapping: bodies of sparse and of BM25 searches for texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neural_sparse.errors import InputError
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.opensearch.connection import readable_errors
from neural_sparse.opensearch.features import (
    best_passage,
    escaped,
    field_types,
    neural_sparse_query,
    query_tokens,
    rank_feature_query,
)
from neural_sparse.opensearch.guards import server_names
from neural_sparse.opensearch.load import Body, match_body, search_body, text_body
from neural_sparse.search.hits import check_vocabulary, vocabulary_fingerprint

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

    from neural_sparse.model.encoder import NeuralSparseEncoder

VECTOR_KINDS = ("rank_features", "sparse_vector")


@dataclass(frozen=True)
class Searches:
    """Bodies of one kind of search, one per text.

    Attributes:
        kind: what the searches are, in a word or two.
        pipeline: see `load.search_system`.
    """

    kind: str
    bodies: list[Body]
    pipeline: str | None


@dataclass(frozen=True)
class About:
    """An index, or what an alias names.

    Attributes:
        fields: name -> type, of the first level and, as "path.name", of nested fields.
        default_pipeline: for searches that name none.
    """

    name: str
    fields: dict[str, str]
    meta: dict[str, Any]
    default_pipeline: str | None

    @classmethod
    def of(cls, client: OpenSearch, index: str) -> About:
        """Raises InputError: no such index; a name of several."""
        with readable_errors(f"index {index!r}"):
            found = client.indices.get(index=index)
        if len(found) != 1:
            raise InputError(f"{index!r} names {len(found)} indexes ({', '.join(found)}): name one")
        (one,) = found.values()
        mappings = one["mappings"]
        fields = field_types(mappings)
        settings = one["settings"]["index"]
        pipeline = settings.get("search", {}).get("default_pipeline")
        meta = mappings.get("_meta", {}).get("neural_sparse", {})
        return cls(index, fields, meta, None if pipeline == "_none" else pipeline)

    def vector_field(self, field: str | None) -> str:
        """The field of sparse vectors. Raises InputError: none, several, or one of another type."""
        found = [name for name, kind in self.fields.items() if kind in VECTOR_KINDS]
        if field is not None:
            if field not in found:
                kind = self.fields.get(field, "not mapped")
                raise InputError(
                    f"index {self.name!r}: field {field!r} is {kind}, not {' or '.join(VECTOR_KINDS)}"
                )
            return field
        if len(found) != 1:
            there = ", ".join(found) or "none"
            raise InputError(f"index {self.name!r}: fields of sparse vectors: {there}; name one with --field")
        return found[0]

    def text_field(self, field: str) -> str:
        """Raises InputError: not mapped as text."""
        if self.fields.get(field) != "text":
            texts = ", ".join(name for name, kind in self.fields.items() if kind == "text") or "none"
            raise InputError(
                f"index {self.name!r}: field {field!r} is {self.fields.get(field, 'not mapped')}, and BM25 wants text "
                f"(text fields: {texts}); name one with --text-field, or leave BM25 out"
            )
        return field


@dataclass(frozen=True)
class Kind:
    """A kind of search of one index.

    Attributes:
        word: what it is, in a word or two.
        pipeline: see `load.search_system`.
        bodies: makes one body per text.
    """

    word: str
    pipeline: str | None
    bodies: Callable[[Sequence[str]], list[Body]]

    def of(self, texts: Sequence[str]) -> Searches:
        return Searches(self.word, self.bodies(texts), self.pipeline)


def bm25_search(about: About, field: str, k: int) -> Kind:
    """Raises InputError: a field that is no text."""
    field = about.text_field(field)
    return Kind("match", "_none", lambda texts: [match_body(text, field, k) for text in texts])


def added_search(sparse: Kind, about: About, field: str, boost: float) -> Kind:
    """One query of two clauses, whose scores are added up: a sparse one, and BM25's times `boost`.

    Raises:
        InputError: a field that is no text, a boost that is not above 0.
    """
    field = about.text_field(field)
    if not 0 < boost < float("inf"):
        raise InputError(f"the boost of BM25's score is above 0, not {boost:g}")

    def bodies(texts: Sequence[str]) -> list[Body]:
        return [
            body
            | {
                "query": {
                    "bool": {"should": [body["query"], {"match": {field: {"query": text, "boost": boost}}}]}
                }
            }
            for text, body in zip(texts, sparse.bodies(texts), strict=True)
        ]

    return Kind(f"{sparse.word} + {boost:g} match", sparse.pipeline, bodies)


def sparse_search(
    about: About,
    k: int,
    *,
    field: str | None = None,
    model: NeuralSparseEncoder | None = None,
    model_id: str | None = None,
    analyzer: str | None = None,
    pipeline: str | None = None,
) -> Kind:
    """Sparse searches as this index takes them.

    With `model` the weights are made here and sent (rank_feature queries where the index escapes names, else
    neural_sparse); without, the cluster makes them, by `model_id`, `analyzer` or the model of the search pipeline.

    Raises:
        InputError: a model of another vocabulary, or another than the index's documents are of; an index that cannot
            make weights when none are sent.
    """
    named = about.vector_field(field)
    if model is None:
        if about.meta.get("names") == "escaped":
            raise InputError(
                f"index {about.name!r} was filled by the client and escapes its tokens' names, which no model of the "
                "cluster does: give --model, whose query weights are sent"
            )
        if not (model_id or analyzer or pipeline or about.default_pipeline):
            raise InputError(
                f"index {about.name!r} has no search pipeline that knows a query model: give --model (weights are made "
                "here), --model-id, --analyzer or --pipeline"
            )
        word = "neural_sparse by analyzer" if analyzer else "neural_sparse by model"
        return Kind(
            word,
            pipeline,
            lambda texts: [
                text_body(text, named, k=k, model_id=model_id, analyzer=analyzer) for text in texts
            ],
        )
    names = server_names(model.tokenizer)
    check_vocabulary(about.meta.get("vocabulary"), vocabulary_fingerprint(names))
    if (found := about.meta.get("fingerprint")) is not None:
        Fingerprint.read(found).require_model(Fingerprint.of(model), f"index {about.name!r}")
    approximate = about.fields[named] == "sparse_vector"
    make: Callable[[Mapping[str, float], str], Body] = neural_sparse_query
    if approximate:
        names = [str(number) if name else "" for number, name in enumerate(names)]
    elif about.meta.get("names") == "escaped":
        names, make = escaped(names), rank_feature_query

    def bodies(texts: Sequence[str]) -> list[Body]:
        queries = [make(tokens, named) for tokens in query_tokens(model.encode_queries(texts), names)]
        for query in queries:
            if approximate and "neural_sparse" in query:
                query["neural_sparse"][named]["method_parameters"] = {"k": k}
        return [search_body(best_passage(query, named), k) for query in queries]

    word = "rank_feature" if make is rank_feature_query else "neural_sparse by tokens"
    return Kind(word, pipeline or "_none", bodies)
