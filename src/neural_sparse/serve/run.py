"""A server process: what it loads, where it listens, how it ends."""

from __future__ import annotations

import gc
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from neural_sparse.corpora.corpus_file import read_queries
from neural_sparse.errors import InputError
from neural_sparse.io.parts import alone
from neural_sparse.io.urls import work_folder
from neural_sparse.search.budget import check_recall
from neural_sparse.search.encoded import manifest_of
from neural_sparse.serve.judgements import Judgements
from neural_sparse.serve.systems import System, bm25_system, changing_system, encoded_system

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from neural_sparse.search.updating import DocumentModel
    from neural_sparse.serve.app import Encode

logger = logging.getLogger(__name__)
KEY = "NEURAL_SPARSE_API_KEY"
BACKLOG = 2048  # connections that wait to be accepted


def serve(
    indexes: Sequence[str],
    *,
    model: str | None = None,
    bm25: bool = False,
    judgements: str | Path | None = None,
    split: str = "test",
    host: str = "127.0.0.1",
    port: int = 8000,
    verify: bool = True,
    workers: int | None = None,
    recall: float | None = None,
    sample: str | Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; what runs then is finished.

    Args:
        indexes: folders made by `neural-sparse encode`, each FOLDER or NAME=FOLDER.
        model: encodes documents; the indexes that were encoded with it can be changed, by this process alone.
        bm25: also over the texts of the first index.
        judgements: folder for those made on the page.
        host: other than the loopback only with a key in the environment (NEURAL_SPARSE_API_KEY).
        port: 0 for any that is free.
        verify: compare checksums first.
        workers: searches at a time; all cores if None.
        recall: the indexes are searched approximately (`EncodedCollection.approximate`); None: exactly.
        sample: queries.jsonl, of whose queries the recall is measured; words of the documents if None.

    Raises:
        InputError: the extra is not installed; a recall that is none, or a sample without one; an index or model that
            cannot be loaded, or searched approximately; no place to listen; an address that others reach, without a
            key.
    """
    try:
        import uvicorn  # noqa: F401

        from neural_sparse.serve.app import make_app
    except ImportError as error:
        raise InputError(f'a server needs the extra: pip install "neural-sparse[serve]" ({error})') from error
    key = os.environ.get(KEY) or None
    hosts = None if key else ["localhost", "127.0.0.1", "::1"]
    if not _is_loopback(host) and key is None:
        raise InputError(
            f"--host {host}: others could reach it; put a key into the environment variable {KEY}, or leave --host out"
        )
    named = _named(indexes)
    if recall is not None:
        check_recall(recall)
    elif sample is not None:
        raise InputError("--sample: queries to measure a recall with; say which, such as --recall 0.95")
    queries = () if sample is None else tuple(read_queries(sample).values())
    with ExitStack() as stack:
        listening = stack.enter_context(_listen(host, port))
        loaded = None
        if model is not None:  # torch comes with it, of which a server without a model needs nothing
            from neural_sparse.search.updating import DocumentModel

            loaded = DocumentModel(model)
        systems = _systems(named, loaded, verify, stack, recall=recall, sample=queries)
        encode = _documents(loaded) if loaded else None
        if bm25:
            if "bm25" in named:
                raise InputError("an index is called bm25; name it otherwise: NAME=FOLDER")
            systems.append(bm25_system(systems[0]))
        # What is compiled, or a transformer, is loaded before the first request, not by it.
        for system in systems:
            system.encode([""])
            system.current().search(sp.csr_matrix(np.zeros((1, len(system.names)), np.float32)), 1)
        kept = None
        if judgements is not None:
            kept = Judgements(judgements, lambda: _texts(systems[0]), split)
            stack.enter_context(alone(work_folder(Path(judgements)), judgements))
        app = make_app(systems, encode=encode, judgements=kept, key=key, hosts=hosts, workers=workers)
        listening.listen(BACKLOG)
        port = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{port}/ serves {', '.join(system.name for system in systems)}", flush=True)
        settle_process()
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn sends them on when all is finished
            signal.signal(number, lambda *_: None)
        http_server(app).run(sockets=[listening])


def http_server(app: ASGIApp) -> uvicorn.Server:
    """Of a listening socket; with uvloop, where that is installed."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="on",
            ws="none",
            proxy_headers=False,  # who asks does not matter here
            server_header=False,
            backlog=BACKLOG,
        )
    )


def settle_process() -> None:
    """What a process does once that serves: collections of garbage pass over what was there before the first request
    (all of numba: a third of a search's processor time)."""
    gc.collect()
    gc.freeze()


def _named(indexes: Iterable[str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for one in indexes:
        name, equals, folder = one.partition("=")
        path = Path(folder if equals else one)
        name = name if equals else path.resolve().name
        if not name or not name.isprintable() or len(name) > 100:
            raise InputError(f"{one!r}: a name has 1 to 100 printable characters")
        if name in named:
            raise InputError(f"two indexes are called {name}; give one another name: NAME={path}")
        named[name] = path
    return named


def _systems(
    named: Mapping[str, Path],
    model: DocumentModel | None,
    verify: bool,
    stack: ExitStack,
    *,
    recall: float | None = None,
    sample: Sequence[str] = (),
) -> list[System]:
    """
    Raises:
        InputError: none of the indexes was encoded with the model, or the recall cannot be had of one of them.
    """
    from neural_sparse.search.changes import changing

    systems = []
    other: InputError | None = None
    for name, folder in named.items():
        try:
            encode = None if model is None else model.encode_for(manifest_of(folder), folder)
        except InputError as error:
            encode, other = None, other or error
        if encode is None:
            systems.append(encoded_system(name, folder, verify, recall=recall, sample=sample))
        else:
            collection = stack.enter_context(changing(folder, verify))
            systems.append(changing_system(name, collection, encode, recall=recall, sample=sample))
    if other is not None and not any(system.changing for system in systems):
        raise other
    return systems


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends at once (TCP_NODELAY) only where the protocol is named; else an answer's body waits for the client
    # to acknowledge its head, 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        reason = error.strerror or error
        raise InputError(
            f"cannot listen on {host}:{port}: {reason}; give another --host or --port"
        ) from error
    return listening


def _documents(model: DocumentModel) -> Encode:
    encoder = model.encoder

    def encode(texts: Sequence[str]) -> list[list[tuple[str, float]]]:
        vectors = encoder.encode_documents(list(texts))
        return [encoder.top_terms(vectors[row]) for row in range(vectors.shape[0])]

    return encode


def _texts(system: System) -> Iterable[tuple[str, str]]:
    snapshot = system.current()
    for row in snapshot.rows():
        yield snapshot.doc_id(int(row)), snapshot.text(int(row))
