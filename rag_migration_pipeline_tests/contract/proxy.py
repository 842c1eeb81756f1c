"""A TCP connection that the test can cut: how the laws make a server vanish without stopping it for everybody.

Belongs here: carrying bytes, and stopping to. Does not belong here: protocols.
"""

import contextlib
import socket
import threading


class CuttableProxy:
    """Listens on a loopback port and carries bytes to another until it is cut."""

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        """Listen at once."""
        self._target = (target_host, target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._is_cut = False
        self._lock = threading.Lock()
        self._start(self._accept)

    def cut(self) -> None:
        """Break all connections and refuse new ones; more than once is fine."""
        with self._lock:
            self._is_cut = True
            ends = [self._listener, *self._ends]
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(5.0)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._is_cut:
            try:
                outside, _ = self._listener.accept()
                inside = socket.create_connection(self._target)
            except OSError:
                return
            with self._lock:
                self._ends += [outside, inside]
            self._start(self._carry, outside, inside)
            self._start(self._carry, inside, outside)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
