"""Load on a search engine, open loop: requests go out when they are due, however slow the answers are.

A loop that waits for an answer before it sends the next request slows down with the server, and what would have been
slow is never asked (Gil Tene's "coordinated omission"; Schroeder, Wierman and Harchol-Balter 2006, "Open versus closed:
a cautionary tale"). Here every request has its time before the run begins, and its latency counts from that time,
whether it waited on the server or for a free connection.

This module knows no engine: a system is a callable per worker that sends one request and says what came of it.
"""

from __future__ import annotations

import gc
import itertools
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from neural_sparse.errors import InputError
from neural_sparse.evaluation.tail import Quantile, blocked_quantiles, quantile_ratios

Floats = npt.NDArray[np.float64]
Arrivals = Literal["poisson", "fixed"]
QUANTILES = (0.5, 0.9, 0.99, 0.999)
OK = ""
NOT_SENT = "not sent"  # a system so far behind that the slice was given up
PATIENCE = 3.0  # slices


class Answer(NamedTuple):
    """What came of a request.

    Attributes:
        error: kind of failure, such as "429" or "timeout"; "" for an answer.
        took: milliseconds that the engine says it worked; nan if it says nothing.
    """

    error: str = OK
    took: float = math.nan


Send = Callable[[int], Answer]


@dataclass(frozen=True)
class System:
    """An engine under load.

    Attributes:
        connect: makes one worker's own sender, with a connection of its own: number of a query in, `Answer` out. It may
            raise nothing but what should end the run.
    """

    name: str
    connect: Callable[[], Send]


@dataclass(frozen=True)
class LoadOptions:
    """How load is made.

    Attributes:
        duration: seconds that count, per system and cell (rate, clients).
        warmup: seconds before, at the same rate, which do not count.
        arrivals: "poisson", independent users; "fixed", one request every 1/rate seconds.
        slice_seconds: systems take turns after so many seconds, so that both meet the same conditions.
        lag_limit: greatest share of the p99 latency that the generator's own delay (p99) may be; inf: any.
        seed: of arrivals, order of queries and resampling.
    """

    duration: float = 60.0
    warmup: float = 5.0
    arrivals: Arrivals = "poisson"
    slice_seconds: float = 5.0
    lag_limit: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.duration > 0 or not self.slice_seconds > 0 or self.warmup < 0:
            raise InputError("duration and slices are longer than 0 seconds, and the warm-up is not negative")
        if self.arrivals not in ("poisson", "fixed"):
            raise InputError(f"arrivals are poisson or fixed, not {self.arrivals!r}")
        if not self.lag_limit > 0:
            raise InputError(f"the lag limit is a share above 0, not {self.lag_limit}")

    @property
    def slices(self) -> int:
        return max(1, round(self.duration / self.slice_seconds))

    @property
    def seconds(self) -> float:
        """Of one slice."""
        return self.duration / self.slices


@dataclass(frozen=True)
class Load:
    """One system at one rate with so many connections.

    Attributes:
        asked, sent, achieved: requests per second: asked for, due by the schedule, and begun by the end of their slice.
        latency: milliseconds from the moment a request was due to its answer; a request that failed counts as never
            answered. None of a generator that lagged.
        service: milliseconds from the moment it was sent.
        took: milliseconds that the engine says it worked, of answers.
        errors: requests by kind of failure.
        busy: share of the time in which connections were in use.
        lag: milliseconds by which the generator itself was late, 99th percentile.
        saturated: the system, or the number of connections, did not keep up.
        remark: why there are no figures.
    """

    system: str
    asked: float
    clients: int
    requests: int
    sent: float
    achieved: float
    latency: dict[str, Quantile] | None
    service: dict[str, Quantile] | None
    took: dict[str, Quantile] | None
    errors: dict[str, int]
    busy: float
    lag: float
    saturated: bool
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Cell:
    """All systems at one rate with so many connections, and how the first relates to each other one.

    Attributes:
        ratios: name of the other system -> "p50", ... -> latency of the first over latency of the other.
    """

    rate: float
    clients: int
    loads: list[Load]
    ratios: dict[str, dict[str, Quantile]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def arrival_times(
    rate: float, seconds: float, arrivals: Arrivals = "poisson", rng: np.random.Generator | None = None
) -> Floats:
    """Seconds from the start at which requests are due, in [0, seconds), ascending.

    Args:
        rate: requests per second.

    >>> arrival_times(4, 1, "fixed").tolist()
    [0.0, 0.25, 0.5, 0.75]
    """
    if not rate > 0 or not math.isfinite(rate):
        raise InputError(f"a rate is above 0 requests per second, not {rate}")
    if arrivals == "fixed":
        due: Floats = np.arange(math.ceil(rate * seconds - 1e-9)) / rate
        return due
    rng = rng or np.random.default_rng(0)
    most = int(rate * seconds + 10 * math.sqrt(rate * seconds) + 20)
    due = np.cumsum(rng.exponential(1 / rate, most))
    return due[due < seconds]


def measure_load(
    systems: Sequence[System],
    queries: int,
    rates: Sequence[float],
    clients: Sequence[int],
    options: LoadOptions | None = None,
    report: Callable[[float], object] = lambda seconds: None,
) -> list[Cell]:
    """Every rate with every number of connections; systems take turns slice by slice within each.

    Args:
        queries: how many there are; requests go through them in a random order, the same for all systems.
        clients: connections, each with one request at a time. A request that is due when all are busy waits, and its
            latency counts that.
        report: is given the seconds of work that were just done, see `planned_seconds`.

    Raises:
        InputError: no system, rate, number of clients or query; what a system's sender raises.
    """
    options = options or LoadOptions()
    if not systems or not rates or not clients or queries < 1:
        raise InputError("load needs a system, a rate, a number of clients and at least one query")
    if any(count < 1 for count in clients):
        raise InputError(f"at least one client, please, not {min(clients)}")
    if len({system.name for system in systems}) < len(systems):
        raise InputError("two systems of one name")
    cells = []
    with _steady():
        for number, (rate, count) in enumerate(itertools.product(rates, clients)):
            rng = np.random.default_rng([options.seed, number])
            cells.append(
                _cell(systems, queries, rate=rate, clients=count, options=options, rng=rng, report=report)
            )
    return cells


def planned_seconds(systems: int, rates: int, clients: int, options: LoadOptions) -> float:
    """What `measure_load` takes if nothing is saturated."""
    return systems * rates * clients * (options.duration + options.warmup)


def _cell(
    systems: Sequence[System],
    queries: int,
    rate: float,
    clients: int,
    options: LoadOptions,
    rng: np.random.Generator,
    report: Callable[[float], object],
) -> Cell:
    senders = {system.name: [system.connect() for _ in range(clients)] for system in systems}
    for system in systems:
        for place, send in enumerate(senders[system.name]):  # opens the connection
            send(place % queries)
        if options.warmup:
            due = arrival_times(rate, options.warmup, options.arrivals, rng)
            _run_slice(senders[system.name], due, rng.integers(0, queries, len(due)), options.warmup)
            report(options.warmup)
    slices: dict[str, list[_Slice]] = {system.name: [] for system in systems}
    for turn in range(options.slices):
        due = arrival_times(rate, options.seconds, options.arrivals, rng)
        order = np.resize(rng.permutation(queries), len(due))
        for place in range(len(systems)):  # who is first changes from slice to slice
            name = systems[(turn + place) % len(systems)].name
            slices[name].append(_run_slice(senders[name], due, order, options.seconds))
            report(options.seconds)
    parts = {name: _Part.of(done, options.seconds) for name, done in slices.items()}
    loads = [
        _load(system.name, rate, clients=clients, part=parts[system.name], options=options)
        for system in systems
    ]
    ratios = {}
    for other in loads[1:]:
        if loads[0].latency is not None and other.latency is not None:
            first, second = parts[loads[0].system], parts[other.system]
            ratios[other.system] = quantile_ratios(
                (first.latency, first.blocks), (second.latency, second.blocks), QUANTILES, options.seed
            )
    return Cell(rate, clients, loads, ratios)


class _Slice(NamedTuple):
    """Seconds from the slice's start, [requests]; `lag` also of the clock's own probes, [probes]."""

    due: Floats
    begun: Floats
    ended: Floats
    took: Floats
    errors: list[str]
    lag: Floats


def _run_slice(senders: Sequence[Send], due: Floats, order: npt.NDArray[np.int64], seconds: float) -> _Slice:
    """One worker per sender; each takes the next request, waits until it is due, and sends it."""
    count = len(due)
    begun, ended, took = np.zeros(count), np.zeros(count), np.full(count, math.nan)
    lags = np.full(count, math.nan)
    errors = [OK] * count
    tickets = itertools.count()
    raised: list[BaseException] = []
    gc.collect()
    gc.disable()
    clock = time.perf_counter
    start = clock() + 0.02

    def work(send: Send) -> None:
        try:
            while (number := next(tickets)) < count and not raised:
                at = float(due[number])
                if clock() - start > PATIENCE * seconds:
                    begun[number] = ended[number] = clock() - start
                    errors[number] = NOT_SENT
                    continue
                if (wait := at - (clock() - start)) > 0:
                    time.sleep(wait)
                    begun[number] = now = clock() - start
                    lags[number] = now - at
                else:  # all workers were busy when it was due
                    begun[number] = clock() - start
                answer = send(int(order[number]))
                ended[number] = clock() - start
                errors[number], took[number] = answer
        except BaseException as error:
            raised.append(error)

    probes: list[float] = []
    done = threading.Event()

    def probe() -> None:  # when all workers are busy, nobody else would notice that this process is late
        while not done.is_set():
            asked = clock()
            time.sleep(0.005)
            probes.append(clock() - asked - 0.005)

    threads = [threading.Thread(target=work, args=(send,), daemon=True) for send in senders]
    watch = threading.Thread(target=probe, daemon=True)
    try:
        watch.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if (rest := seconds - (clock() - start)) > 0:
            time.sleep(rest)
    finally:
        done.set()
        watch.join()
        gc.enable()
    if raised:
        raise raised[0]
    return _Slice(
        due, begun, ended=ended, took=took, errors=errors, lag=np.concatenate([lags[~np.isnan(lags)], probes])
    )


@dataclass(frozen=True)
class _Part:
    """Slices of one system, joined; times in milliseconds [requests]."""

    slices: list[_Slice]
    latency: Floats
    service: Floats
    took: Floats
    blocks: npt.NDArray[np.int64]

    @classmethod
    def of(cls, slices: list[_Slice], seconds: float) -> _Part:
        """Blocks are the seconds in which requests were due."""
        failed = np.array([bool(error) for one in slices for error in one.errors], dtype=bool)
        latency = 1000 * np.concatenate([one.ended - one.due for one in slices])
        service = 1000 * np.concatenate([one.ended - one.begun for one in slices])
        per_slice = max(1, math.ceil(seconds - 1e-9))
        blocks = np.concatenate(
            [
                place * per_slice + np.minimum(one.due.astype(np.int64), per_slice - 1)
                for place, one in enumerate(slices)
            ]
        )
        return cls(
            slices,
            np.where(failed, np.inf, latency),
            service=np.where(failed, np.inf, service),
            took=np.concatenate([one.took for one in slices]),
            blocks=blocks,
        )


def _load(name: str, rate: float, clients: int, part: _Part, options: LoadOptions) -> Load:
    total = options.duration
    requests = len(part.latency)
    due = np.concatenate([one.due for one in part.slices])
    begun = np.concatenate([one.begun for one in part.slices])
    ended = np.concatenate([one.ended for one in part.slices])
    in_time = int(np.count_nonzero(begun < options.seconds))
    busy = float(np.sum(np.minimum(ended, options.seconds) - np.minimum(begun, options.seconds)))
    lag = 1000 * float(np.quantile(np.concatenate([one.lag for one in part.slices]), 0.99))
    errors = dict(Counter(error for one in part.slices for error in one.errors if error).most_common())
    achieved = in_time / total
    busy_share = min(1.0, busy / (clients * total))
    # Of few requests, some are always waiting at a slice's end.
    late = requests - in_time
    saturated = late > max(0.05 * requests, 2 * len(part.slices)) or busy_share > 0.95
    answered = part.took[~np.isnan(part.took)]
    answered_blocks = part.blocks[~np.isnan(part.took)]
    remark = ""
    if not requests:
        remark = "no request was due: take a higher rate or a longer duration"
    elif len(due) and (too_late := _lagged(part.latency, lag, options.lag_limit)):
        remark = too_late
    figures = None if remark else blocked_quantiles(part.latency, part.blocks, QUANTILES, options.seed)
    return Load(
        system=name,
        asked=rate,
        clients=clients,
        requests=requests,
        sent=requests / total,
        achieved=achieved,
        latency=figures,
        service=None if remark else blocked_quantiles(part.service, part.blocks, QUANTILES, options.seed),
        took=blocked_quantiles(answered, answered_blocks, QUANTILES, options.seed) if len(answered) else None,
        errors=errors,
        busy=busy_share,
        lag=lag,
        saturated=saturated,
        remark=remark,
    )


def _lagged(latency: Floats, lag: float, limit: float) -> str:
    """Why figures would be the generator's and not the system's; "" if they are the system's."""
    finite = latency[np.isfinite(latency)]
    if not len(finite):
        return ""
    tail = float(np.quantile(finite, 0.99))
    if lag <= 1.0 or lag <= limit * tail:
        return ""
    return (
        f"the load generator was late itself: {lag:.1f} ms in the 99th percentile, the latency's being {tail:.1f}; "
        "run it on another machine than the server, or ask for less"
    )


@contextmanager
def _steady() -> Any:
    """A thread that wakes up gets its turn at once, and not after 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
