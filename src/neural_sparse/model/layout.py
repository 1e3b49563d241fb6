"""How a batch's packed documents stand in padded groups of similar length, decided on the host.

Lengths are known where texts are tokenized. What follows from them is decided there and sent to the device with
the batch, for a device that is asked has to finish all that it was given before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neural_sparse.text.lengths import length_groups
from neural_sparse.text.ragged import offsets_of


class Group(NamedTuple):
    """Texts of similar length.

    Attributes:
        input_ids, mask: int64 [texts, longest]; the mask is 1 at real tokens.
        kept: int64 [tokens], places of the real tokens in the flattened group.
        offsets: int64 [texts + 1] of the real tokens.
        whole: whether there is no padding.
    """

    input_ids: Tensor
    mask: Tensor
    kept: Tensor
    offsets: Tensor
    whole: bool


@dataclasses.dataclass(frozen=True)
class Layout:
    """Groups of packed texts.

    Attributes:
        shapes: texts and longest of each group.
        sizes: real tokens of each group.
        input_ids, mask: int64 [positions], the flattened groups one after another.
        kept: int64 [tokens], of each real token its place in its flattened group.
        offsets: int64 [texts + 1], of the real tokens, in the order of the groups.
        rows: int64 [texts], which text stands there.
        order: int64 [texts], where each text stands in the order of the groups.
    """

    shapes: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]
    input_ids: Tensor
    mask: Tensor
    kept: Tensor
    offsets: Tensor
    rows: Tensor
    order: Tensor

    @classmethod
    def of(cls, ids: np.ndarray, offsets: np.ndarray, pad_id: int, max_tokens: int | None = None) -> Layout:
        """The layout of texts `ids` [tokens] with `offsets` [texts + 1], on the host.

        Args:
            max_tokens: bound on a group's positions (at least one text is always taken).
        """
        lengths = np.diff(offsets)
        groups = length_groups(lengths, max_tokens)
        shapes, padded, masks = [], [np.empty(0, np.int64)], [np.empty(0, np.bool_)]
        for group in groups:
            columns = np.arange(max(1, int(lengths[group].max())))
            mask = columns < lengths[group][:, None]
            here = np.full(mask.shape, pad_id, np.int64)
            here[mask] = ids[(offsets[group][:, None] + columns)[mask]]
            shapes.append(mask.shape)
            padded.append(here.ravel())
            masks.append(mask.ravel())
        rows = np.concatenate([np.empty(0, np.int64), *groups])
        kept = np.concatenate([np.flatnonzero(mask) for mask in masks])
        return cls(
            tuple(shapes),
            tuple(int(mask.sum()) for mask in masks[1:]),
            input_ids=torch.from_numpy(np.concatenate(padded)),
            mask=torch.from_numpy(np.concatenate(masks).astype(np.int64)),
            kept=torch.from_numpy(kept),
            offsets=torch.from_numpy(offsets_of(lengths[rows])),
            rows=torch.from_numpy(rows),
            order=torch.from_numpy(np.argsort(rows)),
        )

    @property
    def longest(self) -> int:
        return max((longest for _, longest in self.shapes), default=0)

    def groups(self) -> Iterator[Group]:
        position = token = text = 0
        for shape, size in zip(self.shapes, self.sizes, strict=True):
            end = position + shape[0] * shape[1]
            offsets = self.offsets[text : text + shape[0] + 1]
            yield Group(
                self.input_ids[position:end].view(shape),
                self.mask[position:end].view(shape),
                kept=self.kept[token : token + size],
                offsets=offsets - offsets[0],
                whole=size == shape[0] * shape[1],
            )
            position, token, text = end, token + size, text + shape[0]


def split_by_length(
    ids: Tensor, offsets: Tensor, pad_id: int, max_tokens: int | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Groups of packed texts as padded batches: (rows, input_ids [group, longest], attention_mask).

    `ids` is [tokens], `offsets` [texts + 1]; results are on the device of `ids`, which is waited for.
    """
    layout = Layout.of(ids.cpu().numpy(), offsets.cpu().numpy(), pad_id, max_tokens)
    layout = map_tensors(layout, lambda tensor: tensor.to(ids.device))
    rows = layout.rows.split([texts for texts, _ in layout.shapes])
    for mine, group in zip(rows, layout.groups(), strict=True):
        yield mine, group.input_ids, group.mask


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A batch with all its tensors changed: in dictionaries, tuples and dataclasses."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: map_tensors(part, change) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(map_tensors(part, change) for part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **map_tensors(fields, change))
    return value


class PaddingMask(Tensor):
    """An attention mask whose `all()` is known: transformers asks for it, and would wait for the device."""

    whole: bool

    @classmethod
    def of(cls, mask: Tensor, whole: bool) -> PaddingMask:
        known = mask.as_subclass(cls)
        known.whole = whole
        return known

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.all and len(args) == 1 and not kwargs:
            return args[0].whole
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        if func is Tensor.to:
            return cls.of(result, args[0].whole)
        # What else is made of it is no mask.
        return result.as_subclass(Tensor) if isinstance(result, cls) else result
