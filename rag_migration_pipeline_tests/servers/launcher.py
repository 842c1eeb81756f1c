"""The first process of every test server: ties it to its owner, and can give it a network of its own.

What belongs here: a stand-alone script (standard library only, run by path) that asks the kernel to kill it when its
owner dies and then either becomes the server (``exec``) or, with ``--forward``, stays as parent of a server that lives
in a fresh network namespace, and carries bytes between loopback ports outside and the server's ports inside.
What does not: which server is run, or when it is ready (``process.py`` and its users).

A namespace made by ``unshare`` has no name and no file: it disappears with the last process in it, so that nothing is
left behind even when owner, launcher and server are all killed. Sockets keep the namespace they were made in; that is
why the listening sockets are handed in as descriptors: made outside, they go on accepting connections from outside.
"""

import argparse
import array
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

# Source: linux/prctl.h, linux/sched.h, linux/sockios.h, linux/if.h.
PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1

# One splice moves at most one pipe's worth; 1 MiB is the kernel's default ceiling for a user (fs.pipe-max-size).
PIPE_SIZE_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 5.0
EXIT_NO_NAMESPACE = 97
EXIT_OWNER_GONE = 98


def die_with_owner(owner_pid: int) -> None:
    """Ask the kernel to SIGKILL this process when the thread that started it ends."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # The owner may have died before the request was in place; then nobody would ever send the signal.
    if os.getppid() != owner_pid:
        sys.exit(EXIT_OWNER_GONE)


def reset_signals() -> None:
    """Undo what a background shell or a signal-masking owner left behind, so that the server hears SIGINT."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def enter_new_network() -> None:
    """Move this process into a network namespace of its own, with the loopback interface up.

    Raises:
        OSError: Neither root nor user namespaces are available.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWNET) != 0:
        # An ordinary user may make a network namespace inside a user namespace, where the distribution allows it.
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = array.array("B", struct.pack("16sh14x", b"lo", 0))
        fcntl.ioctl(control, SIOCGIFFLAGS, request)
        flags = struct.unpack_from("16sh", request)[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def carry(source: socket.socket, sink: socket.socket) -> None:
    """Move bytes one way until either end closes, inside the kernel: no byte enters Python."""
    reading, writing = os.pipe()
    try:
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_SIZE_BYTES)
        while count := os.splice(source.fileno(), writing, PIPE_SIZE_BYTES):
            while count:
                count -= os.splice(reading, sink.fileno(), count)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # One side reset the connection; the other has to learn that it is broken, not that it ended.
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
    finally:
        os.close(reading)
        os.close(writing)


def serve_connection(outside: socket.socket, inside_port: int) -> None:
    """Join one accepted connection with a new one to the server, and close both when both directions are done."""
    with outside:
        try:
            inside = socket.create_connection(("127.0.0.1", inside_port), timeout=CONNECT_TIMEOUT_S)
        except OSError:
            # Nobody listens yet: reset, so that the client sees a failure and not an empty answer.
            outside.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        with inside:
            inside.settimeout(None)
            for end in (outside, inside):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answers = threading.Thread(target=carry, args=(inside, outside), daemon=True)
            answers.start()
            carry(outside, inside)
            answers.join()


def forward(listener: socket.socket, inside_port: int) -> None:
    """Accept for ever and serve each connection in a thread of its own."""
    while True:
        outside, _ = listener.accept()
        threading.Thread(target=serve_connection, args=(outside, inside_port), daemon=True).start()


def run_in_namespace(command: list[str], forwards: list[tuple[int, int]]) -> int:
    """Run the command in a network of its own, forwarding ``(listening descriptor, port inside)`` pairs.

    Returns:
        The command's exit code (negative: the signal that ended it).
    """
    listeners = [(socket.socket(fileno=descriptor), port) for descriptor, port in forwards]
    try:
        enter_new_network()
    except OSError as error:
        sys.stderr.write(f"launcher: no network namespace: {error}\n")
        return EXIT_NO_NAMESPACE
    # The owner signals the whole group: the server stops by itself and takes this process with it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    me = os.getpid()
    # Started through this script again, so that the server dies with this process as this one dies with its owner.
    with subprocess.Popen([sys.executable, "-I", __file__, "--owner", str(me), "--", *command]) as server:
        for listener, port in listeners:
            threading.Thread(target=forward, args=(listener, port), daemon=True).start()
        return server.wait()


def main() -> None:
    """Read the arguments and become, or look after, the server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--owner", type=int, required=True, help="pid that this process dies with")
    parser.add_argument("--private", action="store_true", help="run in a network namespace of its own")
    parser.add_argument("--forward", action="append", default=[], help="descriptor:port inside")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    die_with_owner(arguments.owner)
    reset_signals()
    if not arguments.private:
        os.execvp(arguments.command[0], arguments.command)
    forwards = [(int(descriptor), int(port)) for descriptor, port in (f.split(":") for f in arguments.forward)]
    code = run_in_namespace(arguments.command, forwards)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
