"""Models for the Hugging Face hub."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from neural_sparse.errors import InputError
from neural_sparse.hub.model_card import write_model_folder
from neural_sparse.io.files import replacing_folder
from neural_sparse.opensearch.guards import served_name
from neural_sparse.opensearch.parity import Check

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder


@contextmanager
def prepare_folder(
    model: NeuralSparseEncoder,
    repository: str | None,
    output: Path | None = None,
    evaluation: Path | None = None,
    license_id: str | None = None,
    uniform_query_weights: bool = False,
) -> Iterator[tuple[Path, list[Check]]]:
    """The folder to upload and what it was compared by; kept at `output`, or gone afterwards.

    Raises:
        InputError: see `write_model_folder`; a repository that is not OWNER/NAME.
    """
    if repository is not None and len([part for part in repository.split("/") if part]) != 2:
        raise InputError(f"{repository!r} is no repository of the hub; write it as OWNER/NAME")
    called = repository or served_name(model.name)
    if output is not None:
        with replacing_folder(output) as folder:
            checks = write_model_folder(
                model,
                folder,
                repository=called,
                evaluation=evaluation,
                license_id=license_id,
                uniform_query_weights=uniform_query_weights,
            )
        yield output, checks
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        yield (
            folder,
            write_model_folder(
                model,
                folder,
                repository=called,
                evaluation=evaluation,
                license_id=license_id,
                uniform_query_weights=uniform_query_weights,
            ),
        )


def check_access(repository: str) -> None:
    """Before long work that ends with an upload.

    Raises:
        InputError: the hub is switched off, or there is no token.
    """
    if constants.is_offline_mode():
        raise InputError(f"{repository}: the hub is switched off by HF_HUB_OFFLINE; unset it, or push later")
    if not get_token():
        raise InputError(
            f"{repository}: there is no token for the hub; set HF_TOKEN to one that may write there"
        )


def upload_folder(folder: Path, repository: str, private: bool = True) -> str:
    """Upload to a repository, which is made if need be; returns its address.

    Raises:
        InputError: no network, no token, or no permission.
    """
    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload by neural-sparse")
    except OfflineModeIsEnabled as error:
        raise InputError("the hub is switched off by HF_HUB_OFFLINE; unset it, or use --dry-run") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "?"
        raise InputError(
            f"the hub refused {repository} (HTTP {status}): set HF_TOKEN to a token that may write there"
        ) from error
    except OSError as error:
        if error.filename is not None:  # a file of ours, which is not the hub's fault
            raise
        raise InputError(
            f"the hub cannot be reached ({type(error).__name__}); try again, or use --dry-run"
        ) from error
    return str(address)
