"""The REST door: requests in, the server's JSON envelope out.

What belongs here: size limit, API key, faults, routing and the envelope. What a route does is in ``rest_routes``.
Sources: qdrant/qdrant `src/actix/mod.rs` (limit and format errors), `src/actix/auth.rs` (plain-text 401).
"""

import hmac
import time
from collections.abc import Callable
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rag_migration_pipeline_tests.servers.qdrant_double.faults import CONTROL_PREFIX, Faults
from rag_migration_pipeline_tests.servers.qdrant_double.refusals import Refusal, unsupported
from rag_migration_pipeline_tests.servers.qdrant_double.registry import Registry
from rag_migration_pipeline_tests.servers.qdrant_double.rest_routes import ROUTES, Call, RawJson

# Source: qdrant/qdrant config/config.yaml, service.max_request_size_mb: 32. The server answers a larger body with 400
# and the sentence below, not with 413 (seen in many public bug reports, 2023 to 2026).
MAX_REST_BYTES = 32 * 1024 * 1024
_NO_KEY = "Must provide an API key or an Authorization bearer token"
_WRONG_KEY = "Invalid API key or JWT"
_OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/livez"})
_JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def check_key(expected: str | None, api_key: str | None, authorization: str | None) -> None:
    """Refuse a request without the right key; both doors ask here."""
    if expected is None:
        return
    given = api_key
    if given is None and authorization is not None and authorization.startswith("Bearer "):
        given = authorization.removeprefix("Bearer ")
    if given is None:
        raise Refusal("unauthorized", _NO_KEY)
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise Refusal("unauthorized", _WRONG_KEY)


async def _body(request: Request) -> bytes:
    """Read the body; what exceeds the limit is counted and thrown away, then refused."""
    chunks: list[bytes] = []
    size_bytes = 0
    async for chunk in request.stream():
        size_bytes += len(chunk)
        if size_bytes <= MAX_REST_BYTES:
            chunks.append(chunk)
    if size_bytes > MAX_REST_BYTES:
        limit = f"is larger than allowed (limit: {MAX_REST_BYTES} bytes)"
        raise Refusal("format", f"Payload error: JSON payload ({size_bytes} bytes) {limit}.")
    return b"".join(chunks)


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = orjson.dumps(content, option=_JSON_OPTIONS)
    return Response(body, status, headers, media_type="application/json")


def _refused(refusal: Refusal, started: float) -> Response:
    if refusal.kind == "unauthorized":
        return PlainTextResponse(refusal.message, 401)
    headers = {"Retry-After": str(refusal.retry_after_s)} if refusal.retry_after_s is not None else None
    envelope = {"status": {"error": refusal.message}, "time": time.perf_counter() - started}
    return _json(envelope, refusal.http_status, headers)


def _format_error(error: ValidationError) -> Refusal:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return Refusal("format", f"Format error in JSON body: {place}: {first['msg']}")


class RestApi:
    """The application and what its requests share."""

    def __init__(self, registry: Registry, faults: Faults, api_key: str | None) -> None:
        self._registry = registry
        self._faults = faults
        self._api_key = api_key
        routes = [
            Route(f"{CONTROL_PREFIX}faults__", self._control_faults, methods=["GET", "POST", "DELETE"]),
            Route(f"{CONTROL_PREFIX}counts__", self._control_counts, methods=["GET", "DELETE"]),
            *(
                Route(path, self._endpoint(operation, handler), methods=[method])
                for method, path, operation, handler in ROUTES
            ),
            Route("/{path:path}", self._unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ]
        self.app = Starlette(routes=routes)

    def _endpoint(self, operation: str, handler: Callable[[Call], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            started = time.perf_counter()
            try:
                body = await _body(request)
                self._faults.note_size("rest", operation, len(body))
                if request.url.path not in _OPEN_PATHS:
                    headers = request.headers
                    check_key(self._api_key, headers.get("api-key"), headers.get("authorization"))
                call = Call(self._registry, request.path_params, dict(request.query_params), body)
                return await run_in_threadpool(self._answer, operation, handler, call, started)
            except Refusal as refusal:
                return _refused(refusal, started)

        return endpoint

    def _answer(self, operation: str, handler: Callable[[Call], Any], call: Call, started: float) -> Response:
        """Run a handler in a worker thread: faults, then the work, then the envelope."""
        try:
            fault = self._faults.arrive("rest", operation)
            result = handler(call)
            self._faults.depart(fault)
        except ValidationError as error:
            raise _format_error(error) from error
        except KeyError as error:
            raise Refusal("format", f"Format error in JSON body: missing field `{error.args[0]}`") from error
        except ValueError as error:
            raise Refusal("format", f"Format error in JSON body: {error}") from error
        if isinstance(result, RawJson):
            return _json(result.content)
        if isinstance(result, str):
            return PlainTextResponse(result)
        return _json({"result": result, "status": "ok", "time": time.perf_counter() - started})

    async def _unknown(self, request: Request) -> Response:
        return _refused(unsupported(f"{request.method} {request.url.path}"), time.perf_counter())

    async def _control_faults(self, request: Request) -> Response:
        if request.method == "POST":
            try:
                self._faults.add(orjson.loads(await request.body()))
            except (TypeError, ValueError) as error:
                return PlainTextResponse(str(error), 400)
        elif request.method == "DELETE":
            self._faults.clear()
        return _json(self._faults.pending())

    async def _control_counts(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._faults.reset_counts()
        return _json(self._faults.counts())
