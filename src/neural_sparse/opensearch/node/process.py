"""Starting and ending a node."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.io.files import write_text
from neural_sparse.opensearch.node.archives import VERSIONS
from neural_sparse.opensearch.node.assembly import Installation, install

# What a cluster without ML nodes needs to run an uploaded model, and a small machine to run it in spite of its load.
MODEL_SETTINGS: dict[str, Any] = {
    "plugins.ml_commons.only_run_on_ml_node": False,
    "plugins.ml_commons.allow_registering_model_via_local_file": True,
    "plugins.ml_commons.native_memory_threshold": 100,
    "plugins.ml_commons.jvm_heap_memory_threshold": 100,
    # The breaker of all memory would count what the collector has not come to yet, and refuse for minutes.
    "indices.breaker.total.use_real_memory": False,
}
_USER = "nobody"  # runs the node where we are root, whom OpenSearch refuses


class Node:
    """A single OpenSearch node on loopback, ready when `start` returns, ended and gone after `stop`.

        with Node("2.19.1", security=True) as node:
            client = connect(node.url, user=node.user, ca_certs=node.ca_certs)

    Args:
        version: one of `VERSIONS`.
        security: TLS and a login (`user`, `password`, `ca_certs`); 2.19.1 only.
        settings: of opensearch.yml, beside `MODEL_SETTINGS`; {} after models=False is a cluster as it comes.
        models: with `MODEL_SETTINGS`.
        data: folder of data, logs and configuration, which stays; one of its own, deleted at the end, if None.
        port: of the HTTP interface; a free one if None.
        heap: of Java, as -Xmx takes it. An uploaded model arrives in chunks of 10 MB (17 MB of request), for which
            1g has been too little after some uploads.
        java: more options of Java.
        cache: folder of archives and unpacked nodes.
        patience: seconds to become ready.

    Raises:
        InputError: see `assembly.install`; a node that ends or is not ready in time, with the end of its log.
    """

    def __init__(
        self,
        version: str = VERSIONS[-1],
        *,
        security: bool = False,
        settings: Mapping[str, Any] | None = None,
        models: bool = True,
        data: str | Path | None = None,
        port: int | None = None,
        heap: str = "1536m",
        java: Sequence[str] = (),
        cache: str | Path | None = None,
        patience: float = 240.0,
    ) -> None:
        self.version = version
        self.security = security
        self.settings = {**(MODEL_SETTINGS if models else {}), **(settings or {})}
        self.installation: Installation = install(
            version, security, Path(cache) if cache is not None else None
        )
        self.keeps = data is not None
        self.folder = Path(data).resolve() if data is not None else None
        self.port = port or free_ports(1)[0]
        self.heap = heap
        self.java = tuple(java)
        self.patience = patience
        self.user = "admin" if security else None
        self.password = self.installation.password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.security else 'http'}://localhost:{self.port}"

    @property
    def urls(self) -> list[str]:
        return [self.url]

    @property
    def ca_certs(self) -> str | None:
        """File of the certificate authority."""
        return str(self.installation.home / "config" / "root-ca.pem") if self.security else None

    @property
    def pid(self) -> int | None:
        """Of the group of processes that the node is."""
        return self._process.pid if self._process is not None else None

    def __enter__(self) -> Node:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Node:
        """Start and wait until it is green or yellow; again after `kill`, with the same data."""
        if self._process is not None:
            raise InputError("the node runs already")
        try:
            folder = self._prepare()
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("OPENSEARCH_")},
                "OPENSEARCH_JAVA_HOME": str(self.installation.java),
                "OPENSEARCH_PATH_CONF": str(folder / "config"),
                "OPENSEARCH_TMPDIR": str(folder / "tmp"),
                "OPENSEARCH_JAVA_OPTS": " ".join((f"-Xms{self.heap} -Xmx{self.heap}", *self.java)),
                "PYTORCH_LIBRARY_PATH": str(self.installation.libtorch),
                "HOME": str(folder),
            }
            environment.pop("JAVA_TOOL_OPTIONS", None)
            with (folder / "logs" / "output").open("ab") as output:
                self._process = subprocess.Popen(
                    _guarded([str(self.installation.home / "bin" / "opensearch")]),
                    **_user(),
                    env=environment,
                    cwd=folder,
                    stdin=subprocess.PIPE,  # closed when this process ends, and with it the node
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the node; its folder goes too, unless it was given."""
        self.kill(signal.SIGTERM if self.keeps else signal.SIGKILL)
        if not self.keeps and self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def kill(self, by: signal.Signals = signal.SIGKILL) -> None:
        """End the process and keep its folder, so that `start` goes on with the same data."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        for sent, patience in ((by, 20), (signal.SIGKILL, 20)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sent)
            try:
                process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
        process.stdin.close()
        for _ in range(50):  # its data are locked until the last of the group has gone
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 0)
                time.sleep(0.1)
                continue
            break

    def log(self, most: int = 2000) -> str:
        """The end of what the node said, in characters."""
        if self.folder is None:
            return ""
        try:
            return (self.folder / "logs" / "output").read_text(errors="replace")[-most:]
        except OSError:
            return ""

    def get(self, path: str, timeout: float = 10.0) -> Any:
        """JSON of a GET as admin. Raises OSError."""
        context = ssl.create_default_context(cafile=self.ca_certs) if self.security else None
        request = urllib.request.Request(f"{self.url}{path}")
        if self.user is not None:
            login = b64encode(f"{self.user}:{self.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:
            return json.load(answer)

    def _prepare(self) -> Path:
        """The node's own folder with its configuration."""
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="opensearch-node-"))
        folder = self.folder
        for name in ("data", "logs", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        config = folder / "config"
        if not config.exists():
            shutil.copytree(self.installation.home / "config", config)
        options = (self.installation.home / "config" / "jvm.options").read_text().splitlines()
        # Logs of the garbage collector would go where the installation lies.
        kept = [line for line in options if "logs/" not in line and "HeapDump" not in line]
        write_text(config / "jvm.options", "\n".join(kept) + "\n")
        base = self.installation.home / "config" / "opensearch.yml"
        write_text(config / "opensearch.yml", _configured(base.read_text(), self._settings(folder)))
        _give(folder)
        return folder

    def _settings(self, folder: Path) -> dict[str, Any]:
        return {
            "cluster.name": "neural-sparse",
            "node.name": "node",
            "network.host": "127.0.0.1",
            "http.port": self.port,
            "transport.port": free_ports(1)[0],
            "discovery.type": "single-node",
            "path.data": str(folder / "data"),
            "path.logs": str(folder / "logs"),
            "cluster.routing.allocation.disk.threshold_enabled": False,
            **self.settings,
        }

    def _wait(self) -> None:
        assert self._process is not None
        end = time.monotonic() + self.patience
        last: object = "no answer"
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise InputError(
                    f"OpenSearch {self.version} ended with {self._process.returncode}:\n{self.log()}"
                )
            try:
                health = self.get("/_cluster/health?wait_for_status=yellow&timeout=5s")
                if health["status"] in ("green", "yellow"):
                    return
                last = health["status"]
            except urllib.error.HTTPError as error:  # security is not initialised yet
                last = f"HTTP {error.code}"
            except (OSError, ValueError) as error:
                last = error
            time.sleep(0.25)
        raise InputError(
            f"OpenSearch {self.version} was not ready within {self.patience:g} s ({last}):\n{self.log()}"
        )


def _configured(base: str, settings: Mapping[str, Any]) -> str:
    """opensearch.yml: what the security plugin's tool wrote there, then the settings."""
    lines = [line for line in base.splitlines() if line.split(":")[0].strip() not in settings]
    lines += [f"{name}: {json.dumps(value)}" for name, value in settings.items()]
    return "\n".join(lines) + "\n"


# Runs a command, and ends it when standard input is closed: however the process ended that held its other end.
_GUARD = """\
exec 3<&0
"$@" </dev/null 3<&- & node=$!
{ read -r _ <&3; kill -KILL $node; } 2>/dev/null &
exec 3<&-
trap : TERM
wait $node; ended=$?
while kill -0 $node 2>/dev/null; do wait $node; ended=$?; done
exit $ended
"""


def _guarded(command: list[str]) -> list[str]:
    """The command, ended with this process."""
    return ["bash", "-c", _GUARD, "guard", *command]


def _user() -> dict[str, Any]:
    """Whom Popen runs the node as: not root."""
    if os.geteuid() != 0:
        return {}
    found = pwd.getpwnam(_USER)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def _give(folder: Path) -> None:
    """Let the user who runs the node have its folder."""
    if os.geteuid() != 0:
        return
    found = pwd.getpwnam(_USER)
    for parent in folder.parents:
        if not parent.stat().st_mode & 0o001:
            raise InputError(f"{folder}: the node does not run as root, and only root may look into {parent}")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, found.pw_uid, found.pw_gid, follow_symlinks=False)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, no two the same."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
