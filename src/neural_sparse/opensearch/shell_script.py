"""deploy.sh: the requests of a deployment as a script that waits for the server and checks its answers."""

from __future__ import annotations

import json
import re
import shlex
from importlib.resources import files
from typing import Any

from neural_sparse.opensearch.deployment import ENCODER_ID, QUERY_ID, TEST_NODE_SETTINGS, Deployment
from neural_sparse.opensearch.packages import CHUNK_BYTES, Package


def shell_script(deployment: Deployment) -> str:
    """The text of deploy.sh; packages lie in encoder/ and query/ beside it. It holds no secret."""
    values = {
        "NAME": deployment.encoder.name,
        "VERSION": deployment.encoder.version,
        "CHUNK_BYTES": str(CHUNK_BYTES),
        "TEST_NODE_SETTINGS": _quoted(TEST_NODE_SETTINGS),
        "SAMPLE_TEXT": _quoted({"text_docs": [deployment.sample_text]}),
        "EXPECTED_TEXT": _quoted(dict(deployment.expected_text)),
        "SAMPLE_QUERY": _quoted({"text_docs": [deployment.sample_query]}),
        "EXPECTED_QUERY": _quoted(dict(deployment.expected_query)),
        "INDEX": deployment.index,
        "REQUESTS": "\n".join(
            f"\n# {request.title}\njson {request.method} {shlex.quote(request.path)} {_quoted(request.body)}; echo"
            for request in deployment.requests()
        ),
        **_of_package("ENCODER", "encoder", deployment.encoder),
        **_of_package("QUERY", "query", deployment.queries),
    }
    template = (files(__package__) / "deploy.sh.template").read_text(encoding="utf-8")
    # One pass, so that nothing inside a value is taken for a place to fill.
    return re.sub(r"@([A-Z0-9_]+)@", lambda place: values[place[1]], template)


def _of_package(prefix: str, folder: str, package: Package) -> dict[str, str]:
    return {
        f"{prefix}_ZIP": shlex.quote(f"{folder}/{package.path.name}"),
        f"{prefix}_SHA256": package.sha256,
        f"{prefix}_REGISTRATION": _quoted(package.registration()),
    }


def _quoted(body: dict[str, Any]) -> str:
    """JSON as one word of the shell, in which only the two model ids are expanded."""
    word = shlex.quote(json.dumps(body, ensure_ascii=False))
    for place, variable in ((ENCODER_ID, "ENCODER_ID"), (QUERY_ID, "QUERY_ID")):
        word = word.replace(place, f"'\"${variable}\"'")
    return word
