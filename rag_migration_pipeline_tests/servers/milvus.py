"""Real Milvus servers for tests and benchmarks: Milvus 2.3.5 standalone from the wheel ``milvus``, and Milvus Lite's.

What belongs here: unpacking, configuring and starting them. What does not: collections and records (clients make them).

The 2.3.5 binary listens on nine TCP ports on every interface and has no setting for the address (1), so it is given a
network namespace of its own, where it finds all its ports free and nobody else can reach them; ``launcher.py`` carries
two loopback ports into it. Where the machine allows no namespace, the server runs in the open, one at a time.

(1) Tried on 2.3.5: ``ip:`` in its configuration is what it announces to its own parts, not what it binds.
"""

import errno
import fcntl
import http.client
import importlib
import lzma
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from rag_migration_pipeline_tests.servers.certificates import Certificate, make_certificate
from rag_migration_pipeline_tests.servers.process import (
    LAUNCHER,
    POLL_INTERVAL_S,
    ReservedPort,
    Server,
    ServerError,
    ServerProcess,
    is_listening,
)

LITE_READY_TIMEOUT_S = 90.0
READY_TIMEOUT_S = 180.0
REQUEST_TIMEOUT_S = 5.0
PROBE_TIMEOUT_S = 30.0

# What the server listens on when nothing is configured (config.yaml.template and METRICS_PORT of the wheel).
PROXY_PORT = 19530
METRICS_PORT = 9091
CONFIGURED_PORTS = (
    "proxy_port",
    "proxy_internal_port",
    "root_coord_port",
    "query_coord_port",
    "query_node_port",
    "index_coord_port",
    "index_node_port",
    "data_coord_port",
    "data_node_port",
)
# The etcd inside listens here whatever is configured (tried); it is why only one server can run in the open.
ETCD_PORTS = (2379, 2380)
OPEN_LOCK_NAME = "\0milvus-test-server"
OPEN_LOCK_TIMEOUT_S = 600.0
# Left alone (1800 s), an orderly stop of 2.3.5 with a loaded collection hung for more than 30 s; when its time is over
# it ends itself with a panic. What was acknowledged survives either way, and SIGKILL as well.
GRACEFUL_STOP_TIMEOUT_S = 3
STOP_TIMEOUT_S = 10.0
# The wheel's own value. A restarted server answers "collection not loaded" (code 101) until the lease of its
# predecessor is over: 24 to 28 s with a lease of 30 s, 4 to 9 s with 10 s.
SESSION_TTL_S = 30


class MilvusLiteServer(Server):
    """``milvus-lite server`` on a folder, on a free port of loopback."""

    def __init__(self, data_dir: Path, *, ready_timeout_s: float = LITE_READY_TIMEOUT_S) -> None:
        """Describe the server; nothing runs before `start` or ``with``.

        Args:
            data_dir: Folder of the data, made by the server. The log goes beside it.
            ready_timeout_s: How long the start may take.
        """
        super().__init__()
        self.data_dir = Path(data_dir)
        self._ready_timeout_s = ready_timeout_s

    @property
    def uri(self) -> str:
        """The address for clients."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Start, and return when connections are accepted (the folder is open by then)."""
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        command = [str(Path(sysconfig.get_path("scripts")) / "milvus-lite"), "server"]
        # The default host is 0.0.0.0.
        command += ["--data-dir", str(self.data_dir), "--host", self.host, "--port", str(self.port)]
        log_path = self.data_dir.with_name(f"{self.data_dir.name}.log")
        process = ServerProcess("Milvus Lite server", command, log_path, env={"PYTHONUNBUFFERED": "1"})
        process.start()
        process.wait_until(lambda: is_listening(self.port), self._ready_timeout_s)
        self._process = process


class MilvusServer(Server):
    """Milvus 2.3.5 standalone, private to this machine's loopback where namespaces are to be had.

    Attributes:
        is_private: Whether it runs in a network namespace of its own.
        certificate: What clients have to trust (``server_pem_path``), with ``tls``.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        auth: bool = False,
        tls: bool = False,
        unpack_dir: Path | None = None,
        is_private: bool | None = None,
        session_ttl_s: int = SESSION_TTL_S,
        ready_timeout_s: float = READY_TIMEOUT_S,
    ) -> None:
        """Describe the server; nothing runs before `start` or ``with``.

        Args:
            data_dir: Folder of data, configuration and logs.
            auth: Want user and password; a new server knows ``root`` with ``Milvus`` (`token`).
            tls: Serve with a certificate made for the occasion.
            unpack_dir: Where the 257 MB of programs go, to be shared by several servers; default ``data_dir/bin``.
            is_private: Whether to run in a namespace of its own; None decides by what the machine allows.
            session_ttl_s: How long the server waits for its predecessor's parts after a restart; 10 suits tests that
                restart it, but on a starved machine a lease this short may run out while the server lives.
            ready_timeout_s: How long the start may take.
        """
        super().__init__()
        self.data_dir = Path(data_dir).absolute()
        self.is_private = can_make_namespace() if is_private is None else is_private
        self.certificate: Certificate | None = make_certificate(self.data_dir / "tls") if tls else None
        self._auth = auth
        self._session_ttl_s = session_ttl_s
        self._unpack_dir = unpack_dir or self.data_dir / "bin"
        self._ready_timeout_s = ready_timeout_s
        self._metrics = ReservedPort()
        self._inner_ports = [] if self.is_private else [ReservedPort() for _ in CONFIGURED_PORTS[1:]]
        self._open_lock: socket.socket | None = None

    @property
    def uri(self) -> str:
        """The address for clients."""
        return f"{'https' if self.certificate else 'http'}://{self.host}:{self.port}"

    @property
    def token(self) -> str:
        """The first user's ``name:password``; empty without ``auth``."""
        return "root:Milvus" if self._auth else ""

    @property
    def pid(self) -> int:
        """The process id of Milvus itself, not of the launcher that keeps its namespace."""
        launcher_pid = super().pid
        if not self.is_private:
            return launcher_pid
        children = psutil.Process(launcher_pid).children()
        if not children:
            raise ServerError("the Milvus process is gone; restart the server")
        return int(children[0].pid)

    def start(self) -> None:
        """Start, and return when the server calls itself healthy."""
        program = unpack(self._unpack_dir)
        self._write_configuration()
        if self.is_private:
            process = self._start_private(program)
        else:
            self._open_lock = _wait_for_turn(OPEN_LOCK_TIMEOUT_S)
            process = self._describe(program, [], [])
            process.start()
        self._process = process
        process.wait_until(self._is_ready, self._ready_timeout_s)

    def stop(self) -> None:
        """Stop in order; the data stay."""
        super().stop()
        self._give_up_turn()

    def kill(self) -> None:
        """Kill at once, as a crash would."""
        super().kill()
        self._give_up_turn()

    def close(self) -> None:
        """Stop for good and give the ports back."""
        super().close()
        for port in (self._metrics, *self._inner_ports):
            port.close()

    def _describe(self, program: Path, launcher_options: list[str], pass_fds: list[int]) -> ServerProcess:
        environment = {
            "HOME": str(self.data_dir),
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(METRICS_PORT if self.is_private else self._metrics.number),
            "MILVUS_RUN_DIR": str(self.data_dir / "run"),
            "LD_LIBRARY_PATH": str(program.parent),
        }
        return ServerProcess(
            "Milvus server",
            [str(program), "run", "standalone"],
            self.data_dir / "logs" / "server.log",
            env=environment,
            # It looks for configs/milvus.yaml in its working directory.
            cwd=self.data_dir,
            launcher_options=launcher_options,
            pass_fds=pass_fds,
            stop_timeout_s=STOP_TIMEOUT_S,
        )

    def _start_private(self, program: Path) -> ServerProcess:
        """Start behind two forwarded ports; the launcher inherits the listening sockets, and we keep none."""
        with self._reserved.listener() as proxy, self._metrics.listener() as metrics:
            forwards = {proxy.fileno(): PROXY_PORT, metrics.fileno(): METRICS_PORT}
            options = ["--private", *(f"--forward={descriptor}:{port}" for descriptor, port in forwards.items())]
            process = self._describe(program, options, list(forwards))
            process.start()
        return process

    def _write_configuration(self) -> None:
        """Write configs/milvus.yaml with the wheel's own template."""
        # Late, because the module reads files and makes two idle servers when it is imported. It has no types.
        wheel: Any = importlib.import_module("milvus")
        configuration = wheel.MilvusServerConfig(data_dir=str(self.data_dir))
        configuration.resolve_storage()
        configuration.set("authorization_enabled", self._auth)
        # At its default, info, the server writes several lines per request.
        configuration.set("log.level", "warn")
        configuration.set("common.gracefulStopTimeout", GRACEFUL_STOP_TIMEOUT_S)
        configuration.set("common.session.ttl", self._session_ttl_s)
        if self.certificate is not None:
            configuration.set("tls_mode", 1)
            configuration.set("server_pem_path", str(self.certificate.certificate_path))
            configuration.set("server_key_path", str(self.certificate.key_path))
        if not self.is_private:
            numbers = [self.port, *(port.number for port in self._inner_ports)]
            for key, number in zip(CONFIGURED_PORTS, numbers, strict=True):
                configuration.set(key, number)
        configuration.write_config()

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self.host, self._metrics.number, timeout=REQUEST_TIMEOUT_S)
        try:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            return answer.status == http.client.OK and b"OK" in answer.read()
        except http.client.HTTPException:
            return False
        finally:
            connection.close()

    def _give_up_turn(self) -> None:
        if self._open_lock is not None:
            self._open_lock.close()
            self._open_lock = None


def _wait_for_turn(timeout_s: float) -> socket.socket:
    """Wait until no other server runs in the open on this machine; closing the socket ends the turn.

    The lock is a name in the kernel's abstract namespace (unix(7)): it has the scope of the ports, leaves no file,
    needs no permission, and is free again when its holder dies.

    Raises:
        ServerError: Another session kept its server for too long, or a stranger has a port that cannot be moved.
    """
    deadline = time.monotonic() + timeout_s
    lock = socket.socket(socket.AF_UNIX)
    while True:
        try:
            lock.bind(OPEN_LOCK_NAME)
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                lock.close()
                raise ServerError(f"another Milvus test server ran for {timeout_s:g} s ({error}): stop it") from error
            time.sleep(POLL_INTERVAL_S)
    if taken := [port for port in ETCD_PORTS if is_listening(port)]:
        lock.close()
        raise ServerError(f"ports {taken} are taken (an etcd?), and this Milvus can use no others: free them")
    return lock


@cache
def can_make_namespace() -> bool:
    """Tell whether this machine and user may have network namespaces; tried once, for real."""
    if not sys.platform.startswith("linux"):
        return False
    command = [sys.executable, "-I", str(LAUNCHER), "--owner", str(os.getpid()), "--private", "--", "true"]
    done = subprocess.run(command, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
    return done.returncode == 0


def unpack(directory: Path) -> Path:
    """Unpack the wheel's programs, once per directory even when several processes ask at a time.

    Args:
        directory: Where they go; complete if the file ``complete`` is there.

    Returns:
        The path of the server program.

    Raises:
        ServerError: The wheel is not installed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "complete").exists():
            packed = sorted(_wheel_programs().glob("*.lzma"))
            # Two threads halve the 5 s: lzma works outside the interpreter lock.
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda source: _unpack_one(source, directory / source.stem), packed))
            (directory / "complete").touch()
    return directory / "milvus"


def _wheel_programs() -> Path:
    try:
        wheel: Any = importlib.import_module("milvus")
    except ModuleNotFoundError as error:
        raise ServerError("the Milvus server is missing: pip install --no-deps milvus==2.3.5") from error
    return Path(wheel.__file__).parent / "data" / "bin"


def _unpack_one(source: Path, target: Path) -> None:
    with lzma.open(source) as packed, target.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked, 1 << 20)
    target.chmod(0o755)
