"""What is asked for of a deployment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from neural_sparse.errors import InputError
from neural_sparse.opensearch.remote.connector import Remote
from neural_sparse.opensearch.shipped import PRUNE

QueryBy = Literal["model", "analyzer", "tokens"]
FieldType = Literal["rank_features", "sparse_vector"]


@dataclass(frozen=True)
class DeployOptions:
    """How an export is deployed.

    Attributes:
        name: of the index (NAME-VERSION), its pipelines and, without `alias`, the alias; the export's if None.
        alias: name that searches use; it goes to the new index at the end.
        ingest: the cluster encodes documents; without it, they bring their vectors, and no model is uploaded for them.
        remote: the endpoint that encodes documents for the cluster's ingest pipeline, where models cannot be uploaded.
        query: "model", the cluster looks weights up in the export's table; "analyzer", in the one that OpenSearch
            ships, where the export's is the same (3.1 or later); "tokens", the caller brings them.
        prune: weights below this share of a document's greatest are dropped by the ingest pipeline; None keeps all.
        passages: words of a passage into which the ingest pipeline cuts a text, each with a vector of its own; the best
            passage is the document's score. None: one vector, of what the model reads of the text.
        overlap: share of a passage that the next one repeats, at most a half.
        two_phase: also make a search pipeline that scores heavy tokens first, to be asked for by its name.
        field: "rank_features" is exact; "sparse_vector" approximate, with SEISMIC (3.3 or later).
        approximate_threshold: documents of a segment from which on a sparse_vector field is searched by clusters; the
            server's own is 1,000,000, and below it searches are exact.
        allow_settings: change the cluster's settings where models could not run otherwise.
        reindex: fill the new index with the documents of the one that the alias names now.
        text_analyzer: of the text field, for BM25 beside the model, such as "english"; None: the server's "standard".
        switch: let the alias go to the new index; None: unless it has fewer documents than the index it names now.
    """

    name: str | None = None
    alias: str | None = None
    ingest: bool = True
    remote: Remote | None = None
    query: QueryBy = "model"
    prune: float | None = PRUNE
    passages: int | None = None
    overlap: float = 0.2
    two_phase: bool = False
    field: FieldType = "rank_features"
    approximate_threshold: int | None = None
    allow_settings: bool = False
    reindex: bool = False
    text_analyzer: str | None = None
    switch: bool | None = None

    def __post_init__(self) -> None:
        if self.query not in get_args(QueryBy):
            raise InputError(f"query is by {', '.join(get_args(QueryBy))}, not {self.query!r}")
        if self.field not in get_args(FieldType):
            raise InputError(f"the field is {' or '.join(get_args(FieldType))}, not {self.field!r}")
        if self.prune is not None and not 0 < self.prune < 1:
            raise InputError(f"prune is a share between 0 and 1, or none, not {self.prune:g}")
        if self.approximate_threshold is not None and self.field != "sparse_vector":
            raise InputError("approximate_threshold is for sparse_vector fields")
        if self.passages is not None:
            if self.passages < 1 or not 0 <= self.overlap <= 0.5:
                raise InputError("a passage has at least one word, and the next repeats at most half of it")
            if not self.ingest:
                raise InputError(
                    "passages are cut by the ingest pipeline: leave --no-ingest or --passages out"
                )
            if self.two_phase or self.field == "sparse_vector":
                raise InputError(
                    "passages are for rank_features fields and exact search: leave --two-phase and --field out"
                )
        if self.two_phase and self.field == "sparse_vector":
            raise InputError("two-phase search is not for sparse_vector fields: leave one of the two out")
        if self.remote is not None and not self.ingest:
            raise InputError(
                "the endpoint encodes documents for the ingest pipeline: leave --no-ingest or --remote out"
            )
        if self.reindex and not self.ingest:
            raise InputError("reindex encodes documents on the cluster, which takes the ingest pipeline")
