"""Ids in another store's terms: one to one, deterministic, the rule frozen by a golden file in the tests.

Belongs here: the rule and the proof that no two ids meet under it. Does not belong here: keeping the original id
(``envelope/``), which ids a store can hold (``stores/capabilities.py``).

    target holds            id                                    becomes
    the id's own kind       any                                   itself
    uint64 and uuid         canonical lowercase UUID text         that UUID
                            anything else                         uuid5(NAMESPACE, kind + ":" + text)
    strings                 integer or UUID                       its text
                            too long, or empty and not allowed    text of uuid5(NAMESPACE, kind + ":" + text)
    int64 only              anything else                         refused when planned

The kind word is ``string``, ``int`` or ``uuid``, as in `records.id_text`.
"""

import hashlib
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.records import INT64_MAX, INT64_MIN, UINT64_MAX, IdKind, RecordId, id_text
from rag_migration_pipeline.uuids import parse_uuid

NAMESPACE = uuid.UUID("8f6b1f0e-6f0c-5d0e-9a52-3b7c1d2e4f60")
"""Namespace of every uuid5 that this project derives; published, never to change."""

_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True)
class IdRule:
    """How ids are written in a target collection.

    Attributes:
        kinds: Id kinds that the collection holds.
        max_length_bytes: Longest string id in bytes of UTF-8, or None.
        has_empty: Whether the empty string can be an id.
        namespace: Where set, every id is derived under it first (the strategy uuid5 of ``mapping/id_strategy.py``).
    """

    kinds: frozenset[IdKind]
    max_length_bytes: int | None = None
    has_empty: bool = True
    namespace: uuid.UUID | None = None

    def native(self, record_id: RecordId) -> RecordId:
        """Return the id that the target stores for this id.

        Raises:
            SchemaCompatibilityError: The collection holds integers only and this is none that fits, or its strings
                are too short for a UUID.
        """
        if self.namespace is not None:
            record_id = derived_uuid(record_id, self.namespace)
        if isinstance(record_id, str) and self._has_uuids_alone:
            return parse_uuid(record_id) if _CANONICAL_UUID.fullmatch(record_id) else derived_uuid(record_id)
        if self._is_held(record_id):
            return record_id
        if IdKind.STRING in self.kinds:
            for text in (str(record_id), str(derived_uuid(record_id))):
                if self._fits(text):
                    return text
        if IdKind.UUID in self.kinds:
            return derived_uuid(record_id)
        raise SchemaCompatibilityError(
            f"id {id_text(record_id)[:80]!r} does not fit a collection whose ids are {', '.join(sorted(self.kinds))}"
            f"{f' of at most {self.max_length_bytes} bytes' if self.max_length_bytes else ''}.",
            todo="Choose a target collection with string ids, or let the migration create one.",
        )

    @cached_property
    def _has_uuids_alone(self) -> bool:
        """Whether a string becomes a UUID."""
        return IdKind.UUID in self.kinds and IdKind.STRING not in self.kinds

    def _is_held(self, record_id: RecordId) -> bool:
        if isinstance(record_id, str):
            return IdKind.STRING in self.kinds and self._fits(record_id)
        if isinstance(record_id, uuid.UUID):
            return IdKind.UUID in self.kinds
        if IdKind.INT64 in self.kinds and INT64_MIN <= record_id <= INT64_MAX:
            return True
        return IdKind.UINT64 in self.kinds and 0 <= record_id <= UINT64_MAX

    def _fits(self, text: str) -> bool:
        if not text:
            return self.has_empty
        try:
            size_bytes = len(text.encode())
        except UnicodeEncodeError:
            return False
        return self.max_length_bytes is None or size_bytes <= self.max_length_bytes


def derived_uuid(record_id: RecordId, namespace: uuid.UUID = NAMESPACE) -> uuid.UUID:
    """Return the UUID derived from an id of another kind: uuid5, over UTF-8 that lets lone surrogates pass."""
    name = id_text(record_id).encode("utf-8", "surrogatepass")  # uuid.uuid5 takes bytes only since Python 3.12
    digest = hashlib.sha1(namespace.bytes + name, usedforsecurity=False).digest()
    return uuid.UUID(bytes=digest[:16], version=5)


def find_collisions(ids: Iterable[RecordId], rule: IdRule) -> list[tuple[RecordId, RecordId, RecordId]]:
    """Return (first id, second id, native id) for every two records that meet under the rule.

    The same id twice is such a pair: a source may keep a record under its id and one that an earlier migration derived.
    """
    seen: dict[RecordId, RecordId] = {}
    collisions = []
    for record_id in ids:
        native = rule.native(record_id)
        if native in seen:
            collisions.append((seen[native], record_id, native))
        else:
            seen[native] = record_id
    return collisions
