"""Reading Milvus by key: queries at a point in time, pages, fetches.

Belongs here: which queries are sent, how large they are, what they see. Does not belong here: what a query's answer
holds (``milvus_wire.py``), whether the collection may be read (``milvus.py``).

A server answers reads at a timestamp. Every reading takes a fresh one from the server (``AllocTimestamp``), so that it
sees every write acknowledged before by anybody; the first query waits for it, up to 200 ms on 2.3.5, and the pages
that follow do not. "Strong" would pay that for every page, and "Eventually" may miss what was just written. Whoever
calls `begin` takes one time for all readings that follow.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import itemgetter
from typing import Any

from rag_migration_pipeline.batching import concatenate
from rag_migration_pipeline.errors import StopError, StoreRequestError
from rag_migration_pipeline.records import RecordBatch, RecordId
from rag_migration_pipeline.stores.milvus_connection import Connection
from rag_migration_pipeline.stores.milvus_schema import DEFAULT_PARTITION, DYNAMIC_FIELD, Layout
from rag_migration_pipeline.stores.milvus_wire import (
    decode_batch,
    decode_ids,
    decode_values,
    empty_batch,
    key_in,
    key_range,
    refuse_disorder,
)

MAX_WINDOW = 16_384
"""Most records of one answer (``quotaAndLimits.limits.maxQueryResultWindow`` of 2.3.5)."""
MAX_ANSWER_BYTES = 24 * 2**20
"""Size of an answer aimed at; a server stops at 100 MiB (``quotaAndLimits.limits.maxOutputSize`` of 2.3.5)."""
FETCH_COUNT = 2_000
LITE_COUNT = 8_192
"""Records per query of Milvus Lite, which looks at the whole collection for each page (3.2.2): 1,000 per query read
20,000 x 384 at 0.6k records/s, 4,000 at 1.9k."""
LITE_ID_COUNT = 65_536
"""The same where only keys are asked for; Lite has no window."""
# What a record is taken to weigh beside its vectors before the first page has told.
_ASSUMED_PAYLOAD_BYTES = 4_096
_ASSUMED_ID_BYTES = 64


@dataclass(frozen=True)
class KeyRange:
    """Keys of a collection in [start, stop); None for no bound.

    Attributes:
        collection: The name it was asked for by, which may be an alias.
        partition: The one partition that is meant; empty for all.
        where: An expression that must hold as well.
    """

    layout: Layout
    collection: str
    start: RecordId | None = None
    stop: RecordId | None = None
    partition: str = ""
    where: str | None = None


class Moment:
    """The time at which several reads see a server's collections: not before any write of ours."""

    def __init__(self, reader: "Reader") -> None:
        """Wait with the question for the time until the first read."""
        self._reader = reader
        self._state = (-1, 0)  # writes known of, time; one object, because several threads read

    def timestamp(self) -> int:
        """Return the time, a later one after a write through this store; see `Reader.now`."""
        write_count, timestamp = self._state
        if write_count != self._reader.write_count:
            write_count = self._reader.write_count
            timestamp = self._reader.now()
            self._state = (write_count, timestamp)
        return timestamp


class Reader:
    """Reads loaded collections over one connection.

    Attributes:
        write_count: Writes through the same store that were acknowledged; whoever writes counts them.
    """

    def __init__(self, connection: Connection) -> None:
        """Keep the connection, which somebody else closes."""
        self._connection = connection
        self._is_lite = connection.is_lite
        self._has_timestamps = not connection.is_lite
        self.write_count = 0
        self._moment: Moment | None = None

    def count(self, collection: str, where: str | None = None) -> int:
        """Return the exact number of records; records that share a key are counted one by one."""
        answer = self._query(collection, where or "", ["count(*)"], self.timestamp())
        return int(answer.fields_data[0].scalars.long_data.data[0])

    def ids(self, keys: KeyRange, page_count: int) -> Iterator[list[RecordId]]:
        """Yield the keys in order; of records that share a key, a server answers one per partition."""
        for ids, _ in self._merged(keys, [keys.layout.key.name], page_count, lambda _, ids: ids):
            for start in range(0, len(ids), page_count):
                yield ids[start : start + page_count]

    def values(self, keys: KeyRange, name: str, page_count: int) -> Iterator[tuple[list[RecordId], list[Any]]]:
        """Yield the keys in order, each with one payload value; the dynamic field serves names of no field."""
        layout = keys.layout
        column = name if name in layout.fields else DYNAMIC_FIELD
        fields = [layout.key.name, column] if column in layout.fields or layout.has_dynamic else [layout.key.name]
        yield from self._merged(
            keys, fields, page_count, lambda answer, ids: decode_values(layout, name, answer, len(ids))
        )

    def _merged(
        self,
        keys: KeyRange,
        fields: Sequence[str],
        page_count: int,
        values_of: Callable[[Any, list[RecordId]], list[Any]],
    ) -> Iterator[tuple[list[RecordId], list[Any]]]:
        """Yield keys and values in pages, in the order of the keys over all partitions.

        A server that is asked for all partitions at once answers one of the records that share a key.
        """
        row_bytes = _ASSUMED_ID_BYTES if len(fields) == 1 else _ASSUMED_PAYLOAD_BYTES

        def pages(part: KeyRange) -> Iterator[tuple[list[RecordId], list[Any]]]:
            for answer in self._pages(part, fields, page_count, row_bytes, self.timestamp()):
                ids = decode_ids(keys.layout, answer)
                yield ids, values_of(answer, ids)

        if self._is_lite or not keys.layout.has_partitions:
            yield from pages(keys)
            return
        parts = [pages(replace(keys, partition=name)) for name in keys.layout.partitions]
        rows = heapq.merge(*map(_rows, parts), key=itemgetter(0))
        while page := list(islice(rows, page_count)):
            yield [row[0] for row in page], [row[1] for row in page]

    def batches(self, keys: KeyRange, page_count: int) -> Iterator[RecordBatch]:
        """Yield the records in the order of their keys, in batches of at most that many."""
        row_bytes = keys.layout.row_bytes + _ASSUMED_PAYLOAD_BYTES
        timestamp = self.timestamp()
        for answer in self._pages(keys, _all_fields(keys.layout), page_count, row_bytes, timestamp):
            batch = self._placed(keys.layout, keys.collection, decode_batch(keys.layout, answer), timestamp)
            for start in range(0, len(batch), page_count):
                yield batch.slice(start, start + page_count)

    def _placed(self, layout: Layout, collection: str, batch: RecordBatch, timestamp: int) -> RecordBatch:
        """Return the records with their partitions: a query answers none, so each partition is asked for the keys."""
        if not layout.has_partitions or not len(batch):
            return batch
        places: dict[RecordId, str] = {}
        for start in range(0, len(batch), FETCH_COUNT):
            expression = key_in(layout.key, batch.ids[start : start + FETCH_COUNT])
            for name in layout.partitions:
                if name != DEFAULT_PARTITION:
                    answer = self._query(collection, expression, [layout.key.name], timestamp, partition=name)
                    places.update(dict.fromkeys(decode_ids(layout, answer), name))
        return batch.with_columns(partitions=[places.get(record_id) for record_id in batch.ids])

    def fetch(self, layout: Layout, collection: str, ids: Sequence[RecordId], moment: Moment) -> RecordBatch:
        """Return the records with these keys, each once, in any order.

        Args:
            layout: The collection's columns.
            collection: Its name.
            ids: Different keys, of the kind that the collection holds.
            moment: When; a time of long ago costs no waiting.
        """
        if not ids:
            return empty_batch(layout)
        step = _rows_within(layout.row_bytes + _ASSUMED_PAYLOAD_BYTES, FETCH_COUNT)
        timestamp = moment.timestamp()
        return concatenate(
            [
                self._fetch_some(layout, collection, ids[start : start + step], timestamp)
                for start in range(0, len(ids), step)
            ]
        )

    def _fetch_some(self, layout: Layout, collection: str, ids: Sequence[RecordId], timestamp: int) -> RecordBatch:
        try:
            answer = self._query(collection, key_in(layout.key, ids), _all_fields(layout), timestamp)
        except StoreRequestError:  # larger than an answer may be; see `_pages`
            if len(ids) <= 1:
                raise
            middle = len(ids) // 2
            halves = (ids[:middle], ids[middle:])
            return concatenate([self._fetch_some(layout, collection, half, timestamp) for half in halves])
        return self._placed(layout, collection, decode_batch(layout, answer), timestamp)

    def _pages(
        self, keys: KeyRange, fields: Sequence[str], page_count: int, row_bytes: int, timestamp: int
    ) -> Iterator[Any]:
        """Yield the answers of a reading by key; a server's short page is no end, only an empty one is.

        Milvus Lite's pages may be larger than asked for.
        """
        after: RecordId | None = None
        largest = min(page_count, MAX_WINDOW)
        if self._is_lite:
            largest = max(page_count, LITE_ID_COUNT if len(fields) == 1 else LITE_COUNT)
        while True:
            limit = _rows_within(row_bytes, largest)
            expression = key_range(keys.layout.key, start=keys.start, after=after, stop=keys.stop)
            if keys.where:
                expression = f"{expression} && {keys.where}"
            try:
                answer = self._query(keys.collection, expression, fields, timestamp, limit, keys.partition)
            except StoreRequestError:
                # Records may be far larger than those before, and servers refuse long answers without a code of its
                # own for that: ask for less, and let the last refusal say what it is.
                if limit <= 1:
                    raise
                largest = max(1, limit // 4)
                continue
            ids = decode_ids(keys.layout, answer)
            if not ids:
                return
            refuse_disorder(ids, after, keys.collection)
            yield answer
            if self._is_lite and len(ids) < limit:
                return
            row_bytes = max(1, answer.ByteSize() // len(ids))
            after = ids[-1]

    def begin(self) -> None:
        """Let readings that follow see what was acknowledged until now, or through the same store."""
        self._moment = Moment(self)
        self._moment.timestamp()

    def timestamp(self) -> int:
        """Return when a reading is to be: since `begin`, if that was called, else now."""
        return self.now() if self._moment is None else self._moment.timestamp()

    def now(self) -> int:
        """Return the server's time now; 0 asks for a fresh one with each query (Strong)."""
        from pymilvus.grpc_gen import milvus_pb2

        if not self._has_timestamps:
            return 0
        try:
            return int(self._connection.call("AllocTimestamp", milvus_pb2.AllocTimestampRequest()).timestamp)
        except StopError:  # not in every server, and not allowed to every user: then each page pays for its own
            self._has_timestamps = False
            return 0

    def _query(
        self,
        collection: str,
        expression: str,
        fields: Sequence[str],
        timestamp: int,
        limit: int | None = None,
        partition: str = "",
    ) -> Any:
        from pymilvus.grpc_gen import common_pb2, milvus_pb2

        request = milvus_pb2.QueryRequest(collection_name=collection, expr=expression, output_fields=fields)
        levels = common_pb2.ConsistencyLevel
        request.consistency_level = levels.Customized if timestamp else levels.Strong
        request.guarantee_timestamp = timestamp
        if partition:
            request.partition_names.append(partition)
        if limit is not None:
            request.query_params.add(key="limit", value=str(limit))
            # Both ask for keys in order; without the second, a server fills a page past the point where order holds.
            request.query_params.add(key="iterator", value="True")
            request.query_params.add(key="reduce_stop_for_best", value="True")
        return self._connection.call("Query", request, f"reading collection {collection!r}")


def _rows(pages: Iterator[tuple[list[RecordId], list[Any]]]) -> Iterator[tuple[Any, Any]]:
    for ids, values in pages:
        yield from zip(ids, values, strict=True)


def _all_fields(layout: Layout) -> list[str]:
    names = [layout.key.name, *(column.name for column in layout.vectors.values()), *layout.fields]
    return [*names, DYNAMIC_FIELD] if layout.has_dynamic else names


def _rows_within(row_bytes: int, count: int) -> int:
    return max(1, min(count, MAX_ANSWER_BYTES // row_bytes))
