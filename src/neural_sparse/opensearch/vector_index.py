"""An index of precomputed vectors on a cluster: make it, fill it, search it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.opensearch import versions
from neural_sparse.opensearch.bulk import BulkReport, BulkSettings, Progress, delete, send, text_json
from neural_sparse.opensearch.connection import readable_errors, version_of
from neural_sparse.opensearch.features import (
    MAX_CLAUSES,
    best_passage,
    escaped,
    field_types,
    neural_sparse_query,
    query_tokens,
    rank_feature_query,
    vector_objects,
)
from neural_sparse.opensearch.guards import check_ids
from neural_sparse.opensearch.refusals import cured, reason
from neural_sparse.opensearch.seismic import SPARSE_VECTOR, Seismic, SeismicSearch, token_ids
from neural_sparse.opensearch.shards import count_documents, require_whole
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.hits import check_vocabulary, vocabulary_fingerprint

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

logger = logging.getLogger(__name__)

Names = Literal["escaped", "plain", "ids"]
Hit = tuple[str, float]
_SEARCHES = 50  # of one _msearch
_CLUSTERS = 3600  # seconds that a refresh may take to make them
_ROWS = 1000  # turned into JSON at a time
_LEAST = 0.001  # what the server's min_max gives the last document of a side, unlike one that is not there


class VectorIndex:
    """Document vectors in a rank_features field of an index, or in a sparse_vector field, which is approximate.

    Args:
        client: see `connect`.
        name: of the index, which exists; make one with `create`.
        tokens: what the server calls each column (`guards.server_names`), "" for special tokens.
        vector_field, text_field: names of the fields. That of an index of passages (`deploy --passages`) is found; a
            document scores as its best passage.
        fingerprint: whose vectors are to be added and searched; compared with what the index was made with, where
            both are known.

    Raises:
        InputError: no such index; one of another vocabulary, or of vectors of another model, query table, tokenizer
            or pruning; a server that refuses or does not answer.
    """

    def __init__(
        self,
        client: OpenSearch,
        name: str,
        tokens: Sequence[str],
        *,
        vector_field: str = "embedding",
        text_field: str = "text",
        fingerprint: Fingerprint | None = None,
    ) -> None:
        self.client = client
        self.name = name
        self.vector_field = vector_field
        self.text_field = text_field
        with readable_errors(f"index {name!r}"):
            (found,) = client.indices.get(index=name).values()
            server = version_of(client)
        self.uuid = str(found["settings"]["index"]["uuid"])
        self.shards = int(found["settings"]["index"]["number_of_shards"])
        mappings = found["mappings"]
        fields = field_types(mappings)
        about = mappings.get("_meta", {}).get("neural_sparse", {})
        if about.get("passages") and vector_field not in fields:  # as `deploy --passages` made it
            (vector_field,) = (
                one for one, type_of in fields.items() if "." in one and type_of == "rank_features"
            )
            self.vector_field = vector_field
        kind = fields.get(vector_field)
        self._text_type = fields.get(text_field)
        if kind not in ("rank_features", SPARSE_VECTOR):
            raise InputError(
                f"index {name!r}: field {vector_field!r} is mapped as {kind}, not rank_features or {SPARSE_VECTOR}; "
                "choose another index, or make one with VectorIndex.create"
            )
        check_vocabulary(about.get("vocabulary"), vocabulary_fingerprint(tokens))
        if fingerprint is not None and about.get("fingerprint") is not None:
            Fingerprint.read(about["fingerprint"]).require(fingerprint, f"index {name!r}")
        self.names: Names = "ids" if kind == SPARSE_VECTOR else about.get("names", "plain")
        self.features = {"escaped": escaped, "ids": token_ids}.get(self.names, list)(tokens)
        has_pipelines = server is None or (  # only OpenSearch keeps it to itself
            server[0] == "opensearch" and versions.numbers(server[1]) >= versions.SEARCH_PIPELINES.since
        )
        # A default search pipeline of the index would change what is found.
        self._search_defaults = {"search_pipeline": "_none"} if has_pipelines else {}

    @classmethod
    def create(
        cls,
        client: OpenSearch,
        name: str,
        tokens: Sequence[str],
        *,
        names: Names = "escaped",
        shards: int = 1,
        replicas: int = 0,
        vector_field: str = "embedding",
        text_field: str = "text",
        seismic: Seismic | None = None,
        fingerprint: Fingerprint | None = None,
    ) -> VectorIndex:
        """Make an index.

        Args:
            seismic: make a sparse_vector field, searched approximately (3.3 or later); `names` is "ids" then.
            names: "escaped" writes "." as "%2E", so that rank_feature queries find every token (see
                `features.escaped`); "plain" keeps tokens as they are, as ingest processors and query models of the
                server call them.
            fingerprint: whose vectors it will hold; kept in the index, so that others are refused.

        Raises:
            InputError: it exists already; a name the server refuses.
        """
        if names not in ("escaped", "plain"):
            raise InputError(f"names are 'escaped' or 'plain', not {names!r}")
        if names == "escaped":
            escaped(tokens)
        if seismic is not None:
            with readable_errors(f"index {name!r}"):
                server = version_of(client)
            versions.require(
                server[1] if server and server[0] == "opensearch" else "0.0", versions.SPARSE_VECTOR
            )
        with readable_errors(f"index {name!r}"):
            if client.indices.exists(index=name):
                raise InputError(f"index {name!r} exists; choose another name, or delete it")
            body = index_body(
                tokens,
                names,
                shards=shards,
                replicas=replicas,
                vector_field=vector_field,
                text_field=text_field,
                seismic=seismic,
                fingerprint=fingerprint,
            )
            client.indices.create(index=name, body=body)
        return cls(
            client,
            name,
            tokens,
            vector_field=vector_field,
            text_field=text_field,
            fingerprint=fingerprint,
        )

    def add(
        self,
        vectors: sp.csr_matrix,
        doc_ids: Sequence[str],
        texts: Sequence[str] | None = None,
        *,
        fields: Sequence[Mapping[str, Any]] | None = None,
        resume: str | Path | None = None,
        settings: BulkSettings | None = None,
        show_progress: bool = True,
    ) -> BulkReport:
        """Index documents by their ids; one that is there already is replaced.

        Args:
            vectors: [documents, vocabulary], as `encode_documents` gives them.
            fields: more of each document, {name: value}, by which searches can be filtered.
            resume: file that says how far this got; with it, a run that was stopped goes on from there.

        Returns:
            What became of every document; look at `failed`.

        Raises:
            InputError: see `bulk.send`; ids that are not unique; `resume` of other work; `fields` that have the name of
                the vectors' or the texts' field, or are no JSON.
        """
        refuse_one_string(doc_ids, "ids")
        if len(doc_ids) != vectors.shape[0] or (texts is not None and len(texts) != len(doc_ids)):
            counts = f"{vectors.shape[0]:,} vectors, {len(doc_ids):,} ids"
            raise InputError(f"as many ids (and texts) as vectors, please: {counts}")
        if "." in self.vector_field:
            raise InputError(
                f"index {self.name!r} holds a vector for each passage, which its ingest pipeline makes: send texts "
                "to it, as `neural-sparse deploy --passages ... --corpus` does"
            )
        check_ids(doc_ids)
        DocumentIds.of(doc_ids)
        more = None if fields is None else self._fields(fields, len(doc_ids))

        def sources(start: int) -> Iterator[str]:
            for first in range(start, len(doc_ids), _ROWS):
                rows = slice(first, first + _ROWS)
                objects = vector_objects(vectors[rows], self.features)
                for row, features in enumerate(objects, start=first):
                    text = "" if texts is None else f",{json.dumps(self.text_field)}:{text_json(texts[row])}"
                    own = "" if more is None else more[row]
                    vector = f"{json.dumps(self.vector_field)}:{features}"
                    if self.names == "ids" and features == "{}":
                        vector = ""  # as a first document, an empty one poisons a sparse_vector field
                    yield f"{{{f'{vector}{text}{own}'.removeprefix(',')}}}"

        about = {
            "index": self.name,
            "documents": len(doc_ids),
            "content": _digest(vectors, doc_ids, texts, more),
            "uuid": self.uuid,
        }
        progress = Progress(Path(resume) if resume is not None else None, about)
        report = send(
            self.client,
            self.name,
            doc_ids=doc_ids,
            sources=sources,
            progress=progress,
            settings=settings or BulkSettings(),
            show_progress=show_progress,
        )
        self._refresh()
        if report.failed:
            logger.warning("%d of %d documents were refused", len(report.failed), len(doc_ids))
        return report

    def _fields(self, fields: Sequence[Mapping[str, Any]], count: int) -> list[str]:
        """What stands in each document's JSON behind vector and text."""
        if len(fields) != count:
            raise InputError(f"as many fields as documents, please: {len(fields):,} for {count:,}")
        shown = []
        for row, values in enumerate(fields):
            if taken := {self.vector_field, self.text_field} & set(values):
                raise InputError(f"fields of document {row}: {sorted(taken)[0]!r} is the index's own field")
            try:
                parts = [
                    f",{json.dumps(name)}:{json.dumps(value, allow_nan=False)}"
                    for name, value in values.items()
                ]
            except (TypeError, ValueError) as error:
                raise InputError(f"fields of document {row} are no JSON: {error}") from error
            shown.append("".join(parts))
        return shown

    def delete(self, doc_ids: Sequence[str], settings: BulkSettings | None = None) -> int:
        """Delete documents by id; returns how many were there. Those that are not there are no error.

        A server that is busy is asked again, as in `add`.

        Raises:
            InputError: ids that no document can have; a server that refuses or does not recover; what was deleted
                before stays deleted, and the same call deletes the rest.
        """
        refuse_one_string(doc_ids, "ids")
        check_ids(doc_ids)
        deleted = delete(self.client, self.name, doc_ids, settings or BulkSettings())
        self._refresh()
        return deleted

    def documents(
        self, doc_ids: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """{id: its stored fields} of those that are there, as the results of a search are shown.

        Args:
            fields: names; the text and all others but the vector if None.

        Raises:
            InputError: a server that refuses or does not answer; a shard that does not.
        """
        refuse_one_string(doc_ids, "ids")
        if not doc_ids:
            return {}
        chosen = (
            {"_source_excludes": self.vector_field}
            if fields is None
            else {"_source_includes": ",".join(fields)}
        )
        with readable_errors(f"index {self.name!r}"):
            answer = self.client.mget(body={"ids": list(doc_ids)}, index=self.name, params=chosen)
        for one in answer["docs"]:
            if "error" in one:
                raise InputError(
                    f"index {self.name!r}: document {one['_id']!r}: {cured(reason(one['error']))}"
                )
        return {one["_id"]: one.get("_source", {}) for one in answer["docs"] if one.get("found")}

    def switch_alias(self, alias: str) -> list[str]:
        """Let `alias` name this index alone, in one step; returns the indexes that it named before.

        Raises:
            InputError: an index has that name.
        """
        from opensearchpy import exceptions

        with readable_errors(f"alias {alias!r}"):
            try:
                before = sorted(self.client.indices.get(index=alias))
            except exceptions.NotFoundError:
                before = []
            if alias in before:
                raise InputError(f"{alias!r} is an index, so no alias can have this name")
            (own,) = self.client.indices.get(index=self.name)  # self.name may be an alias too
            actions: list[dict[str, Any]] = [
                {"remove": {"index": index, "alias": alias}} for index in before if index != own
            ]
            self.client.indices.update_aliases(
                body={"actions": [*actions, {"add": {"index": own, "alias": alias}}]}
            )
        return before

    def _refresh(self) -> None:
        from opensearchpy import exceptions

        try:
            with readable_errors(f"index {self.name!r}"):
                if (
                    self.names == "ids"
                ):  # clusters are made now, which takes minutes where there are many documents
                    self.client.indices.refresh(index=self.name, request_timeout=_CLUSTERS)
                else:
                    self.client.indices.refresh(index=self.name)
        except InputError as error:
            if not isinstance(error.__cause__, exceptions.AuthorizationException):
                raise
            logger.warning("%s; new documents are found after the index's own refresh_interval", error)

    def __len__(self) -> int:
        """Documents that searches can find. Raises InputError: shards that do not answer."""
        with readable_errors(f"index {self.name!r}"):
            return count_documents(self.client, self.name)

    def search(
        self,
        queries: sp.csr_matrix,
        k: int = 10,
        *,
        filter: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        kind: Literal["rank_feature", "neural_sparse"] | None = None,
        max_clauses: int = MAX_CLAUSES,
        seismic: SeismicSearch | None = None,
    ) -> list[list[Hit]]:
        """The k best documents of each query, (id, score), best first.

        Scores are those of weights cut to 9 significant bits (`features.stored`).

        Args:
            queries: [queries, vocabulary], as `encode_queries` gives them.
            filter: what documents have to be as well, in OpenSearch's query language, such as
                {"term": {"language": "en"}} or {"range": {"year": {"gte": 2020}}}; several have to be true together.
                Scores are left as they are.
            kind: of query; "neural_sparse" needs the plugin. None: "rank_feature" where names are escaped, else
                "neural_sparse".
            seismic: how a sparse_vector field is searched. It applies a filter after its own k, so searches that find
                fewer than k are asked again for 10 times as many.

        Raises:
            InputError: k < 1; a weight outside (0, 64]; a query of too many tokens; a rank_feature query for a token
                that it cannot name; a server that refuses; shards that do not answer, whose documents would be missing.
        """
        kind = kind or ("rank_feature" if self.names == "escaped" else "neural_sparse")
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        approximate = (seismic or SeismicSearch()) if self.names == "ids" else None
        if (seismic is not None and approximate is None) or (
            approximate is not None and kind == "rank_feature"
        ):
            raise InputError(
                f"index {self.name!r}: {self.vector_field!r} is {'no' if approximate is None else 'a'} "
                f"{SPARSE_VECTOR} field, which is searched by seismic and not by rank_feature"
            )

        only = _together(filter)

        def body(tokens: dict[str, float], wanted: int) -> dict[str, Any]:
            if approximate is not None:
                query = approximate.query(
                    tokens, self.vector_field, wanted, max_clauses=max_clauses, only=only
                )
            else:
                query = self._query(tokens, kind, max_clauses)
                query = _filtered(best_passage(query, self.vector_field), filter)
            settings = {"size": k, "_source": False, "track_total_hits": False}
            return {**self._search_defaults, **settings, "query": query}

        rows = query_tokens(queries, self.features)
        found = self._asked({place: body(tokens, k) for place, tokens in enumerate(rows)})
        if approximate is not None and only is not None:
            wanted, most = k, len(self)
            while wanted < most and (few := [place for place, hits in found.items() if len(hits) < k]):
                wanted = min(wanted * 10, most)
                found |= self._asked({place: body(rows[place], wanted) for place in few})
        return [found[place] for place in range(len(rows))]

    def _asked(self, bodies: Mapping[int, dict[str, Any]]) -> dict[int, list[Hit]]:
        """{place of a query: its hits}."""
        found: dict[int, list[Hit]] = {}
        places = list(bodies)
        for start in range(0, len(places), _SEARCHES):
            part = places[start : start + _SEARCHES]
            lines: list[dict[str, Any]] = []
            for place in part:
                lines += [{}, bodies[place]]
            with readable_errors(f"index {self.name!r}"):
                answers = self.client.msearch(body=lines, index=self.name)["responses"]
            for place, answer in zip(part, answers, strict=True):
                if "error" in answer:
                    words = cured(reason(answer["error"]))
                    raise InputError(f"index {self.name!r} refused query {place}: {words}")
                require_whole(answer, f"index {self.name!r}, query {place}")
                found[place] = [(hit["_id"], float(hit["_score"])) for hit in answer["hits"]["hits"]]
        return found

    def search_with_bm25(
        self,
        queries: sp.csr_matrix,
        texts: Sequence[str],
        k: int = 10,
        *,
        weights: tuple[float, float] = (0.5, 0.5),
        depth: int = 100,
        filter: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> list[list[Hit]]:
        """The k best documents by both vectors and BM25: OpenSearch's hybrid query (2.10 or later).

        Each side's scores of its first `depth` documents are put between 0 and 1 by their least and greatest, and
        added with `weights`, by a normalization-processor that goes with the request, so that no pipeline has to be
        made. Over several shards that processor would see the first `depth` of each, and BM25 each shard's own
        statistics; there, both sides are asked as searches of their own (dfs_query_then_fetch) and put together here,
        to the same result.

        Args:
            queries: [queries, vocabulary]. texts: of the same queries, for BM25 on the text field.
            weights: of vectors and BM25, which add up to 1.

        Raises:
            InputError: as `search`; weights that do not add up to 1; a version without hybrid queries.
        """
        refuse_one_string(texts)
        if len(texts) != queries.shape[0]:
            raise InputError(
                f"as many texts as query vectors, please: {len(texts):,} for {queries.shape[0]:,}"
            )
        if min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
            raise InputError(f"the weights of vectors and BM25 add up to 1, unlike {weights}")
        if k < 1 or depth < k:
            raise InputError(f"k ({k}) is at least 1 and at most depth ({depth})")
        if self._text_type != "text":
            raise InputError(
                f"index {self.name!r}: field {self.text_field!r} is mapped as {self._text_type}, and BM25 wants text: "
                "name another with text_field"
            )
        with readable_errors(f"index {self.name!r}"):
            server = version_of(self.client)
        if server is not None:
            if server[0] != "opensearch":
                raise InputError(f"{server[0]} {server[1]} has no hybrid queries; OpenSearch has")
            versions.require(server[1], versions.HYBRID)
        processor = {
            "normalization": {"technique": "min_max"},
            "combination": {"technique": "arithmetic_mean", "parameters": {"weights": list(weights)}},
        }
        found: list[list[Hit]] = []
        for tokens, text in zip(query_tokens(queries, self.features), texts, strict=True):
            kind = "rank_feature" if self.names == "escaped" else "neural_sparse"
            if self.names == "ids":
                ours = SeismicSearch().query(tokens, self.vector_field, depth, only=_together(filter))
            else:
                ours = best_passage(self._query(tokens, kind, MAX_CLAUSES), self.vector_field)
            sides = [
                _filtered(side, filter) for side in (ours, {"match": {self.text_field: {"query": text}}})
            ]
            if self.shards > 1:
                found.append(self._put_together(sides, weights, depth)[:k])
                continue
            body = {
                "size": depth,
                "_source": False,
                "query": {"hybrid": {"queries": sides}},
                "search_pipeline": {"phase_results_processors": [{"normalization-processor": processor}]},
            }
            with readable_errors(f"index {self.name!r}"):
                answer = self.client.search(body=body, index=self.name)
            require_whole(answer, f"index {self.name!r}")
            found.append([(hit["_id"], float(hit["_score"])) for hit in answer["hits"]["hits"][:k]])
        return found

    def _put_together(
        self, sides: Sequence[dict[str, Any]], weights: Sequence[float], depth: int
    ) -> list[Hit]:
        """What the normalization-processor makes of two searches on one shard, of searches over all shards."""
        lines: list[dict[str, Any]] = []
        for side in sides:
            lines += [
                {"search_type": "dfs_query_then_fetch"},
                {**self._search_defaults, "size": depth, "_source": False, "query": side},
            ]
        with readable_errors(f"index {self.name!r}"):
            answers = self.client.msearch(body=lines, index=self.name)["responses"]
        together: dict[str, float] = {}
        for answer, weight in zip(answers, weights, strict=True):
            if "error" in answer:
                raise InputError(f"index {self.name!r} refused a query: {cured(reason(answer['error']))}")
            require_whole(answer, f"index {self.name!r}")
            scores = {hit["_id"]: float(hit["_score"]) for hit in answer["hits"]["hits"]}
            low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
            for doc, score in scores.items():
                scaled = (score - low) / (high - low) if high > low else 1.0
                together[doc] = together.get(doc, 0.0) + weight * (scaled or _LEAST)
        return sorted(together.items(), key=lambda hit: (-hit[1], hit[0]))

    def _query(self, tokens: dict[str, float], kind: str, max_clauses: int) -> dict[str, Any]:
        if kind == "neural_sparse":
            return neural_sparse_query(tokens, self.vector_field, max_clauses)
        if kind != "rank_feature":
            raise InputError(f"queries are 'rank_feature' or 'neural_sparse', not {kind!r}")
        if dotted := [token for token in tokens if "." in token]:
            raise InputError(
                f"a rank_feature query cannot name the token {dotted[0]!r} of an index with plain names, for it takes "
                "what stands behind the last dot: use kind='neural_sparse', or an index with names='escaped'"
            )
        return rank_feature_query(tokens, self.vector_field, max_clauses)


def _together(filter: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    """Filters as one query."""
    if not filter:
        return None
    filters = [filter] if isinstance(filter, Mapping) else list(filter)
    return {"bool": {"filter": [dict(one) for one in filters]}}


def _filtered(
    query: dict[str, Any], filter: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
) -> dict[str, Any]:
    """A query among the documents that a filter lets through; k of them are found where k match."""
    if not filter:
        return query
    filters = [filter] if isinstance(filter, Mapping) else list(filter)
    return {"bool": {"must": [query], "filter": filters}}


def index_body(
    tokens: Sequence[str],
    names: Names,
    shards: int = 1,
    replicas: int = 0,
    vector_field: str = "embedding",
    text_field: str = "text",
    seismic: Seismic | None = None,
    fingerprint: Fingerprint | None = None,
) -> dict[str, Any]:
    """What makes the index; "_meta" tells vocabularies and models apart when it is opened."""
    meta: dict[str, Any] = {
        "vocabulary": vocabulary_fingerprint(tokens),
        "names": "ids" if seismic else names,
    }
    if fingerprint is not None:
        meta["fingerprint"] = fingerprint.as_json()
    vector = {"type": "rank_features"} if seismic is None else seismic.mapping()
    fields = {text_field: {"type": "text"}, vector_field: vector}
    sparse = {} if seismic is None else {"sparse": True}
    return {
        "settings": {"index": {"number_of_shards": shards, "number_of_replicas": replicas, **sparse}},
        "mappings": {"_meta": {"neural_sparse": meta}, "properties": fields},
    }


def _digest(
    vectors: sp.csr_matrix, doc_ids: Sequence[str], texts: Sequence[str] | None, more: Sequence[str] | None
) -> str:
    """Hex sha256 of all that is sent."""
    digest = hashlib.sha256()
    csr = sp.csr_matrix(vectors, dtype=np.float32)
    for array, kind in ((csr.indptr, np.int64), (csr.indices, np.int32), (csr.data, np.float32)):
        digest.update(np.ascontiguousarray(array, kind).data)
    for part in (doc_ids, texts or (), more or ()):
        for text in part:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(4, "little") + encoded)
    return digest.hexdigest()
