"""The loss of a batch, and its gradients, are the same on one process and on several, to 1e-6."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest
import torch
from python_processes import Running
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.integration
DOCUMENTS, QUERIES, VOCABULARY, WIDTH = 23, 5, 400, 32
LOSSES = {"kl": 1.0, "info_nce": 0.1, "margin_mse": 0.05}


def work(number: int, count: int, port: int, output: str) -> None:
    """Loss and averaged gradients of this rank's share of the documents, written by rank 0."""
    from torch.nn.parallel import DistributedDataParallel

    from neural_sparse.losses.idf_aware import IDFAwareLoss
    from neural_sparse.work import ranks

    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(count)}
    ranks.join()
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(
        torch.nn.Linear(WIDTH, 64), torch.nn.GELU(), torch.nn.Linear(64, VOCABULARY)
    )
    features = torch.randn(DOCUMENTS, WIDTH)
    query_ids = torch.randint(VOCABULARY, (QUERIES, 6))
    targets = torch.rand(QUERIES, DOCUMENTS)
    mask = torch.rand(QUERIES, DOCUMENTS) < 0.9
    positive = torch.arange(QUERIES) * 2
    mask[torch.arange(QUERIES), positive] = True
    idf = torch.rand(VOCABULARY) * 5
    loss = IDFAwareLoss(idf, VOCABULARY, 0.01, ranking=LOSSES, ramp_steps=0)
    terms = torch.rand(DOCUMENTS, VOCABULARY) * (torch.rand(DOCUMENTS, VOCABULARY) < 0.1)
    terms[::4] = 0  # documents without a target
    terms = terms[ranks.share(DOCUMENTS)]
    rows, columns = terms.nonzero(as_tuple=True)
    order = ranks.order(DOCUMENTS)
    column = torch.tensor(order).argsort()
    model = DistributedDataParallel(encoder) if count > 1 else encoder
    asked, found = torch.randn(QUERIES, WIDTH), {}
    for kind in ("looked up", "siamese"):
        model.zero_grad()
        parts = loss(
            query_ids,
            torch.ones_like(query_ids),
            torch.log1p(model(features[ranks.share(DOCUMENTS)]).relu()),
            targets[:, order],
            mask[:, order],
            column[positive],
            terms=(rows, columns, terms[rows, columns]),
            queries=torch.log1p(model(asked).relu()) if kind == "siamese" else None,
        )
        parts.pop("scores")
        parts["loss"].backward()
        found |= {f"{kind} {name}": part.detach() for name, part in parts.items()}
        gradients = ((name, one.grad) for name, one in encoder.named_parameters())
        found |= {f"{kind} {name}": one.clone() for name, one in gradients if one is not None}
    if number == 0:
        save_file(found, output)


def run(count: int, output: Path) -> dict[str, torch.Tensor]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        Running([__file__, json.dumps([number, count, port, str(output)])]) for number in range(count)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0] * count
    return load_file(output)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return run(1, tmp_path_factory.mktemp("alone") / "found.safetensors")


@pytest.mark.parametrize("count", [2, 3])
def test_loss_and_gradients_are_those_of_one_process(
    alone: dict[str, torch.Tensor], count: int, tmp_path: Path
) -> None:
    together = run(count, tmp_path / "found.safetensors")
    assert together.keys() == alone.keys()
    assert len(alone) == 8 + 9
    for name, expected in alone.items():
        largest = float(expected.abs().max())
        assert largest > 1e-4, name
        assert float((together[name] - expected).abs().max()) < 1e-6 * largest, name


if __name__ == "__main__":
    work(*json.loads(sys.argv[1]))
