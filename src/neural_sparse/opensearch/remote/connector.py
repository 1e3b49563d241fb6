"""What ML Commons is told of an endpoint that encodes documents: a connector, and a remote model over it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from neural_sparse.errors import InputError
from neural_sparse.opensearch.packages import Package
from neural_sparse.opensearch.remote.inference import KEY

logger = logging.getLogger(__name__)

_SAGEMAKER = re.compile(r"runtime\.sagemaker\.([a-z0-9-]+)\.amazonaws\.com")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+")


@dataclass(frozen=True)
class Remote:
    """An endpoint that encodes documents.

    Attributes:
        url: to which the cluster sends texts, such as
            https://runtime.sagemaker.eu-west-1.amazonaws.com/endpoints/NAME/invocations.
        role: of SageMaker's endpoints: ARN of a role that the cluster takes on to sign requests.
        key: of other endpoints: what the cluster brings along as a bearer token, if anything.
        batch: texts of one request, at most.

    Raises:
        InputError: an address that is none, or holds a login; a role or key where it does not belong.
    """

    url: str
    role: str | None = None
    key: str | None = field(default=None, repr=False)
    batch: int = 16

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                f"the endpoint {self.url.rsplit('@', 1)[-1]!r} is no address: http(s)://HOST/..."
            )
        if parts.username or parts.password or parts.query:
            raise InputError(
                f"the address of the endpoint holds a login or a query, which would be shown: the key goes into {KEY}"
            )
        if self.region is not None:
            if self.role is None or not _ROLE.fullmatch(self.role):
                raise InputError(
                    f"SageMaker's endpoints want signed requests: give the role that the cluster may take on "
                    f"(--remote-role arn:aws:iam::ACCOUNT:role/NAME), not {self.role}"
                )
            if self.key is not None:
                raise InputError(f"SageMaker's endpoints take no key: unset {KEY}")
        elif self.role is not None:
            raise InputError("a role is for SageMaker's endpoints (https://runtime.sagemaker.REGION...)")
        if self.batch < 1:
            raise InputError(f"a request holds at least one text, not {self.batch}")
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if self.key is not None and parts.scheme == "http" and not local:
            logger.warning("%s: the key travels unencrypted over http", self.url)

    @property
    def region(self) -> str | None:
        """Of a SageMaker endpoint; None for others."""
        found = _SAGEMAKER.fullmatch(urlsplit(self.url).hostname or "")
        return found[1] if found else None

    def connector(self, package: Package) -> dict[str, Any]:
        """Body of POST /_plugins/_ml/connectors/_create.

        The placeholder of the format is filled by neural search (3.3 or later) for sparse_vector fields.
        """
        headers = {"Content-Type": "application/json"}
        parameters = {"sparse_embedding_format": "WORD"}
        credential: dict[str, str] = {}
        if self.region is not None:
            parameters |= {"region": self.region, "service_name": "sagemaker"}
            credential = {"roleArn": self.role or ""}
        elif self.key is not None:
            headers["Authorization"] = "Bearer ${credential.key}"
            credential = {"key": self.key}
        action = {
            "action_type": "predict",
            "method": "POST",
            "url": self.url,
            "headers": headers,
            "request_body": '{"inputs": ${parameters.input}, '
            '"sparse_embedding_format": "${parameters.sparse_embedding_format}"}',
            "pre_process_function": "connector.pre_process.default.embedding",
        }
        body: dict[str, Any] = {
            "name": remote_name(package),
            "description": self.description(package),
            "version": package.version,
            "protocol": "http" if self.region is None else "aws_sigv4",
            "parameters": parameters,
            "actions": [action],
        }
        return {**body, "credential": credential} if credential else body

    def registration(self, package: Package, connector_id: str) -> dict[str, Any]:
        """Body of POST /_plugins/_ml/models/_register."""
        return {
            "name": remote_name(package),
            "function_name": "remote",
            "description": self.description(package),
            "connector_id": connector_id,
        }

    def description(self, package: Package) -> str:
        """Says which model is where: two that differ in either differ in this."""
        login = (
            f", role {self.role}" if self.role is not None else ", with a key" if self.key is not None else ""
        )
        return f"{described(package)}{self.url}{login}"


def described(package: Package) -> str:
    """What the description of every remote model of this package begins with."""
    return f"{package.name} {package.version}, sha256 {package.sha256[:16]}, at "


def remote_name(package: Package) -> str:
    """What the connector and the model are called."""
    return f"{package.name}-remote"
