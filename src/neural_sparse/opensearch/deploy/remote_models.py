"""Remote models of ML Commons: a connector to an endpoint, a model over it, found again, renewed and removed."""

from __future__ import annotations

import logging
from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.opensearch.deploy.models import RUNS, Models, Running
from neural_sparse.opensearch.deploy.server import Server
from neural_sparse.opensearch.packages import Package
from neural_sparse.opensearch.remote.connector import Remote, described, remote_name

logger = logging.getLogger(__name__)

_API = "/_plugins/_ml"
# What a model says whose connector was made before a setting or a key changed: it keeps what it was deployed with.
_OUTDATED = ("private ip address", "refused the cluster's request")


class RemoteModels:
    """The remote models of a cluster."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.models = Models(server)

    def find(self, package: Package, remote: Remote | None = None) -> dict[str, str]:
        """{model id: connector id} of the models of this export; at this endpoint only, if one is given."""
        body = {"size": 100, "query": {"term": {"name.keyword": remote_name(package)}}}
        found = {}
        for hit in self.models.search(body):
            source = hit["_source"]
            said = str(source.get("description"))
            same = (
                said.startswith(described(package)) if remote is None else said == remote.description(package)
            )
            if "connector_id" in source and same and self.models.state(hit["_id"]) is not None:
                found[hit["_id"]] = str(source["connector_id"])
        return found

    def ensure(self, package: Package, remote: Remote) -> Running:
        """Have a model answer that sends texts to the endpoint.

        Raises:
            InputError: names the endpoint: the server refuses the address, or does not reach it; the endpoint refuses,
                or answers something else than vectors.
        """
        try:
            return self._ensure(package, remote)
        except InputError as error:
            raise InputError(f"endpoint {remote.url}: {error}") from error

    def _ensure(self, package: Package, remote: Remote) -> Running:
        for model_id, connector_id in self.find(package, remote).items():
            if self.models.state(model_id) not in RUNS:
                self.models.deploy(model_id)
            try:
                self.models.weights("sparse_encoding", model_id, "cat")
            except InputError as error:
                if not any(sign in str(error) for sign in _OUTDATED):
                    raise
                logger.info("%s: %s; its connector is made anew", remote_name(package), error)
                fresh = self._make(package, remote)
                self._delete(model_id, connector_id)
                return Running(fresh, "made anew")
            return Running(model_id, "there already")
        return Running(self._make(package, remote), "registered")

    def delete(self, package: Package, but: str = "") -> list[str]:
        """Delete those of this export that `but`, a text, does not name; their ids."""
        deleted = []
        for model_id, connector_id in self.find(package).items():
            if model_id not in but:
                self._delete(model_id, connector_id)
                deleted.append(model_id)
        return deleted

    def _make(self, package: Package, remote: Remote) -> str:
        """A connector and a model that answers; neither is left if it does not."""
        connector_id = str(
            self._ask("POST", "/connectors/_create", remote.connector(package))["connector_id"]
        )
        model_id = None
        try:
            registration = remote.registration(package, connector_id)
            model_id = str(self._ask("POST", "/models/_register", registration)["model_id"])
            self.models.deploy(model_id)
            self.models.weights("sparse_encoding", model_id, "cat")
        except BaseException:
            self._delete(model_id, connector_id)
            raise
        return model_id

    def _delete(self, model_id: str | None, connector_id: str) -> None:
        from opensearchpy import exceptions

        if model_id is not None:
            self.models.delete(model_id)

        def deleted() -> None:
            try:
                self.server.client.transport.perform_request("DELETE", f"{_API}/connectors/{connector_id}")
            except (exceptions.NotFoundError, exceptions.ConflictError):  # gone, or another model's as well
                return

        self.server.ask(deleted)

    def _ask(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.server.ask(
            self.server.client.transport.perform_request, method, f"{_API}{path}", body=body
        )
        return answer
