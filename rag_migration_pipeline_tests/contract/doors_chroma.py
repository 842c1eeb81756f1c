"""Back door of Chroma: the vendor's ``Collection`` in its plainest use, one record per call.

Belongs here: reading and writing round the adapter. Does not belong here: anything of the adapter but its settings and,
for a folder, the engine that it has open: a second engine over one folder would not see the first one's index.
"""

from typing import Any

import chromadb
import numpy as np
from chromadb.config import Settings

from rag_migration_pipeline.records import DEFAULT_VECTOR, CollectionSpec, DenseColumn, Metric, RecordBatch
from rag_migration_pipeline.stores.chroma import ChromaSettings, ChromaStore

_URI = "chroma:uri"
"""Where our payloads hold a record's URI, which is no metadata in Chroma."""

PAGE_COUNT = 5_000
_SPACES = {Metric.COSINE: "cosine", Metric.DOT: "ip", Metric.L2: "l2"}


class ChromaDoor:
    """Reads and writes with ``chromadb.Collection``."""

    def __init__(self, settings: ChromaSettings, store: ChromaStore) -> None:
        """Connect to a server; take the open engine of a folder."""
        self._place = {"tenant": settings.tenant, "database": settings.database}
        self._client: Any = None
        self._store = store
        if settings.path is not None:
            return
        options = Settings(_env_file=None)
        if settings.token is not None:
            options.chroma_client_auth_provider = "chromadb.auth.token_authn.TokenAuthClientProvider"
            options.chroma_client_auth_credentials = settings.token.get_secret_value()
            options.chroma_auth_token_transport_header = settings.token_header
        self._client = chromadb.HttpClient(
            host=settings.host, port=settings.port, ssl=settings.is_tls, settings=options, **self._place
        )

    @property
    def _api(self) -> Any:
        """The own client's, or the one of the store: that opens its folder anew before its first write."""
        return self._store.api if self._client is None else self._client._server

    def _collection(self, name: str) -> chromadb.Collection:
        model = self._api.get_collection(name=name, **self._place)
        return chromadb.Collection(client=self._api, model=model, embedding_function=None)

    def raw_create(self, spec: CollectionSpec) -> None:
        """Create a collection with the metric alone; its dimension is that of its first record, which is gone again."""
        self._api.create_collection(
            name=spec.name,
            configuration={"hnsw": {"space": _SPACES[spec.vectors[0].metric]}},
            metadata=dict(spec.metadata) or None,
            **self._place,
        )
        held = self._collection(spec.name)
        held.add(ids=["first"], embeddings=[[1.0] * (spec.vectors[0].dimension or 0)])
        held.delete(ids=["first"])

    def raw_collections(self) -> list[str]:
        """Return all names from one unpaged list."""
        return [model.name for model in self._api.list_collections(**self._place)]

    def raw_write(self, collection: str, batch: RecordBatch) -> None:
        """Add one record after the other."""
        held = self._collection(collection)
        for row, record_id in enumerate(batch.ids):
            document = batch.documents[row] if batch.documents is not None else None
            payload = dict(batch.payloads[row])
            uri = payload.pop(_URI, None)
            held.add(
                ids=[record_id],
                embeddings=[batch.dense().values[row]],
                metadatas=[payload] if payload else None,
                documents=None if document is None else [document],
                uris=None if uri is None else [uri],
            )

    def raw_read(self, collection: str) -> RecordBatch:
        """Get everything, in pages: one answer over some 30,000 records has too many SQL variables (1.5.9)."""
        held = self._collection(collection)
        parts = [
            held.get(include=["embeddings", "metadatas", "documents", "uris"], limit=PAGE_COUNT, offset=offset)
            for offset in range(0, max(held.count(), 1), PAGE_COUNT)
        ]
        vectors = [np.array(part["embeddings"], dtype=np.float32) for part in parts]
        return RecordBatch(
            ids=[record_id for part in parts for record_id in part["ids"]],
            vectors={DEFAULT_VECTOR: DenseColumn(np.concatenate(vectors))},
            payloads=[
                {**(metadata or {}), **({} if uri is None else {_URI: uri})}
                for part in parts
                for metadata, uri in zip(part["metadatas"], part["uris"], strict=True)
            ],
            documents=[text for part in parts for text in part["documents"]],
        )

    def close(self) -> None:
        """Close what the door opened itself."""
        if self._client is not None:
            # The client leaves its connections open, and those of a second client that it makes (1.5.9).
            self._api._session.close()
            self._client._admin_client._server._session.close()
            self._client.close()
