"""Several nodes on one machine that form a cluster: to see what happens when one of them goes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from neural_sparse.errors import InputError
from neural_sparse.opensearch.node.archives import VERSIONS
from neural_sparse.opensearch.node.process import Node, free_ports

Status = Literal["green", "yellow"]
QUICK = ("-XX:TieredStopAtLevel=1",)  # only the first of Java's two compilers


class Cluster:
    """Real OpenSearch nodes on loopback that found one cluster, complete when `start` returns, gone after `stop`.

        with Cluster(3) as cluster:
            client = connect(cluster.urls)
            cluster.nodes[1].kill()
            cluster.nodes[1].start()
            cluster.wait("green")

    All of them hold data and may lead, so that of three one may go at a time.

    Args:
        nodes: how many.
        version, settings, models, cache, patience: as of `Node`.
        data: folder that keeps the nodes' folders; deleted at the end if None.
        port: of the first node's HTTP interface, the others' the next ones; free ones if None.
        heap: of each Java. 512m is enough where no model is uploaded.
        java: more options of Java. `QUICK` halves the work of a start; () for figures of speed.

    Raises:
        InputError: fewer than two nodes; see `Node`.
    """

    def __init__(
        self,
        nodes: int = 3,
        version: str = VERSIONS[-1],
        *,
        settings: Mapping[str, Any] | None = None,
        models: bool = True,
        data: str | Path | None = None,
        port: int | None = None,
        heap: str = "512m",
        java: Sequence[str] = QUICK,
        cache: str | Path | None = None,
        patience: float = 300.0,
    ) -> None:
        if nodes < 2:
            raise InputError(f"a cluster is of two nodes or more, not {nodes}: Node starts a single one")
        free = free_ports(2 * nodes)
        ports: Sequence[int] = free[nodes:] if port is None else range(port, port + nodes)
        names = [f"node-{number + 1}" for number in range(nodes)]
        together = {
            "discovery.type": "zen",  # OpenSearch's word for nodes that look for each other
            "discovery.seed_hosts": [f"127.0.0.1:{transport}" for transport in free[:nodes]],
            "cluster.initial_cluster_manager_nodes": names,
            **(settings or {}),
        }
        self.patience = patience
        self.nodes = [
            Node(
                version,
                settings={**together, "node.name": name, "transport.port": transport},
                models=models,
                data=Path(data) / name if data is not None else None,
                port=ports[place],
                heap=heap,
                java=java,
                cache=cache,
                patience=patience,
            )
            for place, (name, transport) in enumerate(zip(names, free[:nodes], strict=True))
        ]

    @property
    def urls(self) -> list[str]:
        """Of every node, as `connect` takes them."""
        return [node.url for node in self.nodes]

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Cluster:
        """Start the nodes that do not run, and wait until all have found each other."""
        waiting = [node for node in self.nodes if node.pid is None]
        try:
            with ThreadPoolExecutor(len(self.nodes)) as pool:
                list(pool.map(Node.start, waiting))
            self.wait("yellow")
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all nodes; their folders go too, unless one was given."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(Node.stop, self.nodes))

    def kill(self) -> None:
        """End all processes at once and keep their folders, so that `start` goes on with the same data."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(Node.kill, self.nodes))

    def wait(self, status: Status) -> None:
        """Until the nodes that run are one cluster, with every primary ("yellow") or every copy ("green") in its place.

        Raises:
            InputError: this is not so after `patience` seconds.
        """
        running = [node for node in self.nodes if node.pid is not None]
        if not running:
            raise InputError("no node of the cluster runs")
        end = time.monotonic() + self.patience
        asked = f"/_cluster/health?wait_for_status={status}&wait_for_nodes={len(running)}&timeout=5s"
        last: Any = "no answer"
        while time.monotonic() < end:
            try:
                last = running[0].get(asked)
                if not last["timed_out"]:
                    return
            except (OSError, ValueError) as error:
                last = error
                time.sleep(0.25)
        raise InputError(
            f"the cluster was not {status} within {self.patience:g} s: {last}\n{running[0].log()}"
        )
