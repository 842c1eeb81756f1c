"""A real Chroma server for tests and benchmarks; on request behind a guard that wants a token and speaks TLS.

What belongs here: starting ``chroma run`` and its guard. What does not: collections and records (clients make them).

Chroma has had no authentication of its own since 1.0.0 (vendor's migration log: "no longer provides built-in
authentication implementations"; ``chroma run --help`` of 1.5.9 has no such option), and it is deployed behind a proxy
that has. The client's settings for a token are the vendor's own and are used unchanged.
"""

import http.client
import sysconfig
from pathlib import Path

from rag_migration_pipeline_tests.servers.certificates import Certificate, make_certificate
from rag_migration_pipeline_tests.servers.guard import TokenGuard
from rag_migration_pipeline_tests.servers.process import ReservedPort, Server, ServerError, ServerProcess

READY_TIMEOUT_S = 90.0
REQUEST_TIMEOUT_S = 5.0


class ChromaServer(Server):
    """``chroma run`` on a folder, on a free port of loopback.

    Attributes:
        port: Where clients connect: the guard's port if there is a guard, else the server's.
        direct_port: The server's own port, past the guard.
        certificate: What clients have to trust, with ``tls``.
    """

    def __init__(
        self, path: Path, *, token: str | None = None, tls: bool = False, ready_timeout_s: float = READY_TIMEOUT_S
    ) -> None:
        """Describe the server; nothing runs before `start` or ``with``.

        Args:
            path: Folder of the data. The log goes beside it.
            token: Only requests that carry it are answered.
            tls: Serve HTTPS with a certificate made for the occasion.
            ready_timeout_s: How long the start may take.
        """
        super().__init__()
        self.path = Path(path)
        self.direct_port = self.port
        self.certificate: Certificate | None = None
        self._token = token
        self._ready_timeout_s = ready_timeout_s
        self._guard: TokenGuard | None = None
        self._guard_port: ReservedPort | None = None
        if tls:
            self.certificate = make_certificate(self.path.with_name(f"{self.path.name}.tls"))
        if tls or token is not None:
            self._guard_port = ReservedPort()
            self.port = self._guard_port.number

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"{'https' if self.certificate else 'http'}://{self.host}:{self.port}"

    def start(self) -> None:
        """Start, and return when the heartbeat is answered."""
        # Chroma makes the last folder only.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        command = [str(Path(sysconfig.get_path("scripts")) / "chroma"), "run"]
        command += ["--path", str(self.path), "--host", self.host, "--port", str(self.direct_port)]
        process = ServerProcess(
            "Chroma server",
            command,
            self.path.with_name(f"{self.path.name}.log"),
            env={"ANONYMIZED_TELEMETRY": "False"},
        )
        process.start()
        process.wait_until(self._is_ready, self._ready_timeout_s)
        self._process = process
        if self._guard_port is not None:
            self._guard = TokenGuard(self._guard_port.number, self.direct_port, self._token, self.certificate)

    def stop(self) -> None:
        """Stop server and guard; the data stay."""
        self._close_guard()
        super().stop()

    def kill(self) -> None:
        """Kill the server as a crash would, and close the guard."""
        self._close_guard()
        super().kill()

    def close(self) -> None:
        """Stop for good and give the ports back."""
        super().close()
        if self._guard_port is not None:
            self._guard_port.close()

    @property
    def refused_count(self) -> int:
        """How many requests the guard refused since the last start."""
        if self._guard is None:
            raise ServerError("this Chroma server has no guard: give it a token or tls=True, and start it")
        return self._guard.refused_count

    def _close_guard(self) -> None:
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self.host, self.direct_port, timeout=REQUEST_TIMEOUT_S)
        try:
            connection.request("GET", "/api/v2/heartbeat")
            return connection.getresponse().status == http.client.OK
        except http.client.HTTPException:
            return False
        finally:
            connection.close()
