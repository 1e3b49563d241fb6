"""Bytes that the stages write and hold: what their formats say."""

from __future__ import annotations

from neural_sparse.teachers.shards import KEY_BYTES

NPY_HEADER = 128  # of each array file
POSTING = 8  # int32 document, float32 impact
PAIR_SCORE = 4
ADAM = 16  # per parameter in training: weight, gradient, two moments, all float32
ACTIVATIONS = (
    34  # bytes per token, layer and unit of width in 16 bits (arXiv 2205.05198), attention recomputed
)
POOLED = 14  # per document and vocabulary entry: value, gradient, winner and their copies


def dense_cache(texts: float, width: int) -> float:
    """A dense teacher's float16 vectors with their keys."""
    return texts * (2 * width + KEY_BYTES)


def sparse_cache(texts: float, terms: float) -> float:
    """A sparse teacher's rows: int32 index and float16 value a term, int64 offset, key."""
    return texts * (6 * terms + 8 + KEY_BYTES)


def pair_cache(pairs: float) -> float:
    """A cross-encoder's scores with their keys."""
    return pairs * (PAIR_SCORE + KEY_BYTES)


def index(
    documents: float, postings: float, vocabulary: int, id_bytes: float, impact_bytes: int = 4
) -> float:
    """A `SparseIndex` on disk, its manifest left out."""
    ids = documents * id_bytes + 8 * (documents + 1)
    return postings * (4 + impact_bytes) + 8 * (vocabulary + 1) + ids + 5 * NPY_HEADER


def collection(
    documents: float, postings: float, vocabulary: int, id_bytes: float, text_bytes: float
) -> float:
    """What `encode` writes, tokenizer and query table left out: index and texts (`text_bytes` of all)."""
    return index(documents, postings, vocabulary, id_bytes) + text_bytes + 8 * (documents + 1) + NPY_HEADER


def parts(documents: float, postings: float, text_bytes: float) -> float:
    """The parts of `encode`: CSR rows (int64 offsets, int32 indices, float32 values) and texts."""
    return 8 * postings + 8 * documents + text_bytes + 8 * documents


def checkpoints(parameters: float, kept: int) -> float:
    """Weights and two moments each in float32, and the final model."""
    return 4 * parameters * (3 * kept + 1)


def training_states(parameters: float, devices: int) -> float:
    """Per device; with several, the gradients' buckets besides."""
    return parameters * (ADAM + (4 if devices > 1 else 0))


def packed_tokens(tokens: float) -> float:
    """int64 ids on the device, int32 on the way there."""
    return 12 * tokens


def activations(tokens: float, layers: int, hidden: int, checkpointing: bool, bits: int) -> float:
    """Kept for the backward pass, per device."""
    per_layer = tokens * hidden * ACTIVATIONS * bits / 16
    return 2 * tokens * hidden * layers + per_layer if checkpointing else layers * per_layer
