"""A server: search, encoding, documents that change, and a page to look at hits and judge them."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.serve.app import make_app
    from neural_sparse.serve.judgements import Judgements
    from neural_sparse.serve.run import serve
    from neural_sparse.serve.systems import System, bm25_system, changing_system, encoded_system

__all__ = ["Judgements", "System", "bm25_system", "changing_system", "encoded_system", "make_app", "serve"]
__getattr__, __dir__ = lazy(__name__)
