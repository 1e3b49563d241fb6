"""What is refused before a cluster of nodes is started, and the ports that its nodes get."""

from __future__ import annotations

import pytest

from neural_sparse import InputError
from neural_sparse.opensearch.node import Cluster
from neural_sparse.opensearch.node.command import main
from neural_sparse.opensearch.node.process import free_ports


def test_a_cluster_is_of_several_nodes_without_security() -> None:
    with pytest.raises(InputError, match="two nodes or more, not 1"):
        Cluster(1)
    with pytest.raises(InputError, match="leave --security out"):
        main(["2.19.1", "--nodes", "2", "--security"])


def test_ports_are_free_and_no_two_the_same() -> None:
    ports = free_ports(40)
    assert len(set(ports)) == 40
    assert all(1024 < port < 65536 for port in ports)
