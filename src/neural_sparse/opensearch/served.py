"""What the server makes of a text: ML Commons' own steps on the exported zips, from nothing but their content."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

UNLISTED = 1.0  # weight of a token that idf.json lacks


class ServedDocuments:
    """The SPARSE_ENCODING package at work.

    Attributes:
        module: the traced module; `tokenizer`: the package's.
    """

    def __init__(self, package: str | Path) -> None:
        with zipfile.ZipFile(package) as archive:
            (torchscript,) = (name for name in archive.namelist() if name.endswith(".pt"))
            self.module = torch.jit.load(io.BytesIO(archive.read(torchscript)), map_location="cpu").eval()
            self.tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())

    def output(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Weights [batch, vocabulary] of ids [batch, length]."""
        with torch.inference_mode():
            features = {"input_ids": ids, "attention_mask": torch.ones_like(ids) if mask is None else mask}
            return self.module(features)["output"]

    def vector(self, text: str) -> np.ndarray:
        """float32 [vocabulary], run alone, shape [1, length], as the server does."""
        ids = torch.tensor([self.tokenizer.encode(text).ids])
        return self.output(ids)[0].numpy()

    def weights(self, text: str) -> dict[str, float]:
        """{token: weight} as the server answers: each non-zero named by decoding its id."""
        vector = self.vector(text)
        named = (
            (self.tokenizer.decode([index], skip_special_tokens=True), float(vector[index]))
            for index in np.flatnonzero(vector).tolist()
        )
        return {name: weight for name, weight in named if name}


class ServedQueries:
    """The SPARSE_TOKENIZE package at work."""

    def __init__(self, package: str | Path) -> None:
        with zipfile.ZipFile(package) as archive:
            self.tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())
            table = json.loads(archive.read("idf.json"))
        self.idf = {token: float(np.float32(weight)) for token, weight in table.items()}

    def weights(self, text: str) -> dict[str, float]:
        """{token: weight}: every distinct id of the text, named by decoding it; special tokens have no name."""
        ids = dict.fromkeys(self.tokenizer.encode(text).ids)
        names = (self.tokenizer.decode([index], skip_special_tokens=True) for index in ids)
        return {name: self.idf.get(name, UNLISTED) for name in names if name}
