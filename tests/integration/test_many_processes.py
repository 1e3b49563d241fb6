"""The encoder under DistributedDataParallel: gloo processes on this machine."""

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

TEXTS = [
    "Return a new list whose items are sorted.",
    "Open a file.",
    "",
    "Parse a JSON document from a string and build objects from it, or raise an error.",
    "Join the paths.",
    "Count the words of a text and return the most common ones.",
]


def gradients(rank: int, ranks: int, port: int, cache_tokens: int | None, output: str) -> None:
    """Gradients of the mean over ranks of a loss on this rank's documents, written by rank 0."""
    from torch.nn.parallel import DistributedDataParallel

    from neural_sparse import NeuralSparseEncoder
    from neural_sparse.model.encoding import packed_features
    from neural_sparse.text.tokens import tokenize

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    model = NeuralSparseEncoder("cognition/model", 64)  # eval: no dropout
    model.cache_tokens = cache_tokens
    parallel = DistributedDataParallel(model, find_unused_parameters=True)
    share = TEXTS[rank::ranks]
    features = packed_features(tokenize(share, model.tokenizer, 64, special_tokens=True))
    vectors = parallel(features)["sentence_embedding"]
    (vectors.square().sum() * ranks).backward()  # DDP divides by the number of ranks
    if rank == 0:
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        save_file({name: gradient.contiguous() for name, gradient in found.items()}, output)
    torch.distributed.barrier()
    # Without taking anything down: torch's reducer, when it is freed, may wait for a thread of gloo that waits for it.
    os._exit(0)


def run(ranks: int, cache_tokens: int | None, output: Path) -> dict[str, torch.Tensor]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        Running([__file__, json.dumps([rank, ranks, port, cache_tokens, str(output)])])
        for rank in range(ranks)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0] * ranks
    return load_file(output)


@pytest.mark.parametrize("cache_tokens", [None, 20])
def test_gradients_are_those_of_one_process(cache_tokens: int | None, tmp_path: Path) -> None:
    alone = run(1, None, tmp_path / "alone.safetensors")
    together = run(2, cache_tokens, tmp_path / "together.safetensors")
    assert together.keys() == alone.keys()
    largest = max(float(gradient.abs().max()) for gradient in alone.values())
    for name, gradient in alone.items():
        assert float((together[name] - gradient).abs().max()) < 1e-5 * largest, name


if __name__ == "__main__":
    gradients(*json.loads(sys.argv[1]))
