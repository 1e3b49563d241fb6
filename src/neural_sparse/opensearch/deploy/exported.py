"""An export, read back from its folder."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json, sha256_file
from neural_sparse.model.exported import EXPORT as MANIFEST
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.opensearch.packages import Package
from neural_sparse.opensearch.published import published_analyzer


@dataclass(frozen=True)
class Exported:
    """What `neural-sparse export` wrote.

    Attributes:
        encoder, queries: the packages of both sides; one and the same where a siamese model's queries share the
            documents' encoder.
        fingerprint: whose vectors they make; None of an export of an earlier version.
    """

    folder: Path
    name: str
    version: str
    encoder: Package
    queries: Package
    fingerprint: Fingerprint | None = None

    @classmethod
    def open(cls, folder: str | Path) -> Exported:
        """Raises InputError for a folder that is no export, or holds other files than were exported."""
        folder = Path(folder)
        advice = f"make one with `neural-sparse export MODEL --output {folder}`"
        if not (folder / MANIFEST).is_file():
            raise InputError(f"{folder} is no export (it holds no {MANIFEST}): {advice}")
        manifest = read_json(folder / MANIFEST)
        if not isinstance(manifest, dict) or "packages" not in manifest:
            raise InputError(f"{folder} holds no packages for OpenSearch: {advice}")
        try:
            packages = {Path(row["file"]).parts[0]: _package(folder, row) for row in manifest["packages"]}
            return cls(
                folder,
                manifest["name"],
                version=manifest["version"],
                encoder=packages["encoder"],
                queries=packages["encoder" if manifest.get("query_encoder") == "shared" else "query"],
                fingerprint=Fingerprint.read(found) if (found := manifest.get("fingerprint")) else None,
            )
        except (KeyError, TypeError, IndexError) as error:
            raise InputError(f"{folder / MANIFEST} is not whole ({error}): {advice}") from error

    @cached_property
    def weights(self) -> dict[str, float]:
        """{token: query weight}, in the order of ids.

        Raises:
            InputError: a siamese model's.
        """
        if not self.queries.looks_up:
            raise InputError(
                f"{self.folder}: queries of this model are encoded, and have no table of weights"
            )
        with zipfile.ZipFile(self.queries.path) as archive:
            table: dict[str, float] = json.loads(archive.read("idf.json"))
        return table

    @cached_property
    def analyzer(self) -> str | None:
        """The server's own analyzer with these query weights, if there is one."""
        return published_analyzer(self.weights) if self.queries.looks_up else None

    @cached_property
    def max_length(self) -> int | None:
        """Tokens that the encoder reads of a document, special ones included; None: all."""
        with zipfile.ZipFile(self.encoder.path) as archive:
            truncation = json.loads(archive.read("tokenizer.json"))["truncation"]
        return None if truncation is None else int(truncation["max_length"])

    @cached_property
    def tokens(self) -> list[str]:
        """What the server calls each id, "" for special tokens."""
        with zipfile.ZipFile(self.queries.path) as archive:
            tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        return [tokenizer.decode([token], skip_special_tokens=True) for token in range(size)]


def _package(folder: Path, row: dict[str, Any]) -> Package:
    path = folder / row["file"]
    digest = row["model_content_hash_value"]
    if not path.is_file() or sha256_file(path) != digest:
        raise InputError(f"{path} is not the file that was exported: export again")
    return Package(
        path,
        row["name"],
        version=row["version"],
        function_name=row["function_name"],
        description=row["description"],
        size=row["model_content_size_in_bytes"],
        sha256=digest,
    )
