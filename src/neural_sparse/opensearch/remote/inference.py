"""Document vectors over HTTP, for a remote model of OpenSearch: a SageMaker endpoint, a container or a plain server.

This file stands alone and needs torch and tokenizers. Texts go through the package that `neural-sparse export` wrote
(the traced document side and its tokenizer), so vectors are those that the export was proven with.

    python inference.py FOLDER --port 8080

answers as SageMaker asks of a container: GET /ping, and POST /invocations with {"inputs": ["text", ...]}, which gets
[{"token": weight, ...}, ...]; {"sparse_embedding_format": "TOKEN_ID"} beside the texts asks for ids in place of
tokens. SageMaker's own PyTorch images call model_fn, input_fn, predict_fn and output_fn instead. With
NEURAL_SPARSE_ENDPOINT_KEY set, requests have to bring it ("Authorization: Bearer KEY").
"""

from __future__ import annotations

import argparse
import hmac
import io
import json
import logging
import os
import threading
import zipfile
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

logger = logging.getLogger(__name__)

KEY = "NEURAL_SPARSE_ENDPOINT_KEY"
FORMATS = ("WORD", "TOKEN_ID")
_PADDED_TOKENS = 4096  # of one batch: a vector of the vocabulary is held for each of its texts
_LARGEST_BODY = 32 * 2**20


class Refused(Exception):
    """What is wrong with a request."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status = status


class DocumentEncoder:
    """The document side of an export.

    Args:
        folder: holds the package, NAME-VERSION-torch_script.zip, or is that file.
        device: torch's name of it; a GPU where there is one if None.

    Raises:
        FileNotFoundError: there is no package, or more than one.
    """

    def __init__(self, folder: str | Path, device: str | None = None) -> None:
        folder = Path(folder)
        packages = [folder] if folder.is_file() else sorted(folder.glob("*.zip"))
        if len(packages) != 1:
            raise FileNotFoundError(f"{folder} holds {len(packages)} packages (*.zip), where one is needed")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        with zipfile.ZipFile(packages[0]) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".pt"))
            self.module = torch.jit.load(io.BytesIO(archive.read(name)), map_location=self.device).eval()
            self.tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())
        self.tokenizer.no_padding()
        size = self.tokenizer.get_vocab_size(with_added_tokens=True)
        # As the cluster calls tokens: each id decoded on its own; special tokens have no name.
        self.names = [self.tokenizer.decode([token], skip_special_tokens=True) for token in range(size)]
        self._alone = threading.Lock()  # threads of one request do better than requests side by side

    def __call__(self, texts: Sequence[str], form: str = "WORD") -> list[dict[str, float]]:
        """{token: weight} of each text, heaviest tokens in no order.

        Args:
            form: "WORD" names tokens, "TOKEN_ID" numbers them.
        """
        ids = [one.ids for one in self.tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))  # little padding
        found: list[dict[str, float]] = [{} for _ in ids]
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * len(ids[order[end]]) <= _PADDED_TOKENS:
                end += 1
            rows = order[start:end]
            for row, weights in zip(rows, self._weights([ids[row] for row in rows], form), strict=True):
                found[row] = weights
            start = end
        return found

    def _weights(self, ids: list[list[int]], form: str) -> list[dict[str, float]]:
        """Of texts that fit into one batch."""
        length = max(map(len, ids))
        padded = torch.tensor([[*one, *[0] * (length - len(one))] for one in ids])
        mask = torch.tensor([[1] * len(one) + [0] * (length - len(one)) for one in ids])
        with self._alone, torch.inference_mode():
            features = {"input_ids": padded.to(self.device), "attention_mask": mask.to(self.device)}
            output = self.module(features)["output"].float().cpu()
        found = []
        for vector in output:
            tokens = torch.nonzero(vector).flatten()
            pairs = zip(tokens.tolist(), vector[tokens].tolist(), strict=True)
            named = (
                (str(token) if form == "TOKEN_ID" else self.names[token], token, w) for token, w in pairs
            )
            # Nine digits give the same float32 back.
            found.append({name: float(f"{weight:.9g}") for name, token, weight in named if self.names[token]})
        return found


def read_request(body: bytes | str) -> tuple[list[str], str]:
    """(texts, format) of a request's body. Raises Refused."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict) or "inputs" not in asked:
        raise Refused(HTTPStatus.BAD_REQUEST, 'a JSON object, please: {"inputs": ["text", ...]}')
    texts = [asked["inputs"]] if isinstance(asked["inputs"], str) else asked["inputs"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refused(HTTPStatus.BAD_REQUEST, "inputs is a list of texts")
    form = asked.get("sparse_embedding_format") or FORMATS[0]
    if form not in FORMATS:
        raise Refused(HTTPStatus.BAD_REQUEST, f"sparse_embedding_format is {' or '.join(FORMATS)}")
    # Half a surrogate pair, which JSON can carry, is no text for a tokenizer.
    whole = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
    return whole, form


# --- what SageMaker's PyTorch images call --------------------------------------------------------------


def model_fn(model_dir: str) -> DocumentEncoder:
    return DocumentEncoder(model_dir)


def input_fn(request_body: bytes | str, content_type: str = "application/json") -> tuple[list[str], str]:
    if content_type.split(";")[0].strip() != "application/json":
        raise ValueError(f"Content-Type {content_type}: application/json, please")
    try:
        return read_request(request_body)
    except Refused as error:
        raise ValueError(str(error)) from error


def predict_fn(data: tuple[list[str], str], model: DocumentEncoder) -> list[dict[str, float]]:
    return model(*data)


def output_fn(prediction: list[dict[str, float]], accept: str = "application/json") -> str:
    return json.dumps(prediction, ensure_ascii=False)


# --- a server ------------------------------------------------------------------------------------------


def make_server(
    encode: Callable[[Sequence[str], str], list[dict[str, float]]],
    host: str = "127.0.0.1",
    port: int = 0,
    key: str | None = None,
) -> ThreadingHTTPServer:
    """A server that is not running yet; `server_address[1]` is its port.

    Args:
        key: what requests have to bring as a bearer token; None lets everybody ask.

    Raises:
        OSError: a port that is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_GET(self) -> None:
            known = self.path.split("?")[0] == "/ping"
            self._send(HTTPStatus.OK if known else HTTPStatus.NOT_FOUND, {} if known else _USAGE)

        def do_POST(self) -> None:
            try:
                value, status = self._vectors(), HTTPStatus.OK
            except Refused as error:
                value, status = {"error": str(error)}, error.status
            except Exception:  # one request must not end the server
                logger.exception("a request failed")
                value, status = {"error": "internal error"}, HTTPStatus.INTERNAL_SERVER_ERROR
            self._send(status, value)

        def _vectors(self) -> Any:
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > _LARGEST_BODY:
                self.close_connection = True  # what was sent stays unread
                large = length.isdigit()
                status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if large else HTTPStatus.LENGTH_REQUIRED
                raise Refused(status, f"a body of at most {_LARGEST_BODY} bytes, please")
            body = self.rfile.read(int(length))
            brought = self.headers.get("Authorization", "").encode()
            if key is not None and not hmac.compare_digest(brought, f"Bearer {key}".encode()):
                raise Refused(HTTPStatus.UNAUTHORIZED, "another key is wanted")
            if self.path.split("?")[0] != "/invocations":
                raise Refused(HTTPStatus.NOT_FOUND, _USAGE["error"])
            return encode(*read_request(body))

        def _send(self, status: HTTPStatus, value: Any) -> None:
            content = json.dumps(value, ensure_ascii=False).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            logger.debug(format, *args)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    return Server((host, port), Handler)


_USAGE = {"error": "POST /invocations, GET /ping"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="holds the package of the document side (*.zip)")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for other machines, and in a container")
    parser.add_argument("--port", type=int, default=8080)
    given = parser.parse_args()
    server = make_server(DocumentEncoder(given.folder), given.host, given.port, os.environ.get(KEY))
    print(f"listening on http://{given.host}:{server.server_address[1]}/invocations", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
