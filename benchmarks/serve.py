"""What HTTP adds to a search: a server on the loopback against the same index in this process.

    python benchmarks/serve.py                                        # 1M documents x 119 terms, 200 clients, 60 s
    python benchmarks/serve.py --documents 60000 --seconds 10         # a minute

Documents and queries are those of benchmarks/search.py, queries sent as tokens with weights. The server is a
process of its own; the clients share this one's, each with a connection that stays open. First in-process: one
query after another (latency) and all cores (throughput). Then over HTTP: clients that ask as fast as they are
answered (saturation), and requests that arrive at random moments at half that rate (open loop): a latency counts
from the moment of arrival, so one that waits for a free connection is not told shorter. Clients take processor time
from the server, on two cores a good part of it: so processor seconds are reported too, of a query in this process
and of a request in the server's, whose ratio is what the throughput would be beside clients on other machines.
Throughput in-process is that of one call for all queries, and of a thread per core that makes a call for each.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import select
import selectors
import socket
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from search import VOCABULARY, doc_ids, machine, shards, vectors

from neural_sparse.io.files import write_json
from neural_sparse.search import SparseIndex
from neural_sparse.search.index import available_cores
from neural_sparse.search.snapshot import Segment, Snapshot

K = 10
ROUNDS = 3
TEXTS = np.empty(0, np.int64)
NAMES = [f"t{term}" for term in range(VOCABULARY)]


def snapshot_of(folder: Path) -> Snapshot:
    index = SparseIndex.load(folder, verify=False)
    return Snapshot([Segment(index, {}, TEXTS)])  # type: ignore[arg-type]


def serve(folder: Path, listening: socket.socket, ready: Any) -> None:
    """The server's process."""
    from neural_sparse.serve import System, make_app
    from neural_sparse.serve.run import http_server, settle_process

    snapshot = snapshot_of(folder)
    system = System(
        "index",
        "model",
        lambda: snapshot,
        names=NAMES,
        encode=lambda _: sp.csr_matrix((0, 0)),
        spans=lambda _: [],
    )
    snapshot.search(
        sp.csr_matrix(np.zeros((1, VOCABULARY), np.float32)), 1
    )  # loads what is compiled, as `serve` does
    settle_process()
    listening.listen(2048)
    ready.set()
    http_server(make_app([system])).run(sockets=[listening])


def requests_of(queries: sp.csr_matrix) -> list[bytes]:
    requests = []
    for row in range(queries.shape[0]):
        query = queries[row]
        tokens = {NAMES[term]: float(weight) for term, weight in zip(query.indices, query.data, strict=True)}
        body = json.dumps({"query_tokens": tokens, "k": K}).encode()
        lines = (
            "POST /search HTTP/1.1",
            "Host: 127.0.0.1",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        requests.append("\r\n".join((*lines, "", "")).encode() + body)
    return requests


def _length(head: bytes) -> int:
    line = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return int(line.split(b":")[1])


def _whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    return bool(end) and len(body) == _length(head)


class Clients:
    """Connections that stay open, each with one request at a time."""

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self.port = port
        self.requests = requests
        self.latencies: list[float] = []
        self.errors = 0

    def closed(self, clients: int, seconds: float) -> float:
        """Requests per second where each client asks again once it is answered: one loop over plain sockets, which
        takes a tenth of asyncio's processor time from the server.
        """
        ready = selectors.DefaultSelector()
        sockets = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(clients)]
        started = time.perf_counter()
        for number, connection in enumerate(sockets):
            ready.register(connection, selectors.EVENT_READ)
            connection.sendall(self.requests[number % len(self.requests)])
        sent, done = clients, 0
        while time.perf_counter() < started + seconds:
            for key, _ in ready.select(1):
                connection = key.fileobj
                self._receive(connection)
                done += 1
                connection.sendall(self.requests[sent % len(self.requests)])
                sent += 1
        passed = time.perf_counter() - started
        for connection in sockets:
            connection.close()
        return done / passed

    def _receive(self, connection: socket.socket) -> None:
        received = b""
        while not _whole(received):
            part = connection.recv(1 << 16)
            if not part:
                raise ConnectionError("the server closed a connection")
            received += part
        self.errors += not received.startswith(b"HTTP/1.1 200")

    def open(self, clients: int, rate: float, seconds: float, seed: int) -> None:
        """Arrivals of a Poisson process; latencies from each one's moment, so that one that waits for a connection is
        not told shorter.
        """
        # In turn, for the server closes a connection that is idle for five seconds.
        free = deque(socket.create_connection(("127.0.0.1", self.port)) for _ in range(clients))
        gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds))
        arrivals: list[float] = (time.perf_counter() + np.cumsum(gaps)).tolist()
        began: dict[socket.socket, float] = {}
        sent = 0
        while sent < len(arrivals) or began:
            while sent < len(arrivals) and arrivals[sent] <= time.perf_counter() and free:
                connection = free.popleft()
                began[connection] = arrivals[sent]
                connection.sendall(self.requests[sent % len(self.requests)])
                sent += 1
            wait = arrivals[sent] - time.perf_counter() if sent < len(arrivals) and free else 1.0
            # select counts microseconds, epoll milliseconds.
            for connection in select.select(list(began), (), (), max(0.0, wait))[0]:
                self._receive(connection)
                self.latencies.append(time.perf_counter() - began.pop(connection))
                free.append(connection)
        for connection in free:
            connection.close()


def resident(process: int) -> int:
    """Greatest memory of a process so far, bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def private(process: int) -> int:
    """Memory of a process now that is no mapped file, bytes: without the index, and without code of libraries."""
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def processor_seconds(process: int) -> float:
    """Of all threads of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def in_process(snapshot: Snapshot, queries: sp.csr_matrix) -> dict[str, float]:
    rows = [queries[row] for row in range(queries.shape[0])]
    index = snapshot.segments[0].index
    index.search(queries, K)  # makes block maxima, as the clients that warm the server do
    times = []
    for row in rows:
        started = time.perf_counter()
        snapshot.search(row, K)
        times.append(time.perf_counter() - started)
    started, used = time.perf_counter(), time.process_time()
    for _ in range(ROUNDS):
        index.search(queries, K)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    searches = ROUNDS * queries.shape[0]

    def one_by_one(part: list[sp.csr_matrix]) -> None:
        for row in part:
            snapshot.search(row, K)

    cores = available_cores()
    parts = [ROUNDS * rows[core::cores] for core in range(cores)]
    with ThreadPoolExecutor(cores) as threads:
        began = time.perf_counter()
        list(threads.map(one_by_one, parts))
        each = time.perf_counter() - began
    return {
        "p50_ms": 1000 * float(np.percentile(times, 50)),
        "p99_ms": 1000 * float(np.percentile(times, 99)),
        "per_second": searches / seconds,
        "per_second, a call each": searches / each,
        "processor ms": 1000 * used / searches,
    }


def search_alone(folder: Path, queries: sp.csr_matrix, searched: Any, done: Any) -> None:
    """A process that searches and does nothing else, for its memory."""
    snapshot = snapshot_of(folder)
    for _ in range(2):
        snapshot.search(queries, K)
    searched.set()
    done.wait()


def memory_in_process(context: Any, folder: Path, queries: sp.csr_matrix) -> int:
    """Greatest memory of a process that answers the same queries without a server, bytes."""
    searched, done = context.Event(), context.Event()
    process = context.Process(target=search_alone, args=(folder, queries, searched, done))
    process.start()
    searched.wait()
    memory = resident(process.pid or 0)
    done.set()
    process.join()
    return memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "index"
        SparseIndex.build(shards(options.documents), doc_ids(options.documents), folder=folder)
        report = measure(folder, options)
    for name, value in report.items():
        print(f"{name:28} {value if isinstance(value, str) else f'{value:,.2f}'}")
    if options.output:
        write_json(options.output, report)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    queries = vectors(2000, 8, seed=1, spread=0)
    snapshot = snapshot_of(folder)
    alone = in_process(snapshot, queries)
    context = multiprocessing.get_context("spawn")
    searching = memory_in_process(context, folder, queries)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    ready = context.Event()
    server = context.Process(target=serve, args=(folder, listening, ready))
    server.start()
    ready.wait()
    gc.collect()
    gc.freeze()  # what this process has loaded is not looked through between two requests
    port = listening.getsockname()[1]
    clients = Clients(port, requests_of(queries))
    try:
        clients.closed(options.clients, min(5.0, options.seconds))  # warm
        used = processor_seconds(server.pid or 0)
        started = time.perf_counter()
        saturation = clients.closed(options.clients, options.seconds)
        requests = saturation * (time.perf_counter() - started)
        used = processor_seconds(server.pid or 0) - used
        clients.open(options.clients, saturation / 2, options.seconds, seed=0)
        memory, own = resident(server.pid or 0), private(server.pid or 0)
    finally:
        server.terminate()
        server.join()
    return {
        "machine": machine(),
        "documents": options.documents,
        **{f"in-process {name}": value for name, value in alone.items()},
        "http per_second": saturation,
        "share of in-process": saturation / alone["per_second"],
        "share of calls for each": saturation / alone["per_second, a call each"],
        "server processor ms": 1000 * used / requests,
        "in-process / server, processor": alone["processor ms"] * requests / (1000 * used),
        "http rate, open loop": saturation / 2,
        "http p50_ms": 1000 * float(np.percentile(clients.latencies, 50)),
        "http p99_ms": 1000 * float(np.percentile(clients.latencies, 99)),
        "errors": clients.errors,
        "in-process MB": searching / 1e6,
        "server MB": memory / 1e6,
        "server MB, no file's": own / 1e6,
        "index MB": snapshot.nbytes / 1e6,
    }


if __name__ == "__main__":
    main()
