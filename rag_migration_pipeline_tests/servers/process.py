"""Run one server as a process that cannot outlive its owner.

What belongs here: starting a command through ``launcher.py``, waiting until it answers, stopping or killing it with
everything it started, and reserving loopback ports. What does not: which command, which question to ask it
(``chroma.py``, ``milvus.py``). Plain classes without pytest, so that benchmarks use them as well.

Three layers see to it that nothing is left: ``stop``; an ``atexit`` hook; and the kernel's parent-death signal, which
also holds when the owner is SIGKILLed. That signal is tied to the *thread* that started the process (prctl(2)), so all
processes are started by one thread that lives as long as the interpreter.
"""

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

LAUNCHER = Path(__file__).with_name("launcher.py")
LOG_TAIL_BYTES = 4000
POLL_INTERVAL_S = 0.05
KILL_DEADLINE_S = 10.0

_starters: dict[int, ThreadPoolExecutor] = {}
_starters_lock = threading.Lock()


class ServerError(RuntimeError):
    """A test server did not start, or did not stop; the message ends with the tail of its log."""


def _starter() -> ThreadPoolExecutor:
    """Return the one thread of this process that starts servers (a forked child gets a new one)."""
    with _starters_lock:
        pid = os.getpid()
        if pid not in _starters:
            _starters[pid] = ThreadPoolExecutor(1, thread_name_prefix="test-server-starter")
        return _starters[pid]


class ReservedPort:
    """A loopback TCP port that stays ours while a server on it is stopped, killed and started again.

    The port is bound without listening: connections are refused, nobody else is given the port, not even as the local
    end of an outgoing connection, and a server that sets SO_REUSEADDR (all three do) can listen on it. The option is
    set here only after ``bind``, so that the bind itself fails on a port that somebody else has.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.number: int = self._socket.getsockname()[1]

    def listener(self) -> socket.socket:
        """Return a new socket listening on the port; the caller closes it."""
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", self.number))
            listening.listen(128)
        except OSError:
            listening.close()
            raise
        return listening

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


def free_port() -> int:
    """Return a loopback port that was free a moment ago; prefer `ReservedPort` where the port has to stay ours."""
    port = ReservedPort()
    port.close()
    return port.number


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether somebody accepts connections there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        return probe.connect_ex((host, port)) == 0


class ServerProcess:
    """One command, from ``start`` to ``stop``, with its log in a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        launcher_options: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        stop_timeout_s: float = 10.0,
    ) -> None:
        """Describe the process; nothing runs before ``start``.

        Args:
            name: What error messages call it.
            command: Program and arguments.
            log_path: File that stdout and stderr are appended to.
            env: Variables set on top of this process's own.
            cwd: Working directory.
            launcher_options: Extra options for ``launcher.py``.
            pass_fds: Descriptors that the launcher inherits.
            stop_timeout_s: How long SIGINT may take before SIGKILL follows.
        """
        self.name = name
        self.log_path = log_path
        self._command = [sys.executable, "-I", str(LAUNCHER), "--owner", str(os.getpid()), *launcher_options, "--"]
        self._command += command
        self._env = {**os.environ, **(env or {})}
        self._cwd = cwd
        self._pass_fds = tuple(pass_fds)
        self._stop_timeout_s = stop_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = os.getpid()

    @property
    def pid(self) -> int:
        """The process id of the launcher, which is the server itself unless it runs in a namespace."""
        if self._process is None:
            raise ServerError(f"{self.name} is not running: start it first")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process exists and has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; it may not answer yet (`wait_until`)."""
        if self.is_running:
            raise ServerError(f"{self.name} is already running as process {self.pid}")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = (
                _starter()
                .submit(
                    subprocess.Popen,
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._env,
                    cwd=self._cwd,
                    pass_fds=self._pass_fds,
                    start_new_session=True,
                )
                .result()
            )
        atexit.register(self.kill)

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Ask until the server is ready.

        Args:
            is_ready: The question; an `OSError` counts as no.
            timeout_s: How long to go on asking.

        Raises:
            ServerError: The process ended, or the time is over; it is killed then.
        """
        deadline = time.monotonic() + timeout_s
        last_error: OSError | None = None
        while time.monotonic() < deadline:
            if not self.is_running:
                code = self._process.returncode if self._process else None
                self._fail(f"ended with exit code {code} before it was ready")
            try:
                if is_ready():
                    return
            except OSError as error:
                last_error = error
            time.sleep(POLL_INTERVAL_S)
        self._fail(f"was not ready within {timeout_s:g} s (last error: {last_error})")

    def _fail(self, what: str) -> None:
        self.kill()
        raise ServerError(f"{self.name} {what}; end of {self.log_path}:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        try:
            text = self.log_path.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace")
        except FileNotFoundError:
            return "(no log was written)"
        return text or "(the log is empty)"

    def stop(self) -> None:
        """End it in order (SIGINT), or by force when it takes too long; quiet when it is not running."""
        if self.is_running and os.getpid() == self._owner_pid:
            self._end(signal.SIGINT, self._stop_timeout_s)
        self.kill()

    def kill(self) -> None:
        """End it and everything it started with SIGKILL; quiet when nothing is left."""
        # A forked copy of the owner inherits the atexit hook, but not the right to end the owner's servers.
        if self._process is None or os.getpid() != self._owner_pid:
            return
        self._end(signal.SIGKILL, KILL_DEADLINE_S)
        self._process = None
        atexit.unregister(self.kill)

    def _end(self, number: signal.Signals, timeout_s: float) -> None:
        """Signal the group, wait for the members that we know; then SIGKILL those that left the group or linger."""
        process = self._process
        if process is None:
            return
        members = _family(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(KILL_DEADLINE_S)
        for member in _wait_for(members, min(timeout_s, 1.0)):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        if alive := _wait_for(members, KILL_DEADLINE_S):
            raise ServerError(f"{self.name}: processes survived SIGKILL: {[member.pid for member in alive]}")


def _family(pid: int) -> list[psutil.Process]:
    """Return the descendants of a process, without the process itself."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _wait_for(members: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait for processes that are not our children to end; return those that have not."""
    deadline = time.monotonic() + timeout_s
    while alive := [member for member in members if is_alive(member)]:
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_INTERVAL_S)
    return alive


def is_alive(member: psutil.Process) -> bool:
    """Tell whether a process still holds anything: files, ports, memory."""
    try:
        if not member.is_running():
            return False
        # An orphan that has ended stays a zombie until init collects it, which took seconds in a small container. But
        # the first thread is a zombie once it has ended itself, while others may still hold the ports and files.
        return member.status() != psutil.STATUS_ZOMBIE or bool(member.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False


class Server:
    """What all test servers share: a context manager that starts on entry and stops on exit.

    A subclass gives `start`, which leaves a ready server in ``self._process``.
    """

    host = "127.0.0.1"

    def __init__(self) -> None:
        self._process: ServerProcess | None = None
        self._reserved = ReservedPort()
        self.port = self._reserved.number

    @property
    def pid(self) -> int:
        """The process id of the server itself, e.g. for measuring its memory."""
        if self._process is None:
            raise ServerError(f"{type(self).__name__} is not running: start it first")
        return self._process.pid

    def start(self) -> None:
        """Start, and return when clients are answered."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop in order; the data stay, and `start` continues with them on the same port."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """Kill at once, as a crash would; `start` or `restart` brings it back on the same port."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        """Stop if running, then start again with the same data on the same port."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop for good and give the port back."""
        self.stop()
        self._reserved.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            self._reserved.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
