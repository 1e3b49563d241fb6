"""A node, or several, for people: started by scripts/opensearch_node, ended by Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.opensearch.node.archives import MIRROR_VARIABLE, VERSIONS, default_cache
from neural_sparse.opensearch.node.cluster import Cluster
from neural_sparse.opensearch.node.process import Node


def main(arguments: Sequence[str] | None = None) -> None:
    """Start a node or a cluster, say how to reach it, and wait."""
    parser = argparse.ArgumentParser(
        prog="opensearch_node",
        description="Start a real OpenSearch node, or several that form a cluster, on 127.0.0.1 with ML Commons, k-NN "
        f"and neural search, from Maven Central ({MIRROR_VARIABLE} names another repository). About 600 MB are fetched "
        "at the first start. Ctrl-C ends it.",
    )
    parser.add_argument("version", nargs="?", default=VERSIONS[-1], help=", ".join(VERSIONS))
    parser.add_argument("--security", action="store_true", help="TLS and a login; 2.19.1 only")
    parser.add_argument("--nodes", type=int, default=1, help="of one cluster, without --security (1)")
    parser.add_argument(
        "--port",
        type=int,
        default=9200,
        help="of the HTTP interface (9200); of several nodes: the first one's",
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="folder that keeps data, logs and configuration; deleted at the end if not given",
    )
    parser.add_argument(
        "--heap", default="1536m", help="memory of Java, of each node (1536m); 512m is enough without models"
    )
    parser.add_argument(
        "--setting", action="append", default=[], metavar="NAME=VALUE", help="of opensearch.yml"
    )
    parser.add_argument(
        "--as-it-comes", action="store_true", help="without the settings that let a single node run models"
    )
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = dict(_pair(setting) for setting in asked.setting)
    if asked.nodes > 1 and asked.security:
        raise InputError("--nodes 2 and more have no security: leave --security out")
    common: dict[str, Any] = {
        "settings": settings,
        "models": not asked.as_it_comes,
        "data": asked.data,
        "port": asked.port,
        "heap": asked.heap,
    }
    started: Node | Cluster
    if asked.nodes > 1:
        started = Cluster(asked.nodes, asked.version, **common)
    else:
        started = Node(asked.version, security=asked.security, **common)
    signal.signal(signal.SIGTERM, _stop)
    try:
        with started:
            print(f"OpenSearch {asked.version}: {','.join(started.urls)}", flush=True)
            if isinstance(started, Node) and started.user is not None:
                secret = default_cache() / f"opensearch-{asked.version}-security.password"
                print(
                    f"user {started.user}, password in {secret}, certificate authority {started.ca_certs}",
                    flush=True,
                )
            signal.pause()
    except KeyboardInterrupt:
        print("ended")


def _pair(setting: str) -> tuple[str, str]:
    name, found, value = setting.partition("=")
    if not found:
        raise InputError(f"--setting {setting!r}: write NAME=VALUE")
    return name, value


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt
