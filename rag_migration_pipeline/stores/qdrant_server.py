"""A Qdrant server, over gRPC where it answers, else over REST.

Belongs here: connecting, credentials, waiting for the optimizers. Does not belong here: collections (``qdrant.py``),
points (``qdrant_transports.py``).
"""

import logging
import math
import ssl
import time
from pathlib import Path
from typing import Any

from rag_migration_pipeline.errors import StoreRequestError, StoreTimeoutError, StoreUnavailableError, TryAgainError
from rag_migration_pipeline.stores.qdrant import QdrantStore
from rag_migration_pipeline.stores.qdrant_errors import driver_errors
from rag_migration_pipeline.stores.qdrant_settings import DEFAULT_GRPC_PORT, QdrantSettings
from rag_migration_pipeline.stores.qdrant_transports import GrpcTransport, RestTransport
from rag_migration_pipeline.stores.readiness import Readiness

_GRPC_PROBE_TIMEOUT_S = 5.0
_GREENS_NEEDED = 2
"""Greens in a row that mean done: the optimizers wake up a moment after the last write."""

log = logging.getLogger(__name__)


class QdrantServerStore(QdrantStore):
    """A Qdrant server."""

    def __init__(self, settings: QdrantSettings) -> None:
        """Connect.

        Raises:
            StoreUnavailableError: Nothing answers.
            AuthenticationError: The api key is refused.
        """
        super().__init__(settings, "server")
        if settings.api_key is not None and not settings.is_tls:
            log.warning(
                "qdrant.api_key_without_tls address=%s: the key travels in the clear; use tls=true", self.address
            )
        self._client = self._connect()

    def _connect(self) -> Any:
        grpc_port = self.settings.known_grpc_port
        if self.settings.prefer_grpc != "false" and grpc_port is not None:
            client = self._connect_grpc(grpc_port)
            if client is not None:
                rest = RestTransport(client, self.address, self.capabilities)
                timeout_s = self.settings.timeout_s
                self._transport = GrpcTransport(client, self.address, timeout_s, self.capabilities, rest)
                return client
        client = self._new_client(DEFAULT_GRPC_PORT, prefer_grpc=False)
        try:
            self._probe_rest(client)
        except BaseException:
            client.close()
            raise
        self._transport = RestTransport(client, self.address, self.capabilities)
        return client

    def _connect_grpc(self, grpc_port: int) -> Any:
        """Return a client whose gRPC answers, or None where REST may be tried instead."""
        client = self._new_client(grpc_port, prefer_grpc=True)
        try:
            self._probe_grpc(client, grpc_port)
        except TryAgainError as error:
            client.close()
            if self.settings.prefer_grpc == "true":
                raise
            log.info("qdrant.grpc_unreachable address=%s reason=%s: REST is used", self.address, error.what)
            return None
        except BaseException:
            client.close()
            raise
        return client

    def _new_client(self, grpc_port: int, *, prefer_grpc: bool) -> Any:
        from qdrant_client import QdrantClient

        settings = self.settings
        options: dict[str, Any] = {}
        if settings.ca_file:
            with driver_errors(self.address, "reading the certificates"):
                options["verify"] = ssl.create_default_context(cafile=settings.ca_file)
                options["grpc_options"] = {"root_certificates": Path(settings.ca_file).read_bytes()}
        if settings.api_key is not None:
            # As a header it is what ``api_key=`` makes of it, without turning TLS on and without a Python warning.
            options["headers"] = {"api-key": settings.api_key.get_secret_value()}
        with driver_errors(self.address, "connect"):
            return QdrantClient(
                host=settings.host,
                port=settings.port,
                grpc_port=grpc_port,
                prefer_grpc=prefer_grpc,
                https=settings.is_tls,
                timeout=math.ceil(settings.timeout_s),
                check_compatibility=False,  # it asks the server from a thread of its own and only warns
                **options,
            )

    def _probe_grpc(self, client: Any, grpc_port: int) -> None:
        from qdrant_client import grpc

        address = f"{self.address} (gRPC port {grpc_port})"
        with driver_errors(address, "connect"):
            client.grpc_collections.List(
                grpc.ListCollectionsRequest(), timeout=min(_GRPC_PROBE_TIMEOUT_S, self.settings.timeout_s)
            )

    def _probe_rest(self, client: Any) -> None:
        try:
            with driver_errors(self.address, "connect"):
                client.get_collections()
        except StoreTimeoutError as error:
            raise StoreUnavailableError(error.what, todo="Check host, port and firewall.", **error.facts) from error

    def finish_loading(self, collection: str) -> None:
        """See `VectorStore.finish_loading`: wait until the optimizers have built what they want to build."""
        deadline = time.monotonic() + self.settings.finish_timeout_s
        pause_s, greens = 0.1, 0
        while True:
            status = self._optimizer_status(collection)
            greens = greens + 1 if status == "green" else 0
            if greens == _GREENS_NEEDED:
                return
            if time.monotonic() > deadline:
                raise StoreTimeoutError(
                    f"collection {collection!r} in {self.address} is still {status} after "
                    f"{self.settings.finish_timeout_s:.0f} s.",
                    todo="The data are there; wait, and run again.",
                )
            time.sleep(pause_s)
            pause_s = min(2.0, pause_s * 1.5)

    def _optimizer_status(self, collection: str) -> str:
        """Return green, yellow or grey.

        Raises:
            StoreRequestError: The collection is red: an optimizer failed for good.
        """
        from qdrant_client import models

        with self._known(collection), self._calling("finish loading", collection) as client:
            info = client.get_collection(collection)
            if info.status == models.CollectionStatus.GREY:
                # Optimizations that wait for an update to start them (after a restart); an empty one will do.
                client.update_collection(collection, optimizers_config=models.OptimizersConfigDiff())
        if info.status == models.CollectionStatus.RED:
            raise StoreRequestError(
                f"collection {collection!r} in {self.address} is red: {str(info.optimizer_status)[:300]}.",
                todo="Look at the server's log.",
            )
        return str(info.status)

    def readiness(self, collection: str) -> Readiness:
        """See `VectorStore.readiness`: green is ready, also where little was worth an index."""
        from qdrant_client import models

        with self._known(collection), self._calling("readiness", collection) as client:
            info = client.get_collection(collection)
        status, threshold = info.status, info.config.optimizer_config.indexing_threshold
        indexed, total = info.indexed_vectors_count or 0, info.points_count or 0
        said = [f"the collection is {status}, its optimizer {_optimizer_text(info.optimizer_status)}"]
        said.append(f"{indexed} vectors of about {total} records are in an index")
        if threshold == 0:
            said.append("indexing is switched off (indexing_threshold 0): a search compares all vectors")
        elif indexed < total:
            limit = "indexing_threshold" if threshold is None else f"indexing_threshold of {threshold} kB"
            said.append(f"segments below the {limit} need none: a search compares their vectors one by one")
        return Readiness(
            is_ready=status == models.CollectionStatus.GREEN,
            is_stuck=status == models.CollectionStatus.RED,
            total=total,
            indexed=indexed,
            detail="; ".join(said),
        )

    def close(self) -> None:
        """See `VectorStore.close`."""
        client, self._client, self._transport = self._client, None, None
        if client is not None:
            client.close()


def _optimizer_text(status: Any) -> str:
    """Return an optimizer's status, which is ``ok`` or an object with an error."""
    return f"says {str(status.error)[:300]!r}" if hasattr(status, "error") else f"is {getattr(status, 'value', status)}"
