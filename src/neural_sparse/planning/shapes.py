"""The size of a transformer, from which its arithmetic follows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json
from neural_sparse.model.location import resolve_model
from neural_sparse.planning.estimate import Basis

GATED = ("modernbert", "new", "nomic_bert", "gemma3_text", "llama")  # model types with two matrices up


@dataclass(frozen=True)
class ModelShape:
    """
    Attributes:
        hidden: width; also that of a dense teacher's vectors.
        intermediate: width inside a feed-forward layer.
        gated: whether that layer has two matrices up and one down.
        basis: derived from the model's own config.json, or assumed.
    """

    name: str
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    gated: bool = False
    basis: Basis = Basis.derived

    @property
    def body_weights(self) -> int:
        """Entries of the matrices that every token is multiplied with."""
        feed_forward = (3 if self.gated else 2) * self.hidden * self.intermediate
        return self.layers * (4 * self.hidden**2 + feed_forward)

    @property
    def parameters(self) -> int:
        """Of the model with a tied masked-LM head; biases, norms and positions add about 1%."""
        return self.body_weights + self.vocabulary * (self.hidden + 1) + self.hidden**2

    def body_flops(self, tokens: float) -> float:
        """Forward, per token of a text of `tokens`: two per weight, and attention over the text."""
        return 2 * self.body_weights + 4 * self.layers * tokens * self.hidden

    @property
    def head_flops(self) -> float:
        """Forward, per token: the masked-LM head."""
        return self.head_flops_of(self.vocabulary)

    def head_flops_of(self, columns: float) -> float:
        """As `head_flops`, where only so many tokens of the vocabulary are looked at."""
        return 2 * self.hidden**2 + 2 * self.hidden * columns


def _published(
    name: str, layers: int, hidden: int, intermediate: int, vocabulary: int, gated: bool = False
) -> tuple[str, ModelShape]:
    return name.lower(), ModelShape(
        name,
        layers,
        hidden=hidden,
        intermediate=intermediate,
        vocabulary=vocabulary,
        gated=gated,
        basis=Basis.assumed,
    )


PUBLISHED = dict(
    (
        _published(
            "opensearch-project/opensearch-neural-sparse-encoding-v1",
            12,
            hidden=768,
            intermediate=3072,
            vocabulary=30522,
        ),
        _published(
            "opensearch-project/opensearch-neural-sparse-encoding-multilingual-v1",
            12,
            hidden=768,
            intermediate=3072,
            vocabulary=105879,
        ),
        _published(
            "opensearch-project/opensearch-neural-sparse-encoding-doc-v2-distill",
            6,
            hidden=768,
            intermediate=3072,
            vocabulary=30522,
        ),
        _published(
            "Alibaba-NLP/gte-large-en-v1.5", 24, hidden=1024, intermediate=4096, vocabulary=30528, gated=True
        ),
        _published(
            "cross-encoder/ms-marco-MiniLM-L-12-v2", 12, hidden=384, intermediate=1536, vocabulary=30522
        ),
        _published(
            "cross-encoder/ms-marco-MiniLM-L-6-v2", 6, hidden=384, intermediate=1536, vocabulary=30522
        ),
        _published(
            "sentence-transformers/all-MiniLM-L6-v2", 6, hidden=384, intermediate=1536, vocabulary=30522
        ),
        _published("distilbert/distilbert-base-uncased", 6, hidden=768, intermediate=3072, vocabulary=30522),
        _published("google-bert/bert-base-uncased", 12, hidden=768, intermediate=3072, vocabulary=30522),
        _published("BAAI/bge-base-en-v1.5", 12, hidden=768, intermediate=3072, vocabulary=30522),
        _published("BAAI/bge-small-en-v1.5", 12, hidden=384, intermediate=1536, vocabulary=30522),
        _published("BAAI/bge-m3", 24, hidden=1024, intermediate=4096, vocabulary=250002),
    )
)


def shape_of(name: str) -> ModelShape:
    """The shape of a model: from its config.json where it is on this machine, else as published.

    Raises:
        InputError: neither is known.
    """
    if (config := _local_config(name)) is not None:
        return _read(name, config)
    if (known := PUBLISHED.get(name.lower())) is not None:
        return known
    where = "no such folder yet" if name.count("/") != 1 else "not on this machine"
    raise InputError(
        f"the size of the model {name!r} is not known ({where}): name one of its size (a second stage takes the "
        "start of the first: init=...), or download it. Built in: "
        f"{', '.join(shape.name for shape in PUBLISHED.values())}"
    )


def _local_config(name: str) -> Path | None:
    place = Path(resolve_model(name))
    if place.is_dir():
        found = [place / "config.json", *sorted(place.glob("*/config.json"))]
        return next((file for file in found if file.is_file() and "vocab_size" in read_json(file)), None)
    from huggingface_hub import try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(name, "config.json")
    except ValueError:  # no hub id
        return None
    return Path(cached) if isinstance(cached, str) else None


def _read(name: str, file: Path) -> ModelShape:
    config: dict[str, Any] = read_json(file)

    def number(*keys: str) -> int:
        for key in keys:
            if isinstance(config.get(key), int):
                return config[key]
        raise InputError(f"{file}: has none of {', '.join(keys)}; the model's size cannot be read from it")

    hidden = number("hidden_size", "dim", "d_model")
    return ModelShape(
        name,
        number("num_hidden_layers", "n_layers", "num_layers"),
        hidden=hidden,
        intermediate=number("intermediate_size", "hidden_dim", "d_ff"),
        vocabulary=number("vocab_size"),
        gated=config.get("model_type") in GATED,
    )
