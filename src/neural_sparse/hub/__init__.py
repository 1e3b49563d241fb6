"""A model folder for the Hugging Face hub: its card, and pushing it."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.hub.model_card import write_model_folder
    from neural_sparse.hub.push import prepare_folder, upload_folder

__all__ = ["prepare_folder", "upload_folder", "write_model_folder"]
__getattr__, __dir__ = lazy(__name__)
