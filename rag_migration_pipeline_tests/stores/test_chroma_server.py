"""Chroma over HTTP: every refusal becomes the error that says what to do; tokens, TLS, tenants and databases."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import chromadb
import pytest
from chromadb.config import Settings
from pydantic import SecretStr

from rag_migration_pipeline.errors import (
    AuthenticationError,
    CollectionExistsError,
    CollectionNotFoundError,
    MigrationError,
    RateLimitedError,
    SpecError,
    StoreRequestError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from rag_migration_pipeline.records import CollectionSpec, IdKind, Metric, VectorSpec
from rag_migration_pipeline.stores.chroma import ChromaSettings
from rag_migration_pipeline_tests.servers.chroma import ChromaServer

TOKEN = "s3cret-token"  # a token of a server that lives for one test
SPEC = CollectionSpec("documents", (VectorSpec(3, Metric.COSINE),), frozenset({IdKind.STRING}))


class Answers(BaseHTTPRequestHandler):
    """Answers what a Chroma server answers when it is opened, and then what the test wants."""

    protocol_version = "HTTP/1.1"
    status: ClassVar[int] = 200
    body: ClassVar[bytes] = b"[]"
    headers_sent: ClassVar[dict[str, str]] = {}
    wait_s: ClassVar[float] = 0.0

    def do_GET(self) -> None:
        """Serve the opening, else the wanted answer."""
        if "pre-flight-checks" in self.path:
            return self._send(200, json.dumps({"max_batch_size": 100, "supports_base64_encoding": True}).encode(), {})
        if self.path.endswith("/databases/default_database"):
            database = {"id": "00000000-0000-0000-0000-000000000000", "name": "d", "tenant": "t"}
            return self._send(200, json.dumps(database).encode(), {})
        time.sleep(type(self).wait_s)
        return self._send(type(self).status, type(self).body, type(self).headers_sent)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(body)), "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def answering() -> Iterator[tuple[type[Answers], ChromaSettings]]:
    """A handler class to set answers on, and settings of the server that gives them."""

    class Handler(Answers):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield Handler, ChromaSettings(host="127.0.0.1", port=server.server_address[1], timeout_s=20)
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, StoreRequestError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, CollectionNotFoundError),
        (408, StoreTimeoutError),
        (409, CollectionExistsError),
        (413, StoreRequestError),
        (302, StoreRequestError),
        (500, StoreUnavailableError),
        (502, StoreUnavailableError),
        (503, StoreUnavailableError),
        (504, StoreTimeoutError),
    ],
)
@pytest.mark.parametrize("body", [b'{"error":"InternalError","message":"the words do not matter"}', b"<html>no</html>"])
def test_the_status_decides_what_to_do(
    answering: tuple[type[Answers], ChromaSettings], status: int, kind: type[MigrationError], body: bytes
) -> None:
    handler, settings = answering
    handler.status, handler.body = status, body
    with settings.open() as store:
        with pytest.raises(kind) as caught:
            store.list_collections()
        assert type(caught.value) is kind
        assert caught.value.facts["status"] == status
        assert settings.address in str(caught.value)


@pytest.mark.parametrize(
    ("header", "expected_s"), [({"Retry-After": "7"}, 7.0), ({}, None), ({"Retry-After": "soon"}, None)]
)
def test_a_rate_limit_says_when_to_come_back(
    answering: tuple[type[Answers], ChromaSettings], header: dict[str, str], expected_s: float | None
) -> None:
    handler, settings = answering
    handler.status, handler.headers_sent = 429, header
    with settings.open() as store:
        with pytest.raises(RateLimitedError) as caught:
            store.list_collections()
        assert caught.value.retry_after_s == expected_s


def test_a_silent_server_is_waited_for_no_longer_than_asked(
    answering: tuple[type[Answers], ChromaSettings],
) -> None:
    handler, settings = answering
    handler.wait_s = 3.0
    with replace(settings, timeout_s=0.3).open() as store:
        start = time.monotonic()
        with pytest.raises(StoreTimeoutError):
            store.list_collections()
        assert time.monotonic() - start < 2.0


def test_an_answer_that_is_no_json_is_our_error(answering: tuple[type[Answers], ChromaSettings]) -> None:
    handler, settings = answering
    handler.body = b"<html>welcome</html>"
    with settings.open() as store, pytest.raises(StoreRequestError):
        store.list_collections()


def test_a_web_server_that_is_no_chroma_is_named(tmp_path: Path) -> None:
    class NotFound(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), NotFound)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        with pytest.raises(StoreRequestError, match="no Chroma interface"):
            ChromaSettings(host="127.0.0.1", port=server.server_address[1]).open()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    """A server behind a guard that wants a token and speaks TLS."""
    with ChromaServer(tmp_path_factory.mktemp("guarded") / "data", token=TOKEN, tls=True) as server:
        yield server


@pytest.fixture(scope="module")
def trusted(guarded: ChromaServer) -> ChromaSettings:
    """Settings that the guard lets in."""
    assert guarded.certificate is not None
    return ChromaSettings(
        host="127.0.0.1",
        port=guarded.port,
        is_tls=True,
        token=SecretStr(TOKEN),
        ca_file=str(guarded.certificate.certificate_path),
    )


@pytest.mark.parametrize("header", [None, "Authorization", "X-Chroma-Token"])
def test_a_token_opens_the_store_over_tls(trusted: ChromaSettings, header: str | None) -> None:
    with replace(trusted, token_header=header).open() as store:
        assert store.list_collections() == []


def test_credentials_that_do_not_fit_are_refused_without_showing_them(trusted: ChromaSettings) -> None:
    for token in (None, SecretStr("wr0ng-token")):
        with pytest.raises(AuthenticationError) as caught:
            replace(trusted, token=token).open()
        assert "wr0ng" not in repr(caught.value) + repr(caught.value.facts) + repr(caught.value.__cause__)
    with pytest.raises(SpecError) as refused:
        replace(trusted, token=SecretStr("two words\n")).open()
    assert "two words" not in str(refused.value)


def test_an_unknown_authority_stops(trusted: ChromaSettings) -> None:
    with pytest.raises(StoreRequestError, match="certificate") as caught:
        replace(trusted, ca_file=None).open()
    assert "ca_file" in caught.value.todo
    with pytest.raises(SpecError, match="ca_file"):
        replace(trusted, ca_file="/no/such.pem").open()


def test_databases_are_apart(chroma_server: ChromaServer) -> None:
    settings = ChromaSettings(host="127.0.0.1", port=chroma_server.port, tenant="tenant_a", database="database_a")
    with pytest.raises(CollectionNotFoundError, match="database_a"):
        settings.open(create=True)
    admin = chromadb.AdminClient(
        Settings(
            chroma_api_impl="chromadb.api.fastapi.FastAPI",
            chroma_server_host="127.0.0.1",
            chroma_server_http_port=chroma_server.port,
        )
    )
    admin.create_tenant("tenant_a")
    admin.create_database("database_a", tenant="tenant_a")
    admin._server._session.close()
    elsewhere = replace(settings, tenant="default_tenant", database="default_database")
    with settings.open() as store, elsewhere.open() as other:
        store.create(SPEC)
        assert store.list_collections() == [SPEC.name]
        assert SPEC.name not in other.list_collections()
        with pytest.raises(CollectionNotFoundError, match=SPEC.name):
            store.describe("documents2")
        assert store.address != other.address
        store.drop(SPEC.name)
