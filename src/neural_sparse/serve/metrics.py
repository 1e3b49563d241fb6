"""What a monitoring system reads at /metrics, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "neural_sparse_request_seconds",
            "From the request to its answer, waiting included",
            ["path"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.search_seconds = Histogram(
            "neural_sparse_search_seconds",
            "Encoding the query and searching the index",
            ["index"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.approximate = Counter(
            "neural_sparse_approximate_searches",
            "Searches that were approximate",
            ["index"],
            registry=self.registry,
        )
        self.answers = Counter(
            "neural_sparse_answers", "Answers by path and status", ["path", "status"], registry=self.registry
        )
        self.running = Gauge(
            "neural_sparse_running", "Requests that are worked on", ["pool"], registry=self.registry
        )
        self.waiting = Gauge(
            "neural_sparse_waiting", "Requests that wait for a core", ["pool"], registry=self.registry
        )
        self.documents = Gauge(
            "neural_sparse_documents", "Documents of an index", ["index"], registry=self.registry
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
