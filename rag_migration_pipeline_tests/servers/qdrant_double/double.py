"""The double as tests use it: a process that is started, watched, broken and stopped.

What belongs here: the handle. The process itself is ``__main__``; that it cannot outlive its owner is the work of
``servers.process``. A process of its own, so that a client's memory can be measured apart from the server's.
"""

import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from qdrant_client import QdrantClient

from rag_migration_pipeline_tests.servers.process import ReservedPort, Server, ServerError, ServerProcess

_MODULE = "rag_migration_pipeline_tests.servers.qdrant_double"
_REPOSITORY = Path(__file__).parents[3]
_START_TIMEOUT_S = 60.0
_CONTROL_TIMEOUT_S = 10.0


class QdrantDouble(Server):
    """A Qdrant server double on two free loopback ports.

    The ports stay the same over ``stop`` and ``start``, and so do the data. Without ``data_dir`` the data live in a
    folder that ``close`` removes.

    Attributes:
        http_port: Port of the REST API; ``port`` is the same.
        grpc_port: Port of the gRPC API.
        data_dir: Where the collections are.
        api_key: What clients must send; None lets everybody in.
    """

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        api_key: str | None = None,
        legacy_vectors: bool = False,
        grpc_limit_bytes: int | None = None,
        tls_certificate: Path | str | None = None,
        tls_key: Path | str | None = None,
    ) -> None:
        """Reserve ports; nothing runs before ``start``.

        Args:
            data_dir: Folder to keep collections in; made if missing.
            api_key: Refuse requests without this key.
            legacy_vectors: Answer gRPC in the vector layout that servers before 1.16 use.
            grpc_limit_bytes: Largest gRPC request; None means the double's default of 64 MiB.
            tls_certificate: PEM file; with ``tls_key`` both doors speak TLS only.
            tls_key: PEM file.
        """
        super().__init__()
        self._reserved_grpc = ReservedPort()
        self.http_port = self.port
        self.grpc_port = self._reserved_grpc.number
        self.api_key = api_key
        self.data_dir = Path(data_dir) if data_dir is not None else Path(tempfile.mkdtemp(prefix="qdrant-double-"))
        self._remove_own_dir: Callable[[], Any] = lambda: None
        if data_dir is None:
            # Also at the interpreter's end, for an owner who stops the process but never closes the handle.
            self._remove_own_dir = weakref.finalize(self, shutil.rmtree, self.data_dir, ignore_errors=True)
        self._tls_certificate = tls_certificate
        self._options: dict[str, Any] = {
            "--api-key": api_key,
            "--grpc-limit-bytes": grpc_limit_bytes,
            "--tls-certificate": tls_certificate,
            "--tls-key": tls_key,
        }
        self._flags = ["--legacy-vectors"] if legacy_vectors else []

    @property
    def url(self) -> str:
        """Where the REST API is."""
        scheme = "http" if self._tls_certificate is None else "https"
        return f"{scheme}://{self.host}:{self.http_port}"

    @property
    def is_running(self) -> bool:
        """Whether the process exists and has not ended by itself."""
        return self._process is not None and self._process.is_running

    def _command(self) -> list[str]:
        ports = ["--http-port", str(self.http_port), "--grpc-port", str(self.grpc_port)]
        command = [sys.executable, "-m", _MODULE, *ports, "--data-dir", str(self.data_dir / "storage"), *self._flags]
        for option, value in self._options.items():
            if value is not None:
                command += [option, str(value)]
        return command

    def start(self) -> None:
        """Start, and return when both doors are open."""
        if self.is_running:
            raise ServerError(f"QdrantDouble is already running as process {self.pid}")
        self._process = ServerProcess("QdrantDouble", self._command(), self.data_dir / "server.log", cwd=_REPOSITORY)
        self._process.start()
        # The REST door opens last, so an answer from it means that both are open.
        self._process.wait_until(self._is_ready, _START_TIMEOUT_S)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=_CONTROL_TIMEOUT_S, verify=False).status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Stop for good, give the ports back, and remove the data if the folder was the double's own."""
        super().close()
        self._reserved_grpc.close()
        self._remove_own_dir()

    def connect(self, *, prefer_grpc: bool, **options: Any) -> QdrantClient:
        """Open the vendor's client on one of the doors; the caller closes it.

        Args:
            prefer_grpc: gRPC door, else REST door.
            **options: What else ``QdrantClient`` takes; ``api_key`` defaults to the right one.
        """
        options = {"timeout": _CONTROL_TIMEOUT_S, "api_key": self.api_key, "check_compatibility": False, **options}
        return QdrantClient(url=self.url, grpc_port=self.grpc_port, prefer_grpc=prefer_grpc, **options)

    def _control(self, method: str, name: str, **arguments: Any) -> Any:
        url = f"{self.url}/__{name}__"
        response = httpx.request(method, url, timeout=_CONTROL_TIMEOUT_S, verify=False, **arguments)
        if response.status_code != 200:
            raise ValueError(response.text)
        return response.json()

    def inject(self, kind: str, count: int = 1, **details: Any) -> None:
        """Break the next matching requests.

        Args:
            kind: "rate_limit" (429, RESOURCE_EXHAUSTED), "unavailable" (503, UNAVAILABLE), "internal", "timeout",
                "too_large" (413, as a proxy answers), any other kind of refusal, or "delay" (late but well).
            count: How many requests to hit.
            **details: ``operations`` (names such as "upsert"; empty means all), ``when`` ("before", or "after": the
                work is done and its acknowledgement lost), ``delay_s``, ``retry_after_s``, ``skip`` (requests to let
                pass first).
        """
        self._control("POST", "faults", json={"kind": kind, "count": count, **details})

    def clear_faults(self) -> None:
        """Behave again."""
        self._control("DELETE", "faults")

    def pending_faults(self) -> list[dict[str, Any]]:
        """List the faults that are not spent."""
        pending: list[dict[str, Any]] = self._control("GET", "faults")
        return pending

    def counts(self) -> dict[str, int]:
        """Return how many requests came, per "transport.operation", since the start or the last reset."""
        counted: dict[str, int] = self._control("GET", "counts")["requests"]
        return counted

    def requests(self, operation: str) -> int:
        """Return how many requests of an operation came, over both transports."""
        return sum(number for key, number in self.counts().items() if key.split(".", 1)[1] == operation)

    def largest_request_bytes(self, operation: str) -> int:
        """Return the size of the largest body of an operation, over both transports."""
        sizes: dict[str, int] = self._control("GET", "counts")["largest_request_bytes"]
        return max((size for key, size in sizes.items() if key.split(".", 1)[1] == operation), default=0)

    def reset_counts(self) -> None:
        """Start counting from zero."""
        self._control("DELETE", "counts")
