"""The cluster that is deployed to: asked with patience, and looked at before anything is changed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from neural_sparse.errors import InputError
from neural_sparse.opensearch.connection import readable_errors

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

logger = logging.getLogger(__name__)

T = TypeVar("T")
_BUSY = {429, 502, 503, 504}
# What ML Commons answers with a 500 while the node comes back and its own indexes are not there yet.
_COMING_BACK = (
    "No shard available",
    "RECOVERING",
    "Fail to search model version",
    "all shards failed",
    "Fetching master key timed out",
)
_PREFIX = "plugins.ml_commons."
UPLOAD = _PREFIX + "allow_registering_model_via_local_file"
ONLY_ML_NODES = _PREFIX + "only_run_on_ml_node"
_PLUGINS = ("opensearch-ml", "opensearch-neural-search")


@dataclass(frozen=True)
class Patience:
    """How long is waited.

    Attributes:
        busy: seconds that a server may be busy or away in the middle of things.
        task: seconds that one model may take to be deployed, or one index to be filled from another.
        first_wait: seconds before a request is sent again, doubled each time. longest_wait: seconds.
        look: seconds between two looks at a task.
        wait, clock: how to wait, and what time it is, in seconds.
    """

    busy: float = 120.0
    task: float = 600.0
    first_wait: float = 0.5
    longest_wait: float = 15.0
    look: float = 0.3
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if self.busy < 0 or self.task <= 0:
            raise InputError("time limits are seconds above 0")


@dataclass
class Server:
    """A cluster.

    Args:
        where: its address, for messages.
    """

    client: OpenSearch
    where: str
    patience: Patience = field(default_factory=Patience)
    outages: int = 0  # how often it was found away

    def ask(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """`call`'s answer, sent again while the server is busy (429, 502, 503, 504) or away.

        The call has to be one that may be made twice.

        Raises:
            InputError: the server refuses, or did not recover in time.
        """
        from opensearchpy import exceptions

        wait, end = self.patience.first_wait, self.patience.clock() + self.patience.busy
        while True:
            try:
                return call(*args, **kwargs)
            except exceptions.SSLError:
                with readable_errors(self.where):
                    raise
            except exceptions.TransportError as error:
                away = isinstance(error, exceptions.ConnectionError)
                if not (away or _busy(error)) or self.patience.clock() + wait > end:
                    with readable_errors(self.where):
                        raise
                self.outages += away
                said = "away" if away else f"busy ({error.status_code})"
                logger.info("%s is %s; again in %.1f s", self.where, said, wait)
            except exceptions.OpenSearchException:
                with readable_errors(self.where):
                    raise
            self.patience.wait(wait)
            wait = min(2 * wait, self.patience.longest_wait)

    def version(self) -> str:
        """Raises InputError for a server that is not OpenSearch."""
        about = self.ask(self.client.info)["version"]
        if about.get("distribution") != "opensearch":
            raise InputError(
                f"{self.where} is Elasticsearch {about['number']}, which has no ML Commons: use "
                "`neural-sparse export --format rank_features` there"
            )
        return str(about["number"])

    def named(self, name: str) -> dict[str, Any]:
        """{index: what it is} of what has this name, an index or an alias; {} if nothing has.

        By GET: the answer to HEAD would not say which permission is missing.
        """
        from opensearchpy import exceptions

        def asked() -> dict[str, Any]:
            try:
                found: dict[str, Any] = self.client.indices.get(index=name)
                return found
            except exceptions.NotFoundError:
                return {}

        return self.ask(asked)

    def check_plugins(self) -> None:
        """Raises InputError where ML Commons or neural search is missing."""
        if (rows := self._allowed(self.client.cat.plugins, format="json")) is None:
            return
        have = {row["component"] for row in rows}
        if missing := [name for name in _PLUGINS if name not in have]:
            raise InputError(
                f"{self.where} lacks the plugin {' and '.join(missing)}: use the full distribution of OpenSearch, or "
                "install it on every node (bin/opensearch-plugin install)"
            )

    def closed_settings(self) -> dict[str, bool]:
        """{setting: value} of what would have to be set before an uploaded model can run; {} if unknown."""
        wanted: dict[str, bool] = {}
        settings = self._settings()
        if settings.get(UPLOAD) == "false":
            wanted[UPLOAD] = True
        if settings.get(ONLY_ML_NODES) == "true":
            nodes = self._allowed(self.client.nodes.info, metric="http")
            roles = [node["roles"] for node in nodes["nodes"].values()] if nodes is not None else [["ml"]]
            if not any("ml" in of_one for of_one in roles):
                wanted[ONLY_ML_NODES] = False
        return wanted

    def _settings(self) -> dict[str, Any]:
        found = (
            self._allowed(self.client.cluster.get_settings, include_defaults=True, flat_settings=True) or {}
        )
        return {
            name: value
            for level in ("defaults", "persistent", "transient")
            for name, value in found.get(level, {}).items()
            if name.startswith(_PREFIX)
        }

    @contextmanager
    def opened(self, wanted: Mapping[str, bool], allowed: bool) -> Iterator[None]:
        """Set what is wanted; at the end the right to upload models is as it was.

        Raises:
            InputError: something is wanted and not `allowed`; the user may not set it.
        """
        if not wanted:
            yield
            return
        listed = ", ".join(f"{name}: {str(value).lower()}" for name, value in wanted.items())
        if not allowed:
            raise InputError(
                f"{self.where} does not let models run as it is set now. An administrator has to set ({listed}) by PUT "
                "/_cluster/settings, or let --allow-settings do it, which takes the right to upload back at the end"
            )
        before = self.ask(self.client.cluster.get_settings, flat_settings=True).get("persistent", {})
        logger.info("settings: %s", listed)
        self.ask(self.client.cluster.put_settings, body={"persistent": dict(wanted)})
        try:
            yield
        finally:
            if UPLOAD in wanted:
                self.ask(self.client.cluster.put_settings, body={"persistent": {UPLOAD: before.get(UPLOAD)}})

    def _allowed(self, call: Callable[..., Any], **kwargs: Any) -> Any:
        """The call's answer, or None where the user may not ask: what is refused later says so itself."""
        from opensearchpy import exceptions

        def asked() -> Any:
            try:
                return call(**kwargs)
            except exceptions.AuthorizationException:
                return None

        return self.ask(asked)


def _busy(error: Any) -> bool:
    if error.status_code == 500:
        return any(sign in f"{error.error} {error.info}" for sign in _COMING_BACK)
    return error.status_code in _BUSY
