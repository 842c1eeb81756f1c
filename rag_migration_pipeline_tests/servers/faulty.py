"""A reverse proxy that breaks a part of the requests, as networks and busy servers do.

What belongs here: the faults, and how often they come. What does not: passing requests on (``guard.py``), faults that a
server itself makes (``qdrant_double/faults.py``).
"""

import os
import random
import socket
import struct
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler
from typing import Any

from rag_migration_pipeline_tests.servers.guard import TokenGuard, _Handler

KINDS = ("latency", "reset", "reset_after", "rate_limit", "unavailable", "silence", "half")
"""What happens to a request.

latency: it is answered late. reset, reset_after: the connection is reset, before or after the server has done what was
asked. rate_limit: 429 with Retry-After. unavailable: 503. silence: no answer. half: half an answer, then the end.
"""

HARMLESS = frozenset({"latency"})
LATENCY_S = 0.3
RETRY_AFTER_S = 7


class FaultyProxy(TokenGuard):
    """Passes requests on to a port of loopback, and breaks a part of them.

    Attributes:
        hits: How many requests met each kind of fault.
        broken: Those that failed, each with its kind, in their order.
    """

    def __init__(self, upstream_port: int, share: float, seed: int, silence_s: float) -> None:
        """Listen on a free port.

        Args:
            upstream_port: Where the server listens.
            share: Part of the requests that meet a fault.
            seed: Of the dice that say which; the kinds come in turn.
            silence_s: How long nothing is answered; longer than clients wait.
        """
        self.hits: Counter[str] = Counter()
        self.broken: list[str] = []
        self.silence_s = silence_s
        self.is_over = threading.Event()
        self._share = share
        self._dice = random.Random(seed)
        self._first = seed
        self._turn = threading.Lock()
        super().__init__(0, upstream_port, None, None)
        self._server.proxy = self

    def next_fault(self, request: str) -> str | None:
        """Return what happens to a request."""
        with self._turn:
            if self._dice.random() >= self._share:
                return None
            kind = KINDS[(self._first + self.hits.total()) % len(KINDS)]
            self.hits[kind] += 1
            if kind not in HARMLESS:
                self.broken.append(f"{kind}: {request}")
            return kind

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """See `TokenGuard.handler`."""
        return _FaultyHandler

    def close(self) -> None:
        """Stop; nobody is kept waiting."""
        self.is_over.set()
        super().close()


class _FaultyHandler(_Handler):
    def _serve(self) -> None:
        proxy: Any = self.server.proxy
        kind = proxy.next_fault(f"{self.command} {self.path}")
        if kind in {None, "latency"}:
            proxy.is_over.wait(LATENCY_S if kind else 0)
            super()._serve()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if kind == "rate_limit":
            self._answer(429, [("Retry-After", str(RETRY_AFTER_S))], b'{"status":{"error":"too many requests"}}')
            return
        if kind == "unavailable":
            self._answer(503, [("Content-Type", "text/plain")], b"try again later")
            return
        self.close_connection = True
        if kind == "silence":
            proxy.is_over.wait(proxy.silence_s)
        elif kind == "half":
            self._answer(*self._ask_upstream(body), part=0.5)
        else:
            if kind == "reset_after":
                self._ask_upstream(body)
            self._reset()

    def _reset(self) -> None:
        """Close the connection so that the other side is told of an error, and not of an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
