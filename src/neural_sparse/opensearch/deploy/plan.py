"""What a deployment is called on the cluster, and the bodies of its requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.model.pruning import Pruning
from neural_sparse.opensearch import versions
from neural_sparse.opensearch.deploy.exported import Exported
from neural_sparse.opensearch.deploy.options import DeployOptions
from neural_sparse.opensearch.features import best_passage
from neural_sparse.opensearch.guards import served_name
from neural_sparse.opensearch.seismic import SPARSE_VECTOR, Seismic
from neural_sparse.opensearch.shipped import TwoPhase
from neural_sparse.search.hits import vocabulary_fingerprint

TEXT_FIELD = "text"
VECTOR_FIELD = "embedding"
PASSAGES_FIELD = "passages"  # their texts
PASSAGE_VECTORS = "passage_embedding"  # nested, as the ingest processor makes it
_PASSAGE_VECTOR = "sparse_encoding"  # what that processor calls the vector inside
ENCODED_BY = "encoded_by"  # the encoder's sha256, as it was when a document was sent
MADE_FIELDS = (VECTOR_FIELD, PASSAGES_FIELD, PASSAGE_VECTORS)  # by ingest pipelines
_LONGEST_TEXT = 1_000_000  # words of a text that is cut into passages; the server's own limit is 10,000


@dataclass(frozen=True)
class Plan:
    """Names and bodies, from the export and what is asked for."""

    exported: Exported
    options: DeployOptions

    @property
    def name(self) -> str:
        return served_name(self.options.name) if self.options.name else self.exported.name

    @property
    def index(self) -> str:
        return f"{self.name}-{self.exported.version.lower()}"

    @property
    def alias(self) -> str:
        return self.options.alias or self.name

    @property
    def encoded_by(self) -> str:
        """What documents say of who made their vectors."""
        return self.exported.encoder.sha256[:16]

    @property
    def ingest_pipeline(self) -> str | None:
        return f"{self.index}-ingest" if self.options.ingest else None

    @property
    def search_pipeline(self) -> str | None:
        """Fills the query model in."""
        return f"{self.index}-search" if self.options.query == "model" else None

    @property
    def two_phase_pipeline(self) -> str | None:
        return f"{self.index}-two-phase" if self.options.two_phase else None

    @property
    def analyzer(self) -> str | None:
        return self.exported.analyzer if self.options.query == "analyzer" else None

    @property
    def vector_field(self) -> str:
        """The full name of the field of vectors."""
        return VECTOR_FIELD if self.options.passages is None else f"{PASSAGE_VECTORS}.{_PASSAGE_VECTOR}"

    def check(self, version: str) -> None:
        """Raises InputError for what this version, or this export, cannot do."""
        options = self.options
        longest = self.exported.max_length
        if options.passages is not None and longest is not None and options.passages > longest - 2:
            raise InputError(
                f"a passage of {options.passages} words is longer than the {longest} tokens that the model reads: take "
                f"--passages {max(1, int(longest / 1.4))} or fewer, for a word is often more than one token"
            )
        if options.passages is not None:
            versions.require(version, versions.PASSAGES)
        if options.ingest and options.prune is not None:
            versions.require(version, versions.PRUNING)
        if options.two_phase:
            versions.require(version, versions.TWO_PHASE)
        if options.field == "sparse_vector":
            versions.require(version, versions.SPARSE_VECTOR)
        if options.query == "analyzer":
            versions.require(version, versions.ANALYZER)
            if self.exported.analyzer is None:
                raise InputError(
                    "this export's query weights are its own, and no analyzer of OpenSearch has them: take --query "
                    "model, or --query tokens"
                )
        versions.require(version, versions.QUERY_TOKENS)
        if self.alias == self.index:
            raise InputError(
                f"the alias and the index would both be called {self.index}: give another --alias"
            )

    def ingest_body(self, encoder_id: str) -> dict[str, Any]:
        processor: dict[str, Any] = {
            "model_id": encoder_id,
            "field_map": {TEXT_FIELD: VECTOR_FIELD}
            if self.options.passages is None
            else {PASSAGES_FIELD: PASSAGE_VECTORS},
        }
        if self.options.prune is not None:
            processor |= {"prune_type": "max_ratio", "prune_ratio": self.options.prune}
        if self.options.remote is not None:
            processor["batch_size"] = self.options.remote.batch
        processors: list[dict[str, Any]] = [{"sparse_encoding": processor}]
        if self.options.passages is not None:
            how = {
                "token_limit": self.options.passages,
                "overlap_rate": self.options.overlap,
                "max_chunk_limit": -1,
                "tokenizer": "standard",
            }
            cut = {
                "algorithm": {"fixed_token_length": how},
                "field_map": {TEXT_FIELD: PASSAGES_FIELD},
            }
            processors.insert(0, {"text_chunking": cut})
        return {"description": self._description, "processors": processors}

    def search_body(self, query_id: str) -> dict[str, Any]:
        return {"description": self._description, "request_processors": [_enricher(query_id)]}

    def two_phase_body(self, query_id: str | None) -> dict[str, Any]:
        two_phase = {
            "neural_sparse_two_phase_processor": {
                "enabled": True,
                "two_phase_parameter": TwoPhase().parameter(),
            }
        }
        processors = [_enricher(query_id), two_phase] if query_id is not None else [two_phase]
        return {"description": self._description, "request_processors": processors}

    @property
    def _description(self) -> str:
        return f"{self.exported.name} {self.exported.version}"

    def index_settings(self) -> dict[str, Any]:
        """Those that may change later: the pipelines that go with the index."""
        return {
            "index.default_pipeline": self.ingest_pipeline,
            "index.search.default_pipeline": self.search_pipeline,
        }

    def index_body(self) -> dict[str, Any]:
        """The field is mapped explicitly, for "." and "..." are tokens.

        Where the cluster makes the vectors they stay out of _source: a name with "." in it would break every later
        _update and _reindex of its document, and they are made anew then anyway.
        """
        settings = {name: value for name, value in self.index_settings().items() if value is not None}
        vector: dict[str, Any] = {"type": self.options.field}
        if self.options.field == "sparse_vector":
            settings["index.sparse"] = True
            threshold = self.options.approximate_threshold
            vector = {"type": SPARSE_VECTOR, "method": {"name": "seismic"}}
            if threshold is not None:
                vector = Seismic(approximate_threshold=threshold).mapping()
        text = {"type": "text"}
        if self.options.text_analyzer is not None:
            text["analyzer"] = self.options.text_analyzer
        fields: dict[str, Any] = {TEXT_FIELD: text, VECTOR_FIELD: vector}
        if self.options.passages is not None:
            settings["index.analyze.max_token_count"] = _LONGEST_TEXT
            fields = {
                TEXT_FIELD: text,
                PASSAGES_FIELD: {"type": "text", "index": False},
                PASSAGE_VECTORS: {"type": "nested", "properties": {_PASSAGE_VECTOR: vector}},
            }
        fields[ENCODED_BY] = {"type": "keyword", "index": False, "doc_values": False}
        mappings: dict[str, Any] = {
            "_meta": {"neural_sparse": {**self.about(), **self._fingerprint()}},
            "properties": fields,
        }
        if self.options.ingest:
            mappings["_source"] = {
                "excludes": [VECTOR_FIELD if self.options.passages is None else PASSAGE_VECTORS]
            }
        return {"settings": settings, "mappings": mappings}

    def _fingerprint(self) -> dict[str, Any]:
        """By which clients that bring a model or vectors tell whether they are the same (see `VectorIndex`)."""
        if (found := self.exported.fingerprint) is None:
            return {}
        prune = self.options.prune if self.options.ingest else None
        return {"fingerprint": replace(found, pruning=Pruning(prune or 0.0)).as_json()}

    def about(self) -> dict[str, Any]:
        """What the index says of itself: vectors and weights of another export do not go with it."""
        about: dict[str, Any] = {
            "vocabulary": vocabulary_fingerprint(self.exported.tokens),
            "names": "plain" if self.options.field == "rank_features" else "ids",
            "encoder": self.exported.encoder.sha256,
            "queries": self.exported.queries.sha256,
            "ingest": self.options.ingest,
            "prune": self.options.prune if self.options.ingest else None,
        }
        about["passages"] = None
        if self.options.passages is not None:
            about["passages"] = {"words": self.options.passages, "overlap": self.options.overlap}
        if self.options.approximate_threshold is not None:
            about["approximate_threshold"] = self.options.approximate_threshold
        return about

    def query(self, text: str, weights: Mapping[str, float], size: int = 10) -> dict[str, Any]:
        """Body of a search, as the deployment is asked.

        Args:
            weights: {token: weight} of the text, for those that bring them.
        """
        how: dict[str, Any]
        match self.options.query:
            case "model":
                how = {"query_text": text}
            case "analyzer":
                how = {"query_text": text, "analyzer": self.analyzer}
            case _ if self.options.field == "sparse_vector":
                ids = {token: str(number) for number, token in enumerate(self.exported.tokens) if token}
                how = {"query_tokens": {ids[token]: weight for token, weight in weights.items()}}
            case _:
                how = {"query_tokens": dict(weights)}
        if self.options.field == "sparse_vector":
            how["method_parameters"] = {"k": size, "top_n": 10, "heap_factor": 1.0}
        return {
            "_source": {"excludes": [*MADE_FIELDS, ENCODED_BY]},
            "size": size,
            "query": best_passage({"neural_sparse": {self.vector_field: how}}, self.vector_field),
        }


def _enricher(query_id: str) -> dict[str, Any]:
    return {"neural_query_enricher": {"default_model_id": query_id}}
