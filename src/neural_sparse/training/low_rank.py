"""LoRA (arXiv 2106.09685): low-rank adapters of linear layers are trained by peft, and are weights in the end."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from neural_sparse.errors import InputError
from neural_sparse.model.encoder import NeuralSparseEncoder

FILE = "adapter.safetensors"  # in a checkpoint, beside the model with the adapters merged


class LowRank:
    """W h + (alpha / rank) B A h in place of W h, in linear layers of the transformer; A and B are trained, W is not.

    B is 0 at first. The output projection takes no adapter: its weights are those that the fused head multiplies by.
    What is trained outside the transformer (query weights, strengths of own words) stays so.

    Args:
        model: in which adapters are put.
        rank, alpha: as above.
        targets: names of layers, or their last parts ("query", "attention.self.query"); all linear ones if empty.
        seed: of A.

    Raises:
        InputError: no layer is called so.
    """

    def __init__(
        self, model: NeuralSparseEncoder, rank: int, alpha: float, targets: Sequence[str] = (), seed: int = 0
    ) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        self.model = model
        for mlm in model.masked_lms:
            names = _targets(mlm, targets)
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names)  # type: ignore[arg-type]
                inject_adapter_in_model(config, mlm)

    def merged(self) -> NeuralSparseEncoder:
        """A copy with ordinary weights; the model itself goes on with its adapters, bit by bit as they are."""
        made = copy.deepcopy(self.model)
        _merge(made)
        return made

    def merge(self) -> None:
        """Give the model ordinary weights, for good."""
        _merge(self.model)

    def save(self, folder: Path) -> None:
        """Write everything that is trained."""
        save_file({name: one.detach().contiguous() for name, one in self._trained().items()}, folder / FILE)

    def load(self, folder: Path) -> None:
        """Read it back, into a model with the start's other weights.

        Raises:
            InputError: a checkpoint of a run without adapters.
        """
        if not (folder / FILE).is_file():
            raise InputError(
                f"{folder} was trained without adapters: start from it with init={folder} and another output, or leave "
                "out lora_rank"
            )
        saved = load_file(folder / FILE)
        with torch.no_grad():
            for name, one in self._trained().items():
                one.copy_(saved[name])

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: one for name, one in self.model.named_parameters() if one.requires_grad}


def _targets(mlm: Any, wanted: Sequence[str]) -> list[str]:
    head = mlm.get_output_embeddings()
    layers = [
        name for name, module in mlm.named_modules() if isinstance(module, nn.Linear) and module is not head
    ]
    for one in wanted:
        if not any(f".{name}".endswith(f".{one}") for name in layers):
            known = ", ".join(sorted({name.rpartition(".")[2] for name in layers}))
            raise InputError(
                f"lora_targets: no linear layer of the start is called {one!r}; there are {known}"
            )
    return [name for name in layers if not wanted or any(f".{name}".endswith(f".{one}") for one in wanted)]


def _merge(model: NeuralSparseEncoder) -> None:
    from peft.tuners.lora import LoraLayer

    for mlm in model.masked_lms:
        for name, module in list(mlm.named_modules()):
            if isinstance(module, LoraLayer):
                module.merge()
                mlm.set_submodule(name, module.get_base_layer())
        del mlm.peft_config
        mlm.requires_grad_(True)
