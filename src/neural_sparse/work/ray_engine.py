"""The work of `in_workers` on a Ray cluster, joined or started here: one actor per device, replaced when it dies."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from neural_sparse.errors import InputError

PATIENCE_SECONDS = 45.0  # for a cluster that does not answer
_PROBE = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')"


def connect(address: str | None = None, **options: Any) -> None:
    """Join the cluster at `address`, unless this process belongs to one already.

    Args:
        address: HOST:PORT of a cluster this machine is a node of, or ray://HOST:PORT; "auto" finds the one
            this machine is a node of; "local" starts one on this machine, which ends with this process.
            None: the environment variable RAY_ADDRESS, or else "local".
        options: of `ray.init`.

    Raises:
        InputError: Ray is not installed, nothing answers at the address (within a minute), or what answers
            has another version of Ray or Python.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing calls home unasked
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray 3 does; silences its notice
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "--engine ray needs Ray: install the extra, pip install 'neural-sparse[ray]'"
        ) from error
    if ray.is_initialized():
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address not in ("auto", "local"):
        _check_reachable(address)
    if address == "local":
        options = {"include_dashboard": False, **options}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError, SystemExit) as error:
        raise _not_joined(address, str(error)) from error


def _check_reachable(address: str) -> None:
    """Find out what `ray.init` would need two minutes for, and would end the process over."""
    match = re.fullmatch(r"(?:ray://)?\[?([^\[\]/]+)\]?:(\d+)", address)
    if match is None:
        raise InputError(f"--address {address}: write HOST:PORT, ray://HOST:PORT, auto or local")
    try:
        socket.create_connection((match[1], int(match[2])), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at {address} ({error}); `ray status` on its head node shows the address, "
            "and its port must be open to this machine"
        ) from error
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, address], capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"something listens at {address}, but does not answer as a Ray cluster within {PATIENCE_SECONDS:.0f} s"
        ) from error
    if done.returncode:
        raise _not_joined(address, done.stderr)


def _not_joined(address: str, message: str) -> InputError:
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    if (at := message.find("Version mismatch")) >= 0:
        return InputError(
            f"the cluster at {address} has another version of Ray or Python: {' '.join(message[at:].split())}"
        )
    where = (
        "cannot start Ray on this machine" if address == "local" else f"cannot join the cluster at {address}"
    )
    return InputError(f"{where}: {lines[-1] if lines else 'no reason given'}")


logger = logging.getLogger(__name__)

AHEAD = 2  # pieces per actor: one at work, one that waits
ATTEMPTS = 8  # at one piece: more deaths are no accident
POLL_SECONDS = 0.5
VERSIONS, BEGIN = -2, -1  # in place of a piece's ticket
START_SECONDS = 120.0  # without any actor that answers


@dataclass(eq=False)
class _Actor:
    """One worker's place: the actor that fills it now, and what it is at.

    `started` as soon as its process answers, `ready` when it has loaded what the work needs.
    """

    number: int
    handle: Any
    started: bool = False
    ready: bool = False
    tickets: deque[int] = field(default_factory=deque)


class RayEngine:
    """Does pieces of work on a Ray cluster, as `workers.in_workers` does them in processes.

    Inputs must be readable on every node (a shared disk, a URL, a hub id); results come back through the
    object store, at most two per actor at a time, which Ray spills to disk when memory is short.

    Args:
        address: see `ray_cluster.connect`.
        threads: CPU cores per actor, and threads it computes with.
        gpus: whether an actor takes a GPU where the cluster has any.
        options: of `ray.init`.

    Raises:
        InputError: as `connect`.
    """

    def __init__(
        self, address: str | None = None, *, threads: int = 1, gpus: bool = True, **options: Any
    ) -> None:
        connect(address, **options)
        self.threads = threads
        self.gpus = gpus

    def without_gpus(self) -> RayEngine:
        """The same cluster, for work that runs on CPUs."""
        return RayEngine(threads=self.threads, gpus=False)

    def slots(self) -> int:
        """Actors that the cluster has room for: one per GPU, or per `threads` cores of one node."""
        import ray

        kind, each = ("GPU", 1) if self.on_gpus(ray.cluster_resources()) else ("CPU", self.threads)
        return sum(int(node["Resources"].get(kind, 0)) // each for node in ray.nodes() if node["Alive"])

    def describe(self) -> str:
        """Nodes and room, in words."""
        import ray

        nodes = sum(node["Alive"] for node in ray.nodes())
        kind = "a GPU" if self.on_gpus(ray.cluster_resources()) else f"{self.threads} CPU threads"
        return f"{nodes} nodes, room for {self.slots()} workers of {kind} each"

    def on_gpus(self, resources: dict[str, float]) -> bool:
        return self.gpus and resources.get("GPU", 0) >= 1

    def __call__(
        self,
        start: Callable[..., Any],
        arguments: tuple[Any, ...],
        pieces: Iterable[Any],
        workers: int | None = None,
        advance: Callable[[int], object] = lambda items: None,
    ) -> Iterator[tuple[Any, Any]]:
        """Do pieces of work, in any order.

        Args:
            start: called once in each actor as start(*arguments, worker); returns what does a piece:
                work(piece, advance). The same piece must always give the same result: an actor that dies
                (killed, out of memory, with its node) is replaced, and what it was at is done again.
            arguments: picklable; kept once per node in the object store.
            pieces: picklable; taken as they are needed.
            workers: actors; as many as the cluster has room for if None.
            advance: called with the items that the pieces report; with less than 0 for what is lost.

        Yields:
            (piece, result) as pieces are done, each once.

        Raises:
            InputError: more workers than the cluster has room for; other versions on a node than here; a
                piece at which actor after actor dies; a full object store; what `start` or the work raise
                themselves, which is not tried again.
        """
        import ray

        room = self.slots()
        if room < (workers or 1):
            raise InputError(
                f"the cluster has room for {room} workers of {self.threads} threads, not for {workers or 1}; "
                "add nodes, or use fewer --workers or --threads"
            )
        run: _Run | None = None
        try:
            run = _Run(self, ray.put((start, arguments)), iter(pieces), advance)
            yield from run(workers or room)
        except _fatal() as error:
            raise InputError(_explained(error)) from error
        finally:
            for actor in run.actors if run is not None else ():
                ray.kill(actor.handle)


class _Run:
    """The state of one call."""

    def __init__(self, engine: RayEngine, job: Any, pieces: Iterator[Any], advance: Callable) -> None:
        import ray

        from neural_sparse.work.ray_worker import RayWorker

        on_gpus = engine.on_gpus(ray.cluster_resources())
        make: Any = ray.remote  # its types know no `concurrency_groups`
        self._new = make(
            num_cpus=0 if on_gpus else engine.threads,
            num_gpus=1 if on_gpus else 0,
            concurrency_groups={"watch": 1},
            max_restarts=0,  # it is replaced here, where deaths are counted and logged
            max_task_retries=0,
        )(RayWorker)
        self._job, self._pieces, self._advance = job, pieces, advance
        self._numbers = count()
        self._given: dict[int, Any] = {}  # pieces begun and not done, by ticket
        self._again: deque[int] = deque()
        self._deaths: dict[int, int] = {}
        self._reported: dict[int, int] = {}
        self._pending: dict[Any, tuple[_Actor, int]] = {}  # references, and what is asked for
        self._watching: dict[Any, _Actor] = {}
        self._failed_starts = 0  # one after another
        self.actors: list[_Actor] = []

    def __call__(self, workers: int) -> Iterator[tuple[Any, Any]]:
        import ray

        first = self._ticket()
        if first is None:
            return
        self._again.append(first)
        since = time.monotonic()
        for number in range(workers):
            self.actors.append(_Actor(number, None))
            self._appoint(self.actors[-1])
        while self._given:
            self._hand_out()
            done, _ = ray.wait(list(self._pending), num_returns=1, timeout=POLL_SECONDS, fetch_local=False)
            for reference in done:
                if reference in self._pending:  # not of an actor that has been replaced meanwhile
                    yield from self._take(reference)
            self._watch()
            if any(actor.started for actor in self.actors):
                since = time.monotonic()
            elif time.monotonic() - since > START_SECONDS:
                raise InputError(
                    f"no worker could be started within {START_SECONDS:.0f} s; other work may hold the cluster's "
                    "CPUs or GPUs (see `ray status`)"
                )

    def _ticket(self) -> int | None:
        """Of the next piece, taken from what there is to do; None if there is none."""
        for piece in self._pieces:
            ticket = next(self._numbers)
            self._given[ticket] = piece
            return ticket
        return None

    def _appoint(self, actor: _Actor) -> None:
        actor.handle, actor.started, actor.ready = self._new.remote(actor.number), False, False
        self._pending[actor.handle.versions.remote()] = (actor, VERSIONS)

    def _hand_out(self) -> None:
        # Round after round, so that the last pieces are not all with one actor.
        for size in range(AHEAD):
            for actor in self.actors:
                if not actor.ready or len(actor.tickets) > size:
                    continue
                ticket = self._again.popleft() if self._again else self._ticket()
                if ticket is None:
                    return
                actor.tickets.append(ticket)
                self._pending[actor.handle.do.remote(ticket, self._given[ticket])] = (actor, ticket)

    def _take(self, reference: Any) -> Iterator[tuple[Any, Any]]:
        import ray
        from ray.exceptions import RayTaskError

        actor, ticket = self._pending.pop(reference)
        try:
            found = ray.get(reference)
        except InputError as error:  # Ray's subclass of it, with a traceback for a message
            raise InputError(str(getattr(error, "cause", error))) from error
        except _deadly() as error:
            self._replace(actor, ticket, error)
            return
        except RayTaskError as error:
            if ticket < 0:
                raise InputError(_cannot_start(error)) from error
            raise
        if ticket == VERSIONS:
            _check_versions(*found)
            actor.started = True
            self._pending[actor.handle.begin.remote(self._job)] = (actor, BEGIN)
            return
        if ticket == BEGIN:
            actor.ready = True
            self._failed_starts = 0
            return
        result, items = found
        actor.tickets.remove(ticket)
        self._deaths.pop(ticket, None)
        self._advance(items - self._reported.pop(ticket, 0))
        yield self._given.pop(ticket), result

    def _replace(self, actor: _Actor, ticket: int, error: Exception) -> None:
        import ray

        if ticket < 0:
            self._failed_starts += 1
            if self._failed_starts > ATTEMPTS:
                raise InputError(_cannot_start(error)) from error
        else:
            at = actor.tickets[0]  # what it did when it died; the others only waited
            self._deaths[at] = self._deaths.get(at, 0) + 1
            if self._deaths[at] == ATTEMPTS:
                raise InputError(
                    f"{ATTEMPTS} workers died over the same piece of work, perhaps for lack of memory: "
                    f"{_first_line(error)}; the same command goes on with what is missing"
                ) from error
            logger.warning("worker %d died (%s); another takes its place", actor.number, _first_line(error))
        for lost in actor.tickets:
            self._advance(-self._reported.pop(lost, 0))
        self._again.extendleft(reversed(actor.tickets))
        actor.tickets.clear()
        self._pending = {key: value for key, value in self._pending.items() if value[0] is not actor}
        self._watching = {key: value for key, value in self._watching.items() if value is not actor}
        ray.kill(actor.handle)
        self._appoint(actor)

    def _watch(self) -> None:
        """Ask the actors how far they are, without waiting for an answer."""
        import ray
        from ray.exceptions import RayError

        answers, _ = (
            ray.wait(list(self._watching), num_returns=len(self._watching), timeout=0)
            if (self._watching)
            else ([], [])
        )
        for answer in answers:
            del self._watching[answer]
            try:
                ticket, items = ray.get(answer)
            except RayError:
                continue  # dead: its piece says so, too
            if ticket in self._given:
                self._advance(items - self._reported.get(ticket, 0))
                self._reported[ticket] = items
        asked = set(self._watching.values())
        for actor in self.actors:
            if actor.tickets and actor not in asked:
                self._watching[actor.handle.progress.remote()] = actor


def _deadly() -> tuple[type[Exception], ...]:
    """What an actor's end, or the loss of its result, looks like."""
    from ray import exceptions

    return (
        exceptions.RayActorError,
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.ObjectLostError,
        exceptions.OutOfMemoryError,
    )


def _fatal() -> tuple[type[Exception], ...]:
    from ray import exceptions

    return (
        exceptions.ObjectStoreFullError,
        exceptions.OutOfDiskError,
        exceptions.LocalRayletDiedError,
        exceptions.RaySystemError,
        exceptions.ActorUnschedulableError,
    )


def _explained(error: Exception) -> str:
    from ray import exceptions

    if isinstance(error, exceptions.ObjectStoreFullError | exceptions.OutOfDiskError):
        return (
            "Ray's object store is full and cannot spill to disk; make room where Ray spills (/tmp/ray, or "
            "`ray start --object-spilling-directory`), start the nodes with more --object-store-memory, or use "
            f"fewer --workers; the same command goes on with what is missing ({_first_line(error)})"
        )
    return f"Ray failed: {_first_line(error)}; the same command goes on with what is missing"


def _cannot_start(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if "No module named" in line]
    reason = lines[-1].strip() if lines else _first_line(error)
    return f"no worker can start: {reason}; install the same neural-sparse[ray] on every node of the cluster"


def _check_versions(node: str, found: dict[str, str]) -> None:
    """
    Raises:
        InputError: what is installed on `node` differs from what is installed here.
    """
    from neural_sparse.work.ray_worker import versions

    here = versions()
    if other := [
        f"{name} {found.get(name)} instead of {here[name]}" for name in here if found.get(name) != here[name]
    ]:
        raise InputError(
            f"node {node} of the cluster has {', '.join(other)}; install the same versions on every node as here"
        )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
