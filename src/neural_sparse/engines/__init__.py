"""Vectors for the engines that people use: what each takes, files in its format, and the proof in the engine itself."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.engines.formats import VECTOR_FORMATS, write_vectors
    from neural_sparse.engines.onnx_package import write_onnx_package
    from neural_sparse.engines.query_package import write_query_package
    from neural_sparse.engines.vectors import VectorSource, vector_source

__all__ = [
    "VECTOR_FORMATS",
    "VectorSource",
    "vector_source",
    "write_onnx_package",
    "write_query_package",
    "write_vectors",
]
__getattr__, __dir__ = lazy(__name__)
