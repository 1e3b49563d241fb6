"""Models behind HTTP: a key that is never shown, limits of rate, retries that the server can steer."""

from __future__ import annotations

import email.utils
import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import Any

from neural_sparse.config import EndpointSettings
from neural_sparse.errors import InputError

logger = logging.getLogger(__name__)

CONCURRENCY = 4
TIMEOUT = 60.0  # seconds
RETRIES = 6
LONGEST_WAIT = 60.0  # seconds between two tries, unless the server asks for more
LONGEST_ASKED = 600.0  # seconds that a server may ask us to wait
PASSING = (408, 425, 429, 500, 502, 503, 504)
BYTES_PER_TOKEN = 4  # roughly, over languages and tokenizers


def estimated_tokens(texts: Iterable[str]) -> int:
    """A quarter of the bytes in UTF-8, and at least one token a text; only the endpoint knows better.

    >>> estimated_tokens(["word", "a longer text"])
    4
    """
    return sum(max(1, len(text.encode()) // BYTES_PER_TOKEN) for text in texts)


class Endpoint:
    """JSON requests to one API, from several threads.

    Args:
        settings: address, key's variable, limits; see `EndpointSettings`.
        who: names it in messages.

    Attributes:
        tokens: that the endpoint said it counted ("usage").

    Raises:
        InputError: settings that cannot be; httpx2 is not installed.
    """

    def __init__(self, settings: EndpointSettings, who: str) -> None:
        settings.check_endpoint(who)
        self.settings, self.who = settings, who
        self.concurrency = settings.concurrency or CONCURRENCY
        self.tokens = 0
        self._timeout = settings.timeout or TIMEOUT
        self._retries = RETRIES if settings.retries is None else settings.retries
        self._lock = threading.Lock()
        self._next = 0.0  # when the next request may go out, by the monotonic clock
        self._answered = False

    def require_key(self) -> str | None:
        """The key, read when it is needed.

        Raises:
            InputError: its variable is not set.
        """
        name = self.settings.api_key_env
        if name is None:
            return None
        key = os.environ.get(name, "").strip()
        if not key:
            raise InputError(
                f"{self.who}: the environment variable {name} (api_key_env) is not set: it holds the key"
            )
        return key

    def post(self, path: str, body: dict[str, Any], tokens: int = 0) -> Any:
        """The answer, parsed; tried again while what fails may pass.

        Args:
            path: below the API's base, such as "embeddings".
            tokens: estimated, for the limit by the minute.

        Raises:
            InputError: the endpoint is down, refuses, stays too busy or slow, or answers with something else than JSON.
        """
        key, url = self.require_key(), self._address(path)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        for tried in range(self._retries + 1):
            self._wait_for_turn(tokens)
            problem, asked = self._try(url, body, headers)
            if problem is None:
                return asked
            problem = _without(problem, key)
            if tried == self._retries:
                times = "once" if tried == 0 else f"{tried + 1} times"
                raise InputError(f"{self.who}: {url} {problem}, tried {times}; {self._advice(problem)}")
            pause = min(LONGEST_WAIT, 2.0**tried) * random.uniform(0.75, 1.25) if asked is None else asked
            if pause > LONGEST_ASKED:
                raise InputError(
                    f"{self.who}: {url} {problem} and asks to wait {pause:,.0f} seconds: its quota may be used up. "
                    "What was answered is kept; the same command goes on later"
                )
            logger.info("%s: %s; again in %.1f s", self.who, problem, pause)
            with self._lock:  # everybody waits: the others would be refused as well
                self._next = max(self._next, time.monotonic() + pause)
        raise AssertionError

    def _try(self, url: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[str | None, Any]:
        """None and the answer; or what went wrong in passing, and the seconds the server asks to wait, if it does."""
        import httpx2

        key = headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            response = self._client.post(url, json=body, headers=headers)
        except httpx2.TimeoutException:
            return f"gave no answer within {self._timeout:g} seconds", None
        except httpx2.ConnectError as error:
            if not self._answered:  # nothing has ever listened there: no use in waiting
                raise InputError(
                    f"{self.who}: nothing answers at {url} ({error}); is the server running, and the url right?"
                ) from None
            return f"cannot be reached ({error})", None
        except httpx2.TransportError as error:
            return f"broke off ({type(error).__name__}: {error})", None
        except httpx2.InvalidURL as error:
            raise InputError(f"{self.who}: {url} is no address: {error}") from None
        self._answered = True
        code, said = response.status_code, _without(_said(response.text), key)
        if code in PASSING:
            return f"answered {code} {said}".rstrip(), _retry_after(response.headers.get("Retry-After"))
        if code >= 300:
            raise InputError(f"{self.who}: {url} answered {code} {said}; {_REFUSED.get(code, _OTHER)}")
        try:
            return None, json.loads(response.content)
        except ValueError:
            kind = response.headers.get("Content-Type", "no content type")
            raise InputError(
                f"{self.who}: {url} answered with {kind} in place of JSON: {said}; url must be the base of the API, "
                "often with /v1 at its end, and no page of a proxy or a login"
            ) from None

    def count(self, answer: Any) -> None:
        """Add what the endpoint says it counted."""
        usage = answer.get("usage") if isinstance(answer, dict) else None
        if isinstance(usage, dict) and isinstance(total := usage.get("total_tokens"), int):
            with self._lock:
                self.tokens += total

    def cost(self, tokens: float) -> str:
        """ ", cost about 0.12 at 0.02 per million tokens" where a price is given."""
        price = self.settings.price_per_million_tokens
        if price is None:
            return ""
        cost = tokens * price / 1e6
        return f", cost {f'about {cost:,.2f}' if cost >= 0.01 else 'less than 0.01'} at {price:g} per million tokens"

    def _address(self, path: str) -> str:
        base = str(self.settings.url).rstrip("/")
        return base if base.endswith(f"/{path}") else f"{base}/{path}"

    def _wait_for_turn(self, tokens: int) -> None:
        per_minute = [
            (1.0, self.settings.requests_per_minute),
            (float(tokens), self.settings.tokens_per_minute),
        ]
        gap = max((60.0 * amount / limit for amount, limit in per_minute if limit), default=0.0)
        with self._lock:
            now = time.monotonic()
            mine = max(self._next, now)
            self._next = max(self._next, mine + gap) if gap else self._next
        while (left := mine - time.monotonic()) > 0:
            time.sleep(left)

    @cached_property
    def _client(self) -> Any:
        try:
            import httpx2
        except ImportError as error:
            raise InputError(f'{self.who} needs httpx2: pip install "neural-sparse[endpoint]"') from error
        for name in ("httpx2", "httpcore2"):  # their lines of every request say nothing that is needed
            logging.getLogger(name).setLevel(logging.WARNING)
        limits = httpx2.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        return httpx2.Client(timeout=self._timeout, limits=limits, follow_redirects=False)

    def _advice(self, problem: str) -> str:
        if "429" in problem:
            return "ask for less: concurrency, requests_per_minute, tokens_per_minute"
        if "within" in problem:
            return "raise timeout, or send less at once: batch_size, concurrency"
        return "what was answered is kept: the same command goes on once the endpoint is well"

    def threads(
        self,
        start: Callable[..., Callable[[Any, Callable[[int], object]], Any]],
        arguments: tuple[Any, ...],
        pieces: Iterable[Any],
        workers: int | None = None,
        advance: Callable[[int], object] = lambda items: None,
    ) -> Iterator[tuple[Any, Any]]:
        """`concurrency` pieces at once, as an engine of `neural_sparse.work.workers`, in threads of this process."""
        do, told = start(*arguments, 0), threading.Lock()

        def tell(items: int) -> None:
            with told:
                advance(items)

        waiting = iter(pieces)
        with ThreadPoolExecutor(self.concurrency) as pool:
            running: dict[Future[Any], Any] = {}
            try:
                while True:
                    for piece in islice(waiting, self.concurrency - len(running)):
                        running[pool.submit(do, piece, tell)] = piece
                    if not running:
                        return
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield running.pop(future), future.result()
            finally:
                for future in running:
                    future.cancel()


_OTHER = "is the url the base of an API of this form, and the model's name right?"
_REFUSED = {
    401: "is the key in the variable that api_key_env names the right one?",
    403: "is the key in the variable that api_key_env names allowed to use this model?",
    400: "texts beyond the model's limit are cut by max_characters; smaller batches: batch_size",
    413: "send less: batch_size, or cut long texts by max_characters",
    422: "texts beyond the model's limit are cut by max_characters; smaller batches: batch_size",
}


def _said(text: str) -> str:
    """What an answer says, short: its error's message, or its beginning."""
    try:
        found = json.loads(text)
        error = found.get("error", found.get("message", found)) if isinstance(found, dict) else found
        message = error.get("message", error) if isinstance(error, dict) else error
        text = message if isinstance(message, str) else json.dumps(message)
    except ValueError:
        pass
    return f"({' '.join(text.split())[:200]})" if text.strip() else ""


def _without(text: str, key: str | None) -> str:
    """A server may repeat the key in its message."""
    return text.replace(key, "***") if key else text


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which has a number or a date (RFC 9110)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
