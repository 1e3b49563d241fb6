"""deploy.http: every request, for the REST clients of editors."""

from __future__ import annotations

import json
from typing import Any

from neural_sparse.opensearch.deployment import ENCODER_ID, QUERY_ID, TEST_NODE_SETTINGS, Deployment
from neural_sparse.opensearch.packages import CHUNK_BYTES, Package

_HEAD = """\
# Every request that puts {name} {version} to work, in order.
# For the REST Client of VS Code or its like; `deploy.sh` does the same and waits for the server's tasks.
# Address, user and password come from the environment: OPENSEARCH_URL, OPENSEARCH_USER, OPENSEARCH_PASSWORD.

@url = {{{{$processEnv OPENSEARCH_URL}}}}
@user = {{{{$processEnv OPENSEARCH_USER}}}}
@password = {{{{$processEnv OPENSEARCH_PASSWORD}}}}
"""


def http_file(deployment: Deployment) -> str:
    """The text of deploy.http; packages lie in encoder/ and query/ beside it."""
    parts = [_HEAD.format(name=deployment.encoder.name, version=deployment.encoder.version)]
    parts.append(
        _request(
            "Only for a single test node: let it run models",
            "PUT",
            "/_cluster/settings",
            TEST_NODE_SETTINGS,
        )
    )
    parts += _model(deployment.encoder, "encoder", "documents")
    parts.append(
        _request(
            "The deployed model, to be compared with what the export gives:\n"
            + _expected(deployment.expected_text),
            "POST",
            f"/_plugins/_ml/_predict/sparse_encoding/{ENCODER_ID}",
            {"text_docs": [deployment.sample_text]},
        )
    )
    parts += _model(deployment.queries, "query", "queries")
    parts.append(
        _request(
            "The deployed query side, to be compared with what the export gives:\n"
            + _expected(deployment.expected_query),
            "POST",
            f"/_plugins/_ml/_predict/sparse_tokenize/{QUERY_ID}",
            {"text_docs": [deployment.sample_query]},
        )
    )
    parts += [
        _request(request.title, request.method, request.path, request.body)
        for request in deployment.requests()
    ]
    text = "\n".join(parts)
    return text.replace(ENCODER_ID, "{{encoder_id}}").replace(QUERY_ID, "{{query_id}}")


def _model(package: Package, kind: str, of: str) -> list[str]:
    file = f"{kind}/{package.path.name}"
    steps = [
        _request(
            f"Register the model for {of}\n"
            f'(or, from a URL: POST /_plugins/_ml/models/_register with the same body and a "url")',
            "POST",
            "/_plugins/_ml/models/_register_meta",
            package.registration(),
            name=f"register_{kind}",
        ),
        f"@{kind}_id = {{{{register_{kind}.response.body.model_id}}}}\n",
    ]
    if package.total_chunks > 1:
        pieces = [f"./{kind}/chunk-{number:04d}" for number in range(package.total_chunks)]
        note = f"\n(made by: split -b {CHUNK_BYTES} -d -a 4 {file} {kind}/chunk-)"
    else:
        pieces, note = [f"./{file}"], ""
    for number, piece in enumerate(pieces):
        steps.append(
            _request(
                f"Upload part {number + 1} of {len(pieces)}; the order matters{note}",
                "POST",
                f"/_plugins/_ml/models/{{{{{kind}_id}}}}/upload_chunk/{number}",
                f"< {piece}",
            )
        )
    steps.append(
        _request(
            "Deploy it; the server compares the sha256 now",
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
        lines += ["Content-Type: application/octet-stream", "", body]
    elif body is not None:
        lines += ["Content-Type: application/json", "", json.dumps(body, indent=2, ensure_ascii=False)]
    return "\n".join(lines) + "\n"


def _expected(weights: Any, most: int = 8) -> str:
    heaviest = sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    shown = ", ".join(f"{json.dumps(token, ensure_ascii=False)}: {weight:.4f}" for token, weight in heaviest)
    return f"{shown}{', ...' if len(weights) > most else ''} ({len(weights)} tokens)"
