"""deploy.http: every request of a deployment, to be read, and for the REST clients of editors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from neural_sparse.opensearch.deploy.exported import Exported
from neural_sparse.opensearch.deploy.options import DeployOptions
from neural_sparse.opensearch.deploy.plan import TEXT_FIELD, Plan
from neural_sparse.opensearch.deploy.server import ONLY_ML_NODES, UPLOAD
from neural_sparse.opensearch.packages import CHUNK_BYTES, Package

_ENCODER = "{{encoder_id}}"
_QUERIES = "{{queries_id}}"

_HEAD = """\
# Every request that puts {name} {version} to work, in order: what `neural-sparse deploy` does, which also waits for the
# server, goes on where it stopped, and proves the answers. To be read, or sent from the REST Client of VS Code or its
# like. Address, user and password come from the environment: OPENSEARCH_URL, OPENSEARCH_USER, OPENSEARCH_PASSWORD.

@url = {{{{$processEnv OPENSEARCH_URL}}}}
@user = {{{{$processEnv OPENSEARCH_USER}}}}
@password = {{{{$processEnv OPENSEARCH_PASSWORD}}}}
"""


def requests_file(
    exported: Exported,
    sample_text: str,
    sample_query: str,
    expected_text: Mapping[str, float],
    expected_query: Mapping[str, float],
) -> str:
    """The text of deploy.http; packages lie in encoder/ and query/ beside it.

    Args:
        sample_text, sample_query: are sent to the deployed models.
        expected_text, expected_query: {token: weight} that they have to answer with.
    """
    plan = Plan(exported, DeployOptions(two_phase=True))
    upload = {"persistent": {UPLOAD: True}}
    parts = [
        _HEAD.format(name=exported.name, version=exported.version),
        _request(
            "Models may be uploaded (false unless it was set; not to be had on Amazon's service)",
            "PUT",
            "/_cluster/settings",
            upload,
        ),
        _request(
            "Only for a cluster without ML nodes: models run on the others",
            "PUT",
            "/_cluster/settings",
            {"persistent": {ONLY_ML_NODES: False}},
        ),
        *_model(exported.encoder, "encoder", "documents"),
        _request(
            "The deployed model, to be compared with what the export gives:\n" + _expected(expected_text),
            "POST",
            f"/_plugins/_ml/_predict/sparse_encoding/{_ENCODER}",
            {"text_docs": [sample_text]},
        ),
        *(
            ["@queries_id = {{encoder_id}}\n"]
            if exported.queries == exported.encoder
            else _model(exported.queries, "queries", "queries")
        ),
        _request(
            "The deployed query side, to be compared with what the export gives:\n"
            + _expected(expected_query),
            "POST",
            f"/_plugins/_ml/_predict/{exported.queries.function_name.lower()}/{_QUERIES}",
            {"text_docs": [sample_query]},
        ),
        _request(
            "The right to upload is taken back",
            "PUT",
            "/_cluster/settings",
            {"persistent": {UPLOAD: None}},
        ),
        _request(
            "Ingest pipeline: documents are encoded as they come in; weights below 0.1 of a document's greatest are "
            "dropped\n(2.19 or later; leave prune_type and prune_ratio out to keep all)",
            "PUT",
            f"/_ingest/pipeline/{plan.ingest_pipeline}",
            plan.ingest_body(_ENCODER),
        ),
        _request(
            "Search pipeline: the query model is filled in",
            "PUT",
            f"/_search/pipeline/{plan.search_pipeline}",
            plan.search_body(_QUERIES),
        ),
        _request(
            'Index: the field is mapped explicitly, for "." and "..." are tokens; it stays out of _source, where "." '
            "would break\nevery later _update and _reindex",
            "PUT",
            f"/{plan.index}",
            plan.index_body(),
        ),
        _request(
            "A document, searchable when the answer comes",
            "PUT",
            f"/{plan.index}/_doc/sample?refresh=true",
            {TEXT_FIELD: sample_text},
        ),
        _request(
            "Query by model: the server tokenizes (512 tokens at most) and "
            + ("looks up this export's weights" if exported.queries.looks_up else "encodes"),
            "POST",
            f"/{plan.index}/_search",
            plan.query(sample_query, expected_query),
        ),
    ]
    if exported.analyzer is not None:
        by_analyzer = Plan(exported, DeployOptions(query="analyzer"))
        parts.append(
            _request(
                "Query by analyzer (3.1 or later): this model's query weights are those of "
                f"{exported.analyzer}; _none keeps\nthe search pipeline from filling in the query model",
                "POST",
                f"/{plan.index}/_search?search_pipeline=_none",
                by_analyzer.query(sample_query, expected_query),
            )
        )
    by_tokens = Plan(exported, DeployOptions(query="tokens"))
    parts += [
        _request(
            "Query by query_tokens (2.14 or later): weights looked up, or encoded, by the caller",
            "POST",
            f"/{plan.index}/_search?search_pipeline=_none",
            by_tokens.query(sample_query, expected_query),
        ),
        _request(
            "If wanted, a second search pipeline that scores heavy tokens first (2.15 or later): faster and not exact. "
            "A size above\n2,000 is refused, `sort` with it failed before 3.8, and several shards give wrong rankings",
            "PUT",
            f"/_search/pipeline/{plan.two_phase_pipeline}",
            plan.two_phase_body(_QUERIES),
        ),
        _request(
            "A query through it",
            "POST",
            f"/{plan.index}/_search?search_pipeline={plan.two_phase_pipeline}",
            plan.query(sample_query, expected_query),
        ),
        _request(
            "Searches use the alias; with the next version it moves on in one step "
            '({"remove": {"index": OLD, "alias": ...}} beside "add")',
            "POST",
            "/_aliases",
            {"actions": [{"add": {"index": plan.index, "alias": plan.alias}}]},
        ),
    ]
    return "\n".join(parts)


def _model(package: Package, kind: str, of: str) -> list[str]:
    folder = package.path.parent.name
    file = f"{folder}/{package.path.name}"
    steps = [
        _request(
            f"Register the model for {of}\n"
            'A URL does as well: POST /_plugins/_ml/models/_register with the same body and a "url"',
            "POST",
            "/_plugins/_ml/models/_register_meta",
            package.registration(),
            name=f"register_{kind}",
        ),
        f"@{kind}_id = {{{{register_{kind}.response.body.model_id}}}}\n",
    ]
    if package.total_chunks > 1:
        pieces = [f"./{folder}/chunk-{number:04d}" for number in range(package.total_chunks)]
        made = f"\nMade by: split -b {CHUNK_BYTES} -d -a 4 {file} {folder}/chunk-"
    else:
        pieces, made = [f"./{file}"], ""
    for number, piece in enumerate(pieces):
        last = (
            "the last one: the server takes the model for complete now" if number + 1 == len(pieces) else ""
        )
        any_order = "the others may come in any order, and again" if not last else ""
        steps.append(
            _request(
                f"Upload part {number + 1} of {len(pieces)}; {last or any_order}{made}\n"
                "The bytes as they are; with any other Content-Type than application/json they are refused (406)",
                "POST",
                f"/_plugins/_ml/models/{{{{{kind}_id}}}}/upload_chunk/{number}",
                f"< {piece}",
            )
        )
    steps.append(
        _request(
            "Deploy it; the server compares the sha256 now, and says which part is missing",
            "POST",
            f"/_plugins/_ml/models/{{{{{kind}_id}}}}/_deploy",
            None,
            name=f"deploy_{kind}",
        )
    )
    steps.append(
        _request(
            "Repeat until its state is COMPLETED",
            "GET",
            f"/_plugins/_ml/tasks/{{{{deploy_{kind}.response.body.task_id}}}}",
            None,
        )
    )
    return steps


def _request(
    title: str, method: str, path: str, body: dict[str, Any] | str | None, name: str | None = None
) -> str:
    first, *more = title.split("\n")
    lines = [f"### {first}", *(f"# {line}" for line in more)]
    if name is not None:
        lines.append(f"# @name {name}")
    lines += [f"{method} {{{{url}}}}{path}", "Authorization: Basic {{user}} {{password}}"]
    if isinstance(body, str):
        lines += ["Content-Type: application/json", "", body]
    elif body is not None:
        lines += ["Content-Type: application/json", "", json.dumps(body, indent=2, ensure_ascii=False)]
    return "\n".join(lines) + "\n"


def _expected(weights: Mapping[str, float], most: int = 8) -> str:
    heaviest = sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    shown = ", ".join(f"{json.dumps(token, ensure_ascii=False)}: {weight:.4f}" for token, weight in heaviest)
    return f"{shown}{', ...' if len(weights) > most else ''} ({len(weights)} tokens)"
