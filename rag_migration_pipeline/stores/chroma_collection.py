"""The requests about the records of one Chroma collection, through the client's ``ServerAPI``.

Belongs here: one request per method, with our errors. Does not belong here: what is made of the answers
(``chroma_records.py``), how a write is made a replacement (``chroma_writing.py``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rag_migration_pipeline.records import Float32Array, Payload
from rag_migration_pipeline.stores.chroma_errors import driver_errors
from rag_migration_pipeline.stores.chroma_records import payload_of, split_uris


class ChromaCollection:
    """One collection, by the id that it has in the store: a new one of the same name is another collection."""

    def __init__(self, api: Any, model: Any, place: Mapping[str, str], address: str) -> None:
        """Keep what every request needs.

        Args:
            api: The client's ``ServerAPI``.
            model: The client's ``chromadb.types.Collection``.
            place: Tenant and database.
            address: Named in messages.
        """
        self.name = str(model.name)
        self.address = address
        self._api = api
        self._place = {"collection_id": model.id, **place}

    def count(self) -> int:
        """Return the exact number of records."""
        with self._driver():
            return int(self._api._count(**self._place))

    def list_ids(self, limit: int, offset: int, where: Mapping[str, Any] | None = None) -> list[str]:
        """Return ids in the order in which they were first written; all, or those that a filter of Chroma's selects."""
        with self._driver():
            answer = self._api._get(limit=limit, offset=offset, where=where, include=[], **self._place)
        return list(answer["ids"])

    def list_values(
        self, key: str, limit: int, offset: int, where: Mapping[str, Any] | None = None
    ) -> tuple[list[str], list[Any]]:
        """Return ids as `list_ids`, each with one payload value (None where it is missing)."""
        with self._driver():
            answer = self._api._get(
                limit=limit, offset=offset, where=where, include=["metadatas", "uris"], **self._place
            )
        return list(answer["ids"]), [payload_of(answer, row).get(key) for row in range(len(answer["ids"]))]

    def first_payloads(self, limit: int) -> list[Payload]:
        """Return the metadata of the records that were written first."""
        with self._driver():
            answer = self._api._get(limit=limit, offset=0, include=["metadatas"], **self._place)
        return [dict(metadata or {}) for metadata in answer["metadatas"]]

    def read(self, ids: Sequence[str], include: Sequence[str]) -> Any:
        """Return the client's answer for these ids, in the store's order."""
        with self._driver():
            return self._api._get(ids=list(ids), include=list(include), **self._place)

    def read_payloads(self, ids: Sequence[str]) -> dict[str, Payload]:
        """Return payloads by id, without vectors and documents."""
        answer = self.read(ids, ("metadatas", "uris"))
        return {record_id: payload_of(answer, row) for row, record_id in enumerate(answer["ids"])}

    def ids_with_document(self, ids: Sequence[str]) -> set[str]:
        """Return which of these records have a document."""
        if not ids:
            return set()
        answer = self.read(ids, ("documents",))
        pairs = zip(answer["ids"], answer["documents"], strict=True)
        return {record_id for record_id, text in pairs if text is not None}

    def upsert(
        self,
        ids: Sequence[str],
        values: Float32Array,
        payloads: Sequence[Payload],
        documents: Sequence[str | None],
    ) -> None:
        """Write records as Chroma does: merged into what is there; acknowledged when this returns.

        Args:
            ids: Ids, each once.
            values: Vectors, array of shape (n_records, dimension), float32.
            payloads: Payloads; null removes a key.
            documents: Documents; null leaves an old one as it is.
        """
        metadatas, uris = split_uris(payloads)
        with self._driver():
            self._api._upsert(
                ids=list(ids),
                embeddings=list(values),
                metadatas=metadatas,
                documents=list(documents),
                uris=uris,
                **self._place,
            )

    def delete(self, ids: Sequence[str]) -> None:
        """Delete records; quiet about ids that do not exist (the number that Chroma returns counts those, too)."""
        with self._driver():
            self._api._delete(ids=list(ids), **self._place)

    def _driver(self) -> Any:
        return driver_errors(self.address, self.name)
