"""Bytes that the Triton head's forward pass reads from a GPU's memory, computed: no GPU is needed, none is timed.

    python benchmarks/traffic.py                     # the table in docs/performance.md

The kernel's programs are gone through in the order in which a GPU starts them; each reads the hidden states of its
text and its block of the output matrix through a cache that forgets what was used longest ago. "In groups" is the
kernel's order, "text by text" the one it had before: all texts for each block, of 128 entries. 440 texts (40 queries
with 11 candidates each) in bfloat16, of log-normal length, 5 to 256 tokens ("realistic"), or all of 256. "Once each"
is the least there could be. The last column is what the programs read from the cache, in any order.
"""

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from arms import lengths

CACHES = {"GB10": 24 << 20, "H100": 50 << 20}  # second-level caches, from NVIDIA's data sheets
TEXTS = 440
SIZE = 2  # bytes of a number


def programs(texts: int, blocks: int, groups: int) -> Iterator[tuple[int, int]]:
    """(text, block of the vocabulary) of each program, in the order of the kernel's grid."""
    members = -(-texts // groups)
    for group in range(groups):
        for block in range(blocks):
            for member in range(members):
                if (text := member * groups + group) < texts:
                    yield text, block


def from_memory(rows: Sequence[int], block: int, order: Iterator[tuple[int, int]], cache: int) -> int:
    """Bytes read past a cache of `cache` bytes that drops the least recently used.

    Args:
        rows: bytes of each text's hidden states.
        block: bytes of a block of the output matrix.
    """
    held: OrderedDict[tuple[str, int], int] = OrderedDict()
    used = read = 0
    for text, number in order:
        for key, size in ((("text", text), rows[text]), (("block", number), block)):
            if key in held:
                held.move_to_end(key)
                continue
            read += size
            used += size
            held[key] = size
            while used > cache:
                used -= held.popitem(last=False)[1]
    return read


def main() -> None:
    import torch

    from neural_sparse.model.head_triton import text_groups, tiles

    # Longest first, as the encoder hands them over.
    texts = {"realistic": sorted(lengths("realistic", TEXTS), reverse=True), "256 tokens": [256] * TEXTS}
    print(
        "| GPU | width | vocabulary | texts | text by text | in groups | groups | once each | from the cache |"
    )
    print("|---" * 9 + "|")
    for (name, cache), width, vocabulary, (kind, counts) in itertools.product(
        CACHES.items(), (384, 768), (30522, 105879), texts.items()
    ):
        tile = tiles(torch.bfloat16, sum(counts), TEXTS)
        rows = [count * width * SIZE for count in counts]
        groups = text_groups(TEXTS, sum(rows), cache)

        def read(
            dimensions: int, groups: int, rows=rows, width=width, vocabulary=vocabulary, cache=cache
        ) -> int:
            order = programs(TEXTS, -(-vocabulary // dimensions), groups)
            return from_memory(rows, dimensions * width * SIZE, order, cache)

        tall = sum(-(-count // tile.tokens) for count in counts)
        blocks = -(-vocabulary // tile.dimensions)
        figures = [
            read(128, 1),
            read(tile.dimensions, groups),
            sum(rows) + vocabulary * width * SIZE,
            blocks * tall * (tile.tokens + tile.dimensions) * width * SIZE,
        ]
        cells = [f"{figure / 1e9:,.2f} GB" for figure in figures]
        cells.insert(2, str(groups))
        print(f"| {name} | {width} | {vocabulary:,} | {kind} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
