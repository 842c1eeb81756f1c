"""Writing to Milvus: columns sent as one request per partition, and deletions.

Belongs here: which requests are sent, in what order. Does not belong here: what they hold (``milvus_wire.py``), who may
write when (``milvus.py``).

A server keeps two records with one key if they are *inserted*, so writes are upserts there; Milvus Lite's upsert merges
dynamic fields, but its insert replaces, so there writes are inserts. An upsert replaces within its own partition only,
so where there are several, the keys are deleted first (2.3.5, 3.2.2, tried).
"""

import threading
from collections.abc import Iterator, Sequence

import numpy as np

from rag_migration_pipeline.errors import SchemaCompatibilityError, StoreRequestError
from rag_migration_pipeline.records import RecordBatch, RecordId
from rag_migration_pipeline.stores import milvus_wire
from rag_migration_pipeline.stores.milvus_connection import Connection
from rag_migration_pipeline.stores.milvus_reading import Reader
from rag_migration_pipeline.stores.milvus_schema import Layout


class Writer:
    """Writes over one connection."""

    def __init__(self, connection: Connection, reader: Reader) -> None:
        """Keep the connection, and the reader that has to know of writes."""
        self._connection = connection
        self._reader = reader
        self._creating = threading.Lock()

    def write(self, layout: Layout, collection: str, part: RecordBatch) -> None:
        """Write screened records, acknowledged; partitions that they name exist.

        Raises:
            StoreRequestError: Fewer were acknowledged than sent.
        """
        if layout.has_partitions:
            self.delete(layout, collection, part.ids)
        for partition, records in _by_partition(part):
            self._send(layout, collection, records, partition)

    def _send(self, layout: Layout, collection: str, part: RecordBatch, partition: str) -> None:
        from pymilvus.grpc_gen import milvus_pb2

        what = f"writing {len(part)} records to collection {collection!r}"
        fields = milvus_wire.encode(layout, part)
        if self._connection.is_lite:
            insert = milvus_pb2.InsertRequest(collection_name=collection, fields_data=fields, num_rows=len(part))
            insert.partition_name = partition
            written = int(self._connection.call("Insert", insert, what).insert_cnt)
        else:
            request = milvus_pb2.UpsertRequest(collection_name=collection, fields_data=fields, num_rows=len(part))
            request.partition_name = partition
            written = int(self._connection.call("Upsert", request, what).upsert_cnt)
        self._reader.write_count += 1
        if written != len(part):
            raise StoreRequestError(
                f"{what} at {self._connection.address}: {written} were acknowledged.",
                todo="Write them again.",
                collection=collection,
            )

    def delete(self, layout: Layout, collection: str, ids: Sequence[RecordId]) -> None:
        """Delete keys in all partitions; at most as many as one request holds."""
        from pymilvus.grpc_gen import milvus_pb2

        request = milvus_pb2.DeleteRequest(collection_name=collection, expr=milvus_wire.key_in(layout.key, ids))
        self._connection.call("Delete", request, f"deleting {len(ids)} records of collection {collection!r}")
        self._reader.write_count += 1

    def create_partition(self, collection: str, partition: str) -> None:
        """Create a partition; one that is there already is fine."""
        from pymilvus.grpc_gen import milvus_pb2

        asked = milvus_pb2.HasPartitionRequest(collection_name=collection, partition_name=partition)
        with self._creating:  # two writers may meet the same new name
            if not self._connection.call("HasPartition", asked, f"looking for partition {partition!r}").value:
                request = milvus_pb2.CreatePartitionRequest(collection_name=collection, partition_name=partition)
                what = f"creating partition {partition!r} of {collection!r}"
                self._connection.call("CreatePartition", request, what)


def missing_partitions(layout: Layout, batch: RecordBatch) -> list[str]:
    """Return the partitions that records name and the collection does not have."""
    return sorted({name for name in batch.partitions or () if name is not None} - set(layout.partitions))


def _by_partition(batch: RecordBatch) -> Iterator[tuple[str, RecordBatch]]:
    """Yield partition and records; an empty name lets Milvus choose, by its default or by the partition key."""
    if batch.partitions is None:
        yield "", batch
        return
    names = np.array([name or "" for name in batch.partitions])
    for name in np.unique(names).tolist():
        yield name, batch.take(np.flatnonzero(names == name).tolist())


def refuse_unwritable(layout: Layout, batch: RecordBatch) -> None:
    """Refuse what concerns all records.

    Raises:
        SchemaCompatibilityError: The batch lacks vectors, the collection makes its own ids, or a partition key decides
            where records are.
    """
    problems = []
    absent = sorted(set(layout.vectors) - set(batch.vectors))
    if absent:
        problems.append(f"the batch lacks vectors that every record has: {absent}")
    if layout.is_auto_id:
        problems.append("it gives its own ids (auto_id), so that records could not keep theirs")
    if layout.partition_key is not None and any(batch.partitions or ()):
        problems.append(f"its partition key {layout.partition_key!r} decides the partition, and records name others")
    if problems:
        raise SchemaCompatibilityError(
            f"collection {layout.collection!r} cannot be written: {'; '.join(problems)}.",
            todo="Choose another collection as target.",
            collection=layout.collection,
        )
