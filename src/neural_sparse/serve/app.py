"""The HTTP side: routes, bounds, the key, and what an error looks like."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from neural_sparse.corpora.fields import with_title
from neural_sparse.errors import InputError
from neural_sparse.search.hits import APPROXIMATE
from neural_sparse.search.index import available_cores
from neural_sparse.serve.judgements import Judgements
from neural_sparse.serve.metrics import Metrics
from neural_sparse.serve.openapi import description
from neural_sparse.serve.pool import Pool
from neural_sparse.serve.requests import (
    LARGEST_BODY,
    LARGEST_DOCUMENTS,
    LONGEST_ID,
    LONGEST_QUERY,
    Delete,
    EncodeDocuments,
    EncodeQuery,
    Judge,
    Refused,
    Search,
    Upsert,
    answer,
    parsed,
)
from neural_sparse.serve.systems import Changing, System

logger = logging.getLogger(__name__)
PAGE = Path(__file__).with_name("page")
OPEN = ("/", "/docs", "/openapi.json", "/healthz", "/static/page.js", "/static/page.css", "/static/docs.js")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
QUEUE = 512  # requests that may wait

# Texts -> (token, weight) of each, heaviest first.
Encode = Callable[[Sequence[str]], list[list[tuple[str, float]]]]


class Post:
    """A POST, with what its handlers need of Starlette's Request, in a fraction of the time."""

    method = "POST"

    def __init__(self, scope: Scope, receive: Receive) -> None:
        # Of several with one name the first, as there.
        self.headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])
        }
        self.receive = receive


class Json:
    """An answer, as Starlette's, in a fraction of the time."""

    def __init__(self, content: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.content = content
        self.status_code = status
        self.raw_headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in (headers or {}).items()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.content})


Asked = Request | Post
Reply = Response | Json
Handler = Callable[[Any], Awaitable[Reply]]


def make_app(
    systems: Sequence[System],
    *,
    encode: Encode | None = None,
    judgements: Judgements | None = None,
    key: str | None = None,
    hosts: Sequence[str] | None = None,
    queue: int = QUEUE,
    workers: int | None = None,
) -> ASGIApp:
    """An ASGI application.

    Args:
        systems: the first answers requests that name no index.
        encode: of documents; without it `POST /encode/documents` is refused.
        judgements: where the page's judgements are kept; without it the page has no buttons for them.
        key: asked for in `Authorization: Bearer KEY` or `X-API-Key`, but for the page's own files and /healthz.
        hosts: names that a browser may know this server by; None for any. On the loopback it keeps pages of other
            sites from asking it under a name of theirs.
        queue: requests that may wait for a core.
        workers: searches at a time; all cores if None.
    """
    app = _App(
        systems,
        encode=encode,
        judgements=judgements,
        key=key,
        hosts=hosts,
        queue=queue,
        workers=workers or available_cores(),
    )
    return app.application()


class _App:
    def __init__(
        self,
        systems: Sequence[System],
        encode: Encode | None,
        judgements: Judgements | None,
        key: str | None,
        hosts: Sequence[str] | None,
        queue: int,
        workers: int,
    ) -> None:
        self.systems = {system.name: system for system in systems}
        if len(self.systems) < len(systems):
            raise InputError("two indexes have the same name; give one another: NAME=FOLDER")
        self.first = systems[0].name
        self.encode = encode
        self.judgements = judgements
        self.key = key
        self.hosts = hosts
        self.metrics = Metrics()
        self.searches = Pool(workers, queue, self.metrics, "search")
        self._merger = ThreadPoolExecutor(1, thread_name_prefix="merge")
        self._merging = False
        self.slow = Pool(1, 16, self.metrics, "encode")  # a model takes all cores itself

    def application(self) -> ASGIApp:
        handlers: list[tuple[str, str, Handler]] = [
            ("POST", "/search", self.search),
            ("POST", "/encode/query", self.encode_query),
            ("POST", "/encode/documents", self.encode_documents),
            ("POST", "/documents", self.upsert),
            ("DELETE", "/documents", self.delete),
            ("GET", "/indexes", self.indexes),
            ("GET", "/document", self.document),
            ("GET", "/judgements", self.judged),
            ("POST", "/judgements", self.judge),
            ("GET", "/healthz", self.healthz),
            ("GET", "/metrics", self.show_metrics),
            ("GET", "/openapi.json", self.openapi),
        ]
        guarded = [(how, path, self._guarded(path, handler)) for how, path, handler in handlers]
        routes = [Route(path, handler, methods=[how]) for how, path, handler in guarded]
        files = {
            "/": "index.html",
            "/docs": "docs.html",
            **{f"/static/{name}": name for name in ("page.js", "page.css", "docs.js")},
        }
        routes += [
            Route(path, self._guarded(path, _file(PAGE / name)), methods=["GET"])
            for path, name in files.items()
        ]

        @asynccontextmanager
        async def lifespan(_: Starlette) -> Any:
            yield
            self.searches.close()
            self.slow.close()
            self._merger.shutdown()

        rest = Starlette(
            routes=routes, lifespan=lifespan, exception_handlers={404: self._unknown, 405: self._unknown}
        )
        posts = {path: handler for how, path, handler in guarded if how == "POST"}

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            """What is asked often goes past Starlette's routes and middleware, which take longer than a search."""
            handler = posts.get(scope["path"]) if scope.get("method") == "POST" else None
            if handler is None:
                await rest(scope, receive, send)
            else:
                response = await handler(Post(scope, receive))
                await response(scope, receive, send)

        return application

    def _guarded(self, path: str, handler: Handler) -> Handler:
        seconds = self.metrics.seconds.labels(path)
        answers: dict[int, Any] = {}  # by status

        async def guarded(request: Asked) -> Reply:
            started = time.perf_counter()
            response: Reply
            try:
                self._check_sender(request, path)
                response = await handler(request)
            except Refused as error:
                response = _error(error.status, str(error))
            except InputError as error:
                full = isinstance(error.__cause__, OSError)  # the disk, not the request
                response = _error(507 if full else 422, str(error))
            except Exception:  # one request must not end the server
                logger.exception("%s %s failed", request.method, path)
                response = _error(500, "internal error; the server's log says more")
            response.raw_headers.extend(_RAW_HEADERS)
            seconds.observe(time.perf_counter() - started)
            count = answers.get(response.status_code)
            if count is None:
                count = answers[response.status_code] = self.metrics.answers.labels(
                    path, response.status_code
                )
            count.inc()
            return response

        return guarded

    async def _unknown(self, request: Request, error: Exception) -> Any:
        status = getattr(error, "status_code", 404)
        reason = "no such path; GET /docs shows what there is" if status == 404 else "not with this method"
        return _error(status, reason)

    def _check_sender(self, request: Asked, path: str) -> None:
        if self.hosts is not None:
            for name in ("host", "origin"):
                value = request.headers.get(name)
                if value is None:
                    continue
                try:
                    host = urlsplit(value if "//" in value else f"//{value}").hostname
                except ValueError:  # half an IPv6 address
                    host = None
                if host not in self.hosts:
                    raise Refused(403, f"{name}: this server answers to {', '.join(self.hosts)}")
        if self.key is not None and path not in OPEN:
            kind, _, given = request.headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer":
                given = request.headers.get("x-api-key", "")
            # A header is bytes: UTF-8 of some clients, Latin-1, as it was decoded here, of others.
            sent = given.encode("latin-1"), given.encode()
            if not any(secrets.compare_digest(one, self.key.encode()) for one in sent):
                raise Refused(401, "an API key is needed: Authorization: Bearer KEY")

    def _system(self, name: str | None) -> System:
        system = self.systems.get(self.first if name is None else name)
        if system is None:
            raise Refused(404, f"there is no such index; there are {', '.join(self.systems)}")
        return system

    async def search(self, request: Asked) -> Reply:
        return Json(await self.searches.run_together(self._search, await _body(request)))

    def _search(self, bodies: Sequence[bytes]) -> list[bytes | Exception]:
        """The answers to searches that waited together: those alike are searched for together."""
        answers: list[bytes | Exception] = [b""] * len(bodies)
        alike: dict[object, list[tuple[int, Search]]] = {}
        for place, body in enumerate(bodies):
            try:
                asked = parsed(Search, body)
            except Refused as error:
                answers[place] = error
            else:
                key = (asked.index, asked.k, asked.query is None) if asked.plain else place
                alike.setdefault(key, []).append((place, asked))
        for group in alike.values():
            places, requests = zip(*group, strict=True)
            for place, one in zip(places, self._found(requests), strict=True):
                answers[place] = one
        return answers

    def _found(self, asked: Sequence[Search]) -> list[bytes | Exception]:
        """Of one request, or of several that `System.search_together` takes."""
        try:
            system = self._system(asked[0].index)
            if len(asked) > 1:
                found = system.search_together(asked)
            else:
                fuse = asked[0].fuse
                found = [system.search(asked[0], None if fuse is None else self._system(fuse.index))]
        except Exception as error:
            if len(asked) == 1:
                return [error]
            return [found for one in asked for found in self._found([one])]  # whose fault it is
        observe = self.metrics.search_seconds.labels(system.name).observe
        for one in found:
            observe(one["milliseconds"] / 1000)
            if one["mode"].startswith(APPROXIMATE):
                self.metrics.approximate.labels(system.name).inc()
        return list(map(answer, found))

    async def encode_query(self, request: Asked) -> Reply:
        body = await _body(request)

        def work() -> bytes:
            asked = parsed(EncodeQuery, body)
            system = self._system(asked.index)
            return answer({"index": system.name, "tokens": system.tokens(system.query(asked.query))})

        return Json(await self.searches.run(work))

    async def encode_documents(self, request: Asked) -> Reply:
        body = await _body(request, LARGEST_DOCUMENTS)
        if self.encode is None:
            raise Refused(422, "this server has no model; start it with --model MODEL")
        encode = self.encode

        def work() -> bytes:
            vectors = encode(parsed(EncodeDocuments, body).texts)
            rows = [[{"token": token, "weight": weight} for token, weight in row] for row in vectors]
            return answer({"documents": rows})

        return Json(await self.slow.run(work))

    async def upsert(self, request: Asked) -> Reply:
        body = await _body(request, LARGEST_DOCUMENTS)

        def work() -> bytes:
            asked = parsed(Upsert, body)
            changing = self._changing(asked.index)
            ids = [one.id for one in asked.documents]
            texts = [with_title(one.title, one.text) for one in asked.documents]
            fields = [one.metadata for one in asked.documents]
            return answer(changing.change(ids, texts, fields, ()))

        return await self._changed(work)

    async def delete(self, request: Asked) -> Reply:
        body = await _body(request, LARGEST_DOCUMENTS)

        def work() -> bytes:
            asked = parsed(Delete, body)
            return answer(self._changing(asked.index).change((), (), None, asked.ids))

        return await self._changed(work)

    def _changing(self, name: str | None) -> Changing:
        system = self._system(name)
        if system.changing is None:
            raise Refused(
                422, f"{system.name} does not change; start the server with its model: --model MODEL"
            )
        return system.changing

    async def _changed(self, work: Callable[[], bytes]) -> Reply:
        content = await self.slow.run(work)
        if not self._merging:  # beside the answer, and beside searches
            self._merging = True
            asyncio.get_running_loop().run_in_executor(self._merger, self._merge)
        return Json(content)

    def _merge(self) -> None:
        try:
            for system in self.systems.values():
                while system.changing is not None and (
                    system.changing.collection.merge()
                    or (system.approximate is not None and system.approximate.follow())
                ):
                    pass
        except Exception:  # there are more segments than need be or what was measured is old; nothing is lost
            logger.exception("segments could not be merged")
        finally:
            self._merging = False

    async def indexes(self, request: Request) -> Response:
        about = [system.describe() for system in self.systems.values()]
        judged = None
        if self.judgements is not None:
            queries, count = self.judgements.count()
            judged = {"queries": queries, "judgements": count}
        return JSONResponse({"indexes": about, "model": self.encode is not None, "judgements": judged})

    async def document(self, request: Request) -> Reply:
        given = _parameters(request, index=LONGEST_ID, id=LONGEST_ID, query=LONGEST_QUERY)
        if not given.get("id"):
            raise Refused(422, "id: say which document")
        system = self._system(given.get("index"))
        return Json(await self.searches.run(lambda: answer(system.document(given["id"], given.get("query")))))

    async def judged(self, request: Request) -> Response:
        given = _parameters(request, query=LONGEST_QUERY)
        return JSONResponse({"judgements": self._judgements().of(given.get("query", ""))})

    async def judge(self, request: Asked) -> Reply:
        body = await _body(request)
        judgements = self._judgements()

        def work() -> bytes:
            asked = parsed(Judge, body)
            if self._system(asked.index).current().find([asked.id])[0] < 0:
                raise Refused(404, "there is no document with this id")
            grades = judgements.judge(asked.query, asked.id, asked.relevant)
            queries, count = judgements.count()
            return answer({"judgements": grades, "queries": queries, "count": count})

        return Json(await self.slow.run(work))

    def _judgements(self) -> Judgements:
        if self.judgements is None:
            raise Refused(422, "judgements are not kept; start the server with --judgements FOLDER")
        return self.judgements

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def show_metrics(self, request: Request) -> Response:
        for system in self.systems.values():
            self.metrics.documents.labels(system.name).set(len(system.current()))
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(description(self.key is not None))


def _file(path: Path) -> Handler:
    async def handler(request: Request) -> Response:
        return FileResponse(path, headers={"Cache-Control": "no-cache"})

    return handler


async def _body(request: Asked, most: int = LARGEST_BODY) -> bytes:
    """
    Raises:
        Refused: 413, larger; 415, no JSON (which a form of another site could send).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "send JSON, with Content-Type: application/json")
    too_large = Refused(413, f"a request holds at most {most:,} bytes")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise too_large
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the connection was closed before the request was whole")
        chunks.append(message.get("body", b""))
        size, more = size + len(chunks[-1]), message.get("more_body", False)
        if size > most:
            raise too_large
    return b"".join(chunks)


def _parameters(request: Request, **longest: int) -> Mapping[str, str]:
    given = dict(request.query_params)
    for name, value in given.items():
        if name not in longest:
            raise Refused(422, f"{name[:100]}: unknown; there are {', '.join(longest)}")
        if len(value) > longest[name]:
            raise Refused(422, f"{name}: at most {longest[name]:,} characters")
    return given


def _error(status: int, reason: str) -> Json:
    headers = {"Retry-After": "1"} if status == 429 else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Json(answer({"error": reason}), status, headers)
