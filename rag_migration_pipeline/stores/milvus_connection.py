"""One connection to Milvus: the channel, what answers at its other end, and calls whose failures are ours.

Belongs here: addresses, credentials, deadlines, the vendor's generated stub. Does not belong here: what the requests
say (``milvus_wire.py``, ``milvus_schema.py``), what refusals mean (``milvus_errors.py``).

The stub that pymilvus generates is used on a channel of our own, instead of ``MilvusClient``: that repeats a failed
request by itself, up to 75 times or for the whole timeout (``decorators.retry_on_rpc_failure``, pymilvus 3.0.2), where
retries here have one owner above the store; it shares connections between clients; and its keepalive makes Milvus
Lite's server hang up (GOAWAY, ``too_many_pings``).
"""

import base64
import os
import re
import socket
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_migration_pipeline.errors import (
    AuthenticationError,
    CollectionNotFoundError,
    SpecError,
    StoreLockedError,
    StoreRequestError,
    StoreUnavailableError,
    TryAgainError,
)
from rag_migration_pipeline.stores.milvus_errors import from_rpc, from_status
from rag_migration_pipeline.stores.milvus_settings import MilvusSettings
from rag_migration_pipeline.stores.shared_handles import SharedHandles

CONNECT_TIMEOUT_S = 10.0
STOP_GRACE_S = 5.0


class Connection:
    """A channel to a Milvus server or to Milvus Lite.

    Attributes:
        database: The database that requests are about; empty for the default.
        is_lite: Whether Milvus Lite answers.
        version: The server's version, e.g. (2, 3, 5).
    """

    def __init__(
        self,
        endpoint: str,
        address: str,
        *,
        credentials: str = "",
        database: str = "",
        tls: bytes | None = None,
        tls_server_name: str = "",
        timeout_s: float,
    ) -> None:
        """Connect, and learn who answers.

        Args:
            endpoint: ``host:port``.
            address: The store's address without secrets, for messages.
            credentials: ``user:password`` or a token; empty for none.
            database: Sent with every request; empty for the default.
            tls: PEM of trusted roots, empty bytes for the system's; None for no TLS.
            tls_server_name: The name on the server's certificate, where it differs from the host.
            timeout_s: Longest wait for one answer.

        Raises:
            StoreUnavailableError: Nothing answers there in time.
            AuthenticationError: The credentials are refused.
            CollectionNotFoundError: There is no such database.
        """
        from pymilvus.grpc_gen import milvus_pb2_grpc

        self.address = address
        self.timeout_s = timeout_s
        self.is_lite = False
        self.version: tuple[int, ...] = ()
        self.database = database
        self._metadata = []
        if credentials:
            self._metadata.append(("authorization", base64.b64encode(credentials.encode()).decode()))
        self._is_closed = False
        self._channel = _channel(endpoint, tls, tls_server_name)
        self._stub = milvus_pb2_grpc.MilvusServiceStub(self._channel)
        try:
            self._greet()
            if database:
                self._refuse_missing_database()
                self._metadata.append(("dbname", database))
        except BaseException:
            self.close()
            raise

    def call(self, rpc: str, request: Any, what: str = "", timeout_s: float | None = None) -> Any:
        """Send one request, once, and return its answer.

        Args:
            rpc: The name of the remote procedure.
            request: Its generated message.
            what: The request in words, for the error.
            timeout_s: Another limit than the connection's.

        Raises:
            MigrationError: What the failure means, by its codes.
        """
        import grpc

        what = what or rpc
        if self._is_closed:
            raise StoreRequestError(
                f"{what} at {self.address} failed: the store is closed.", todo="Open it again.", concerns_all=True
            )
        try:
            answer = getattr(self._stub, rpc)(request, timeout=timeout_s or self.timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc(error, what, self.address) from error
        except ValueError as error:  # grpc refuses a channel that another thread closed meanwhile
            raise StoreRequestError(
                f"{what} at {self.address} failed: {error}.", todo="Open it again.", concerns_all=True
            ) from error
        refusal = from_status(getattr(answer, "status", answer), what, self.address, is_lite=self.is_lite)
        if refusal is not None:
            raise refusal
        return answer

    def close(self) -> None:
        """Close the channel; more than once is fine."""
        self._is_closed = True
        self._channel.close()

    def _greet(self) -> None:
        """Learn who answers, and that it lets us in."""
        from pymilvus.grpc_gen import milvus_pb2

        try:
            self._introduce()
            self.call("ShowCollections", milvus_pb2.ShowCollectionsRequest(), "the login")
        except AuthenticationError as error:
            raise AuthenticationError(
                f"Milvus at {self.address} refuses the credentials: {error.what}",
                todo="Set MILVUS_TOKEN (user:password), or MILVUS_USER and MILVUS_PASSWORD.",
                address=self.address,
            ) from error

    def _introduce(self) -> None:
        import pymilvus
        from pymilvus.grpc_gen import common_pb2, milvus_pb2

        host = socket.gethostname()
        client = common_pb2.ClientInfo(sdk_type="Python", sdk_version=pymilvus.__version__, host=host)
        timeout_s = min(self.timeout_s, CONNECT_TIMEOUT_S)
        try:
            info = self.call("Connect", milvus_pb2.ConnectRequest(client_info=client), "the connection", timeout_s)
        except TryAgainError as error:  # a host that swallows packets is as unreachable as one that refuses them
            raise StoreUnavailableError(
                f"Milvus cannot be reached at {self.address}: {error.what}",
                todo="Check host, port, TLS and firewall, and that Milvus runs there.",
                address=self.address,
            ) from error
        tags = info.server_info.build_tags
        self.is_lite = "milvus_lite" in tags
        self.version = tuple(int(part) for part in re.findall(r"\d+", tags)[:3])

    def _refuse_missing_database(self) -> None:
        from pymilvus.grpc_gen import milvus_pb2

        names = self.call("ListDatabases", milvus_pb2.ListDatabasesRequest(), "listing databases").db_names
        if self.database not in names:
            raise CollectionNotFoundError(
                f"there is no database {self.database!r} in {self.address}; databases there: "
                f"{', '.join(sorted(names))}.",
                todo="Check the name, or create the database.",
                address=self.address,
            )


def _channel(endpoint: str, tls: bytes | None, tls_server_name: str) -> Any:
    import grpc

    # Messages are limited by what we ask for. No keepalive: every call has a deadline.
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_retries", 0),
        # Channels to one address share a connection by default; ours live and die alone.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if tls is None:
        return grpc.insecure_channel(endpoint, options=options)
    if tls_server_name:
        options.append(("grpc.ssl_target_name_override", tls_server_name))
    return grpc.secure_channel(endpoint, grpc.ssl_channel_credentials(tls or None), options=options)


def connect(settings: MilvusSettings, endpoint: str) -> Connection:
    """Return a connection to that endpoint.

    Raises:
        SpecError: The file of trusted roots cannot be read.
        StoreUnavailableError: Nothing answers.
        AuthenticationError: The credentials are refused.
    """
    tls: bytes | None = None
    if settings.is_tls:
        try:
            tls = Path(settings.ca_file).read_bytes() if settings.ca_file else b""
        except OSError as error:
            raise SpecError(
                f"ca_file={settings.ca_file!r} cannot be read: {error.strerror}.", todo="Check the path."
            ) from error
    return Connection(
        endpoint,
        settings.address,
        credentials=settings.credentials,
        database="" if settings.database == "default" else settings.database,
        tls=tls,
        tls_server_name=settings.tls_server_name,
        timeout_s=settings.timeout_s,
    )


# -- Milvus Lite in this process -----------------------------------------------------------------------------------


def open_folder(settings: MilvusSettings, opened: ExitStack, *, create: bool) -> tuple[str, threading.Lock]:
    """Open a Milvus Lite folder in this process, once however often it is asked for.

    Opening writes to it only where the last user was killed: Lite then turns its log into data files. A first load
    after that adds index files. Neither changes a record.

    Args:
        settings: Name the folder.
        opened: Takes what gives the folder back.
        create: Whether it may be made.

    Returns:
        The endpoint that answers for it, and the lock that all its writers in this process take.

    Raises:
        CollectionNotFoundError: It does not exist, and must not be made.
        StoreLockedError: Another process, or another client in this one, has it open.
        SpecError: It cannot be a Milvus Lite folder.
    """
    path = Path(os.path.realpath(settings.path))
    is_database = (path / "collections").is_dir()
    if not create and not is_database:
        raise CollectionNotFoundError(
            f"there is no Milvus Lite folder at {path}.",
            todo="Check the path; files of Milvus Lite before 3.0 must be converted first.",
            address=settings.address,
        )
    if path.exists() and not is_database and (not path.is_dir() or any(path.iterdir())):
        raise SpecError(
            f"{path} holds something else than a Milvus Lite folder.", todo="Choose a new path, e.g. one ending in .db."
        )
    running = _folders.acquire(path)
    opened.callback(_folders.release, path)
    return f"127.0.0.1:{running.port}", running.write_turn


@dataclass(frozen=True)
class _Running:
    """Milvus Lite in this process: its gRPC server, its database, its port on loopback, and the turn to write."""

    server: Any
    database: Any
    port: int
    write_turn: threading.Lock


def _start_lite(path: str) -> _Running:
    from milvus_lite.adapter.grpc.server import start_server_in_thread
    from milvus_lite.exceptions import DataDirLockedError, MilvusLiteError

    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        server, database, port = start_server_in_thread(path, host="127.0.0.1", port=0)
    except DataDirLockedError as error:
        raise StoreLockedError(
            f"the Milvus Lite folder {path} is open in another program or client.",
            todo="Close it there, or run `milvus-lite server` on it and use milvus://.",
            folder=path,
        ) from error
    except (MilvusLiteError, OSError) as error:
        raise SpecError(
            f"{path} cannot be opened as a Milvus Lite folder: {error}.", todo="Check the path and its permissions."
        ) from error
    return _Running(server, database, port, threading.Lock())


def _stop_lite(running: _Running) -> None:
    running.server.stop(grace=STOP_GRACE_S).wait()
    running.database.close()


_folders = SharedHandles(_start_lite, _stop_lite)
