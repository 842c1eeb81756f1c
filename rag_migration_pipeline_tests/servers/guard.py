"""A reverse proxy that asks for a token and can speak TLS, as one is put in front of servers that do neither.

What belongs here: checking a request, passing it on unchanged, passing the answer back. What does not: which server is
behind (``chroma.py``). It runs in threads of the process that uses it, so that it ends with that process.
"""

import hmac
import http.client
import ssl
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rag_migration_pipeline_tests.servers.certificates import Certificate

# Connection-level headers belong to one hop (RFC 9110, 7.6.1); the length is set from the body that is sent.
HOP_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length", "host"})
UPSTREAM_TIMEOUT_S = 120.0


class TokenGuard:
    """Listens on one loopback port and lets through to another what carries the token.

    Attributes:
        port: Where clients connect.
    """

    def __init__(self, port: int, upstream_port: int, token: str | None, certificate: Certificate | None) -> None:
        """Listen, and serve in the background until `close`.

        Args:
            port: Where clients connect; 0 takes a free one.
            upstream_port: Where the server listens.
            token: Expected as ``Authorization: Bearer`` or ``X-Chroma-Token``; None lets everybody through.
            certificate: Speak TLS with it; None speaks plain HTTP.
        """
        self._server = _GuardServer(("127.0.0.1", port), self.handler())
        self.port: int = self._server.server_address[1]
        self._server.upstream_port = upstream_port
        self._server.token = token
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.certificate_path, certificate.key_path)
            # The handshake is left to the connection's own thread: a client that never speaks must not block accept.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return what serves a connection."""
        return _Handler

    @property
    def refused_count(self) -> int:
        """How many requests came without the right token."""
        return self._server.refused_count

    def close(self) -> None:
        """Stop listening and wait for the accepting thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _GuardServer(ThreadingHTTPServer):
    daemon_threads = True
    # A keep-alive connection of a client would hold up server_close for ever.
    block_on_close = False
    upstream_port = 0
    token: str | None = None
    refused_count = 0
    proxy: Any = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about clients that hang up or do not trust the certificate: the client reports it."""


class _Handler(BaseHTTPRequestHandler):
    server: _GuardServer
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        # The body is read even when the request is refused, or its bytes would be taken for the next request.
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._is_allowed():
            self.server.refused_count += 1
            self._answer(HTTPStatus.UNAUTHORIZED, [("Content-Type", "text/plain")], b"access denied")
            return
        try:
            self._answer(*self._ask_upstream(body))
        except (OSError, http.client.HTTPException) as error:
            self._answer(HTTPStatus.BAD_GATEWAY, [("Content-Type", "text/plain")], f"bad gateway: {error}".encode())

    def __getattr__(self, name: str) -> Any:
        """Serve every method alike (``do_GET``, ``do_POST``, ...): which ones exist is for the server behind to say."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _is_allowed(self) -> bool:
        expected = self.server.token
        if expected is None:
            return True
        given = self.headers.get("X-Chroma-Token") or self.headers.get("Authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), expected.encode())

    def _ask_upstream(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Pass the request on over a connection of its own, so that a restarted server is never met by a stale one."""
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream_port, timeout=UPSTREAM_TIMEOUT_S)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_HEADERS}
            upstream.request(self.command, self.path, body=body, headers=headers)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, part: float = 1.0) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP_HEADERS:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: int(len(body) * part)])
