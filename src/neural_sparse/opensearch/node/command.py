"""A node for people: started by scripts/opensearch_node, ended by Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import signal
from collections.abc import Sequence
from pathlib import Path

from neural_sparse.errors import InputError
from neural_sparse.opensearch.node.archives import MIRROR_VARIABLE, VERSIONS, default_cache
from neural_sparse.opensearch.node.process import Node


def main(arguments: Sequence[str] | None = None) -> None:
    """Start a node, say how to reach it, and wait."""
    parser = argparse.ArgumentParser(
        prog="opensearch_node",
        description="Start a real OpenSearch node on 127.0.0.1 with ML Commons, k-NN and neural search, from Maven "
        f"Central ({MIRROR_VARIABLE} names another repository). About 600 MB are fetched at the first start. Ctrl-C "
        "ends it.",
    )
    parser.add_argument("version", nargs="?", default=VERSIONS[-1], help=", ".join(VERSIONS))
    parser.add_argument("--security", action="store_true", help="TLS and a login; 2.19.1 only")
    parser.add_argument("--port", type=int, default=9200, help="of the HTTP interface (9200)")
    parser.add_argument(
        "--data",
        type=Path,
        help="folder that keeps data, logs and configuration; deleted at the end if not given",
    )
    parser.add_argument("--heap", default="1536m", help="memory of Java (1536m)")
    parser.add_argument(
        "--setting", action="append", default=[], metavar="NAME=VALUE", help="of opensearch.yml"
    )
    parser.add_argument(
        "--as-it-comes", action="store_true", help="without the settings that let a single node run models"
    )
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = dict(_pair(setting) for setting in asked.setting)
    node = Node(
        asked.version,
        security=asked.security,
        settings=settings,
        models=not asked.as_it_comes,
        data=asked.data,
        port=asked.port,
        heap=asked.heap,
    )
    signal.signal(signal.SIGTERM, _stop)
    try:
        with node:
            print(f"OpenSearch {asked.version}: {node.url}", flush=True)
            if node.user is not None:
                secret = default_cache() / f"opensearch-{asked.version}-security.password"
                print(
                    f"user {node.user}, password in {secret}, certificate authority {node.ca_certs}",
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
