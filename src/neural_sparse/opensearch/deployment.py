"""Every request that puts an export to work, in order, as data; `http_file` and `shell_script` write them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neural_sparse.opensearch.packages import Package

# Stand for what only the server knows.
ENCODER_ID = "@ENCODER_ID@"
QUERY_ID = "@QUERY_ID@"

# A single node that is not set up for models needs these; a cluster with ML nodes does not.
TEST_NODE_SETTINGS: dict[str, Any] = {
    "persistent": {
        "plugins.ml_commons.only_run_on_ml_node": False,
        "plugins.ml_commons.allow_registering_model_via_url": True,
        "plugins.ml_commons.allow_registering_model_via_local_file": True,
        "plugins.ml_commons.model_access_control_enabled": False,
        "plugins.ml_commons.native_memory_threshold": 100,
        "plugins.ml_commons.jvm_heap_memory_threshold": 100,
    }
}


@dataclass(frozen=True)
class Request:
    """One request once both models are deployed.

    Attributes:
        title: why it is made.
    """

    title: str
    method: str
    path: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Deployment:
    """What the requests are about.

    Attributes:
        encoder, queries: the two packages.
        index: name of the index; pipelines are called INDEX-ingest and INDEX-search.
        sample_text, sample_query: sent to the deployed models.
        expected_text, expected_query: {token: weight} they have to answer with.
        analyzer: the server's own query side with these weights, if there is one.
    """

    encoder: Package
    queries: Package
    index: str
    sample_text: str
    sample_query: str
    expected_text: Mapping[str, float]
    expected_query: Mapping[str, float]
    analyzer: str | None = None
    text_field: str = "text"
    vector_field: str = "embedding"
    prune_ratio: float = 0.1

    def requests(self) -> list[Request]:
        """From the ingest pipeline to the queries."""
        ingest, search = f"{self.index}-ingest", f"{self.index}-search"
        steps = [
            Request(
                "Ingest pipeline: documents are encoded as they come in; weights below "
                f"{self.prune_ratio:g} of a document's greatest are dropped (prune_type needs 2.19 or later)",
                "PUT",
                f"/_ingest/pipeline/{ingest}",
                {
                    "description": f"{self.encoder.name} {self.encoder.version}",
                    "processors": [
                        {
                            "sparse_encoding": {
                                "model_id": ENCODER_ID,
                                "field_map": {self.text_field: self.vector_field},
                                "prune_type": "max_ratio",
                                "prune_ratio": self.prune_ratio,
                            }
                        }
                    ],
                },
            ),
            Request(
                "Search pipeline: the query model is filled in; heavy tokens are scored first (2.15 or later)",
                "PUT",
                f"/_search/pipeline/{search}",
                {
                    "request_processors": [
                        {"neural_query_enricher": {"default_model_id": QUERY_ID}},
                        {
                            "neural_sparse_two_phase_processor": {
                                "enabled": True,
                                "two_phase_parameter": {
                                    "prune_ratio": 0.4,
                                    "expansion_rate": 5.0,
                                    "max_window_size": 10000,
                                },
                            }
                        },
                    ]
                },
            ),
            Request(
                'Index: the field is mapped explicitly, for "." and "..." are tokens',
                "PUT",
                f"/{self.index}",
                {
                    "settings": {"index.default_pipeline": ingest, "index.search.default_pipeline": search},
                    "mappings": {
                        "properties": {
                            self.text_field: {"type": "text"},
                            self.vector_field: {"type": "rank_features"},
                        }
                    },
                },
            ),
            Request(
                "A document, searchable when the answer comes",
                "PUT",
                f"/{self.index}/_doc/sample?refresh=true",
                {self.text_field: self.sample_text},
            ),
            Request(
                "Query by model: the server tokenizes and looks up this export's weights",
                "POST",
                f"/{self.index}/_search",
                self._query({"query_text": self.sample_query, "model_id": QUERY_ID}),
            ),
        ]
        if self.analyzer is not None:
            steps.append(
                Request(
                    f"Query by analyzer (3.1 or later): this model's query weights are those of {self.analyzer}; "
                    "_none keeps the search pipeline from filling in the query model",
                    "POST",
                    f"/{self.index}/_search?search_pipeline=_none",
                    self._query({"query_text": self.sample_query, "analyzer": self.analyzer}),
                )
            )
        steps.append(
            Request(
                "Query by query_tokens (2.14 or later): weights looked up by the caller",
                "POST",
                f"/{self.index}/_search",
                self._query({"query_tokens": dict(self.expected_query)}),
            )
        )
        return steps

    def _query(self, how: dict[str, Any]) -> dict[str, Any]:
        return {
            "_source": {"excludes": [self.vector_field]},
            "size": 10,
            "query": {"neural_sparse": {self.vector_field: how}},
        }
