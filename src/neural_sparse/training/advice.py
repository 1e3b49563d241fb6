"""What to do where memory was not enough, as keys that the same command takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from neural_sparse.config import Recipe
from neural_sparse.errors import InputError
from neural_sparse.training.trainer import checkpoints

CACHE_TOKENS = 8192


@dataclass(frozen=True)
class MemoryAdvice:
    """One way to need less memory.

    Attributes:
        keys: of the recipe, to change together.
        effect: on what is learned.
        flag: of the command line, without which the run's folder refuses the changed recipe; "" if none is needed.
    """

    keys: Mapping[str, Any]
    effect: str
    flag: str = ""

    def __str__(self) -> str:
        keys = " ".join(f"{key}={str(value).lower()}" for key, value in self.keys.items())
        return f"  {f'{keys} {self.flag}'.rstrip()}  ({self.effect})"


def memory_advice(recipe: Recipe) -> list[MemoryAdvice]:
    """Ways that this recipe leaves and its output folder takes, first those that change nothing of what is learned."""
    size = recipe.batch_size
    cached = (recipe.cache_tokens or size * (1 + recipe.num_hard_negatives) * recipe.max_length // 2) // 2
    cached = min(CACHE_TOKENS, max(recipe.max_length, cached))
    # Beside auto_batch neither is taken; the batch it found is kept.
    found = {"auto_batch": False, "batch_size": size} if recipe.auto_batch else {}
    anyway, anew = ("--resume-anyway", "--overwrite") if checkpoints(recipe.output) else ("", "")
    halved = {"batch_size": size // 2, "gradient_accumulation_steps": 2 * recipe.gradient_accumulation_steps}
    ways = [
        MemoryAdvice(found | {"cache_tokens": cached}, "gradients of the same batch, for more time"),
        MemoryAdvice({"gradient_checkpointing": True}, "the same weights, for more time"),
        MemoryAdvice({"max_length": recipe.max_length // 2}, "documents are cut earlier", anyway),
        MemoryAdvice(found | halved, "queries are scored against fewer documents", anyway),
        MemoryAdvice({"auto_batch": True}, "the largest batch that fits", anew),
    ]
    return [way for way in ways if _is_taken(recipe, way.keys)]


def told(recipe: Recipe) -> str:
    """The advice as text, a way a line."""
    ways = memory_advice(recipe)
    if not ways:
        return "This recipe needs as little as there is: take a smaller model or another machine"
    lines = ["Add to the same command, in this order:", *map(str, ways)]
    if any(way.flag for way in ways):
        last = checkpoints(recipe.output)[-1].name
        lines.append(f"--resume-anyway goes on from {last} with the changed recipe, --overwrite starts anew")
    return "\n".join(lines)


def _is_taken(recipe: Recipe, keys: Mapping[str, Any]) -> bool:
    """Whether these are other values, which a recipe may have."""
    if all(getattr(recipe, key) == value for key, value in keys.items()) or keys.get("max_length", 16) < 16:
        return False
    if recipe.cache_tokens is not None and keys.get("cache_tokens", 0) >= recipe.cache_tokens:
        return False
    try:
        replace(recipe, **keys)
    except InputError:
        return False
    return True
