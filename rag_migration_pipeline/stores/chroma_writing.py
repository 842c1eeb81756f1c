"""Writing records to Chroma so that they replace what was there, and checking that they did.

Belongs here: upsert, read back, put right. Does not belong here: the requests (``chroma_collection.py``).

Chroma's upsert is not a replacement: keys that are not given again stay, and so does a document (1.5.9). And a *new*
record may be born with list values of a record of a deleted collection, because ``delete_collection`` leaves the table
of lists behind and its row numbers are given out again (1.5.9, folder and server). So every part is read back without
vectors, which costs 4 % of the write, and put right:

- keys that should not be there are removed by an upsert that sets them to null;
- what is wrong then (an old document or URI) is deleted and written again; it may then be born with list values
  anew, so both happen twice.

Every step may be repeated. A process that dies between them leaves nothing that writing the batch again does not put
right; a record is absent meanwhile only where an old document or URI had to go.
"""

from collections.abc import Sequence
from http import HTTPStatus

import numpy as np

from rag_migration_pipeline.errors import StoreRequestError
from rag_migration_pipeline.records import Payload, RecordBatch, Rejection
from rag_migration_pipeline.stores.chroma_collection import ChromaCollection
from rag_migration_pipeline.stores.chroma_records import is_same_payload
from rag_migration_pipeline.stores.chroma_schema import URI_KEY
from rag_migration_pipeline.stores.screening import STAGE

_SHOWN = 5
_ROUNDS = 2
"""What was written again has a new row number, which may be one that inherits: a second round removes those keys."""


def write_part(collection: ChromaCollection, part: RecordBatch) -> list[Rejection]:
    """Write records of one request, acknowledged and read back.

    Args:
        collection: Where.
        part: Screened records, within the limits of one request.

    Returns:
        Records that are too large for a request of their own, and are not written.

    Raises:
        StoreRequestError: A record reads back differently whatever is done.
    """
    try:
        _send(collection, part, part.payloads)
    except StoreRequestError as error:
        if error.facts.get("status") != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise
        # The size of a request is known only once it is JSON; the server says where its limit is.
        if len(part) == 1:
            return [Rejection(part.ids[0], STAGE, f"the record is too large for one request: {error.what}")]
        half = len(part) // 2
        return write_part(collection, part.slice(0, half)) + write_part(collection, part.slice(half, len(part)))
    wrong = _wrong_rows(collection, part)
    if wrong:
        _put_right(collection, part.take(wrong), list(wrong.values()))
    return []


def _put_right(collection: ChromaCollection, part: RecordBatch, found: list[Payload]) -> None:
    """Make records what they should be.

    Args:
        collection: Where.
        part: Records that read back differently.
        found: Their payloads as they were read back.
    """
    for _ in range(_ROUNDS):
        pairs = zip(part.payloads, found, strict=True)
        _send(collection, part, [{**dict.fromkeys(old.keys() - new.keys() - {URI_KEY}), **new} for new, old in pairs])
        part = part.take(_wrong_rows(collection, part))
        if not len(part):
            return
        collection.delete(_ids(part))
        _send(collection, part, part.payloads)
        wrong = _wrong_rows(collection, part)
        if not wrong:
            return
        part, found = part.take(wrong), list(wrong.values())
    ids = _ids(part)
    raise StoreRequestError(
        f"{len(ids)} records of collection {collection.name!r} in {collection.address} read back differently from "
        f"what was written, also after deleting and writing them again: {', '.join(map(repr, ids[:_SHOWN]))}.",
        todo="Is somebody else writing to the collection?",
        collection=collection.name,
        address=collection.address,
        ids=ids,
    )


def _send(collection: ChromaCollection, part: RecordBatch, payloads: Sequence[Payload]) -> None:
    values = np.ascontiguousarray(part.dense().values, dtype=np.float32)
    collection.upsert(_ids(part), values, payloads, part.documents or [None] * len(part))


def _wrong_rows(collection: ChromaCollection, part: RecordBatch) -> dict[int, Payload]:
    """Return rows that read back differently, with the payload read back (empty for a missing record).

    Documents that were given are not read back: they are replaced, and reading them costs as much as they are long.
    """
    ids = _ids(part)
    found = collection.read_payloads(ids)
    documents = part.documents or [None] * len(part)
    with_document = collection.ids_with_document(
        [record_id for record_id, text in zip(ids, documents, strict=True) if text is None]
    )
    return {
        row: found.get(record_id, {})
        for row, record_id in enumerate(ids)
        if record_id in with_document
        or record_id not in found
        or not is_same_payload(part.payloads[row], found[record_id])
    }


def _ids(part: RecordBatch) -> list[str]:
    return [str(record_id) for record_id in part.ids]
