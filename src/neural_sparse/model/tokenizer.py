"""The tokenizer of a model, whichever form the model comes in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neural_sparse.model.location import encoder_folder, lacks_head, model_not_found, resolve_model


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model.

    Raises:
        InputError: no such model.
    """
    location = resolve_model(name)
    if (Path(location) / "modules.json").is_file() and not lacks_head(location):
        from neural_sparse.model.encoder import NeuralSparseEncoder

        return NeuralSparseEncoder(location, device="cpu").tokenizer
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(encoder_folder(location))
    except (OSError, ValueError) as error:
        raise model_not_found(name, error) from error
