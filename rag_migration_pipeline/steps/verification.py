"""Verification: whether a target holds what a source holds, whoever copied it.

Belongs here: comparing two collections record by record, without any state. Does not belong here: the proof of a
migration against its receipts (``steps/report.py``).

Both sides are read as this project would read them (an envelope is opened, a document is taken from its key); the
source then goes through filter, mapping and the choice of vectors. Records are matched by the id that the target
would give them. Where the target keeps directions only, directions are compared.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rag_migration_pipeline.digests import digest_contents, digest_vectors
from rag_migration_pipeline.envelope import Layout, layout_of, unpack
from rag_migration_pipeline.errors import SchemaCompatibilityError, SpecError
from rag_migration_pipeline.events import BatchDone, EventSink, ignore_events
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.plan import planned_mapping, target_layout_of
from rag_migration_pipeline.records import RecordBatch, RecordId, RecordRange, id_text
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.context import PLAIN, Openers
from rag_migration_pipeline.steps.filter import filter_batches
from rag_migration_pipeline.steps.listing import list_selected
from rag_migration_pipeline.steps.transform import transform_batches
from rag_migration_pipeline.steps.validate import compare_batches
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.vector_choice import renaming_routes, route_vectors
from rag_migration_pipeline.vectors import FLOAT32, converted

REMEMBERED = 10_000
"""So many changed records are looked through for those that hold what belongs to another one."""


@dataclass
class Verification:
    """How two collections compare; ids as the target names them, as text.

    Attributes:
        source_count: Records in the source.
        target_count: Records in the target.
        expected: Records of the source that filter and mapping leave.
        compared: Records that were read on both sides.
        missing: Ids that the target lacks.
        extra: Ids that the source does not explain; not looked for in a sample.
        changed: Id -> what differs.
        swapped: Id -> the id whose record it holds.
        unmapped: Records that the mapping cannot change.
        is_sample: Whether only some records were compared.
    """

    source: str
    target: str
    source_count: int = 0
    target_count: int = 0
    expected: int = 0
    compared: int = 0
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    changed: dict[str, str] = field(default_factory=dict)
    swapped: dict[str, str] = field(default_factory=dict)
    unmapped: int = 0
    is_sample: bool = False
    verified_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    duration_s: float = 0.0

    @property
    def is_identical(self) -> bool:
        """Whether nothing differs; of a sample, nothing that was looked at."""
        is_counted = self.is_sample or self.target_count == self.expected
        return is_counted and not (self.missing or self.extra or self.changed or self.unmapped)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return id, finding and detail of everything that differs."""
        found = [(record_id, "missing", "") for record_id in self.missing]
        found += [(record_id, "extra", "") for record_id in self.extra]
        for record_id, what in self.changed.items():
            other = self.swapped.get(record_id)
            found.append((record_id, "changed", what if other is None else f"{what}; it holds the record of {other}"))
        return found

    def summary(self) -> str:
        """Return one sentence."""
        what = f"{self.compared} of {self.expected} records compared"
        if self.is_identical:
            return f"{what}: identical"
        parts = [(len(self.missing), "missing"), (len(self.extra), "extra"), (len(self.changed), "changed")]
        parts += [(len(self.swapped), "of these swapped"), (self.unmapped, "that cannot be mapped")]
        said = ", ".join(f"{count} {word}" for count, word in parts if count)
        return f"{what}: {said or f'the target holds {self.target_count} records'}"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "is_identical": self.is_identical,
            "verified_at": self.verified_at.isoformat(),
        }

    def to_pandas(self) -> Any:
        """Return what differs as a ``pandas.DataFrame`` with the columns id, finding and detail."""
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=["id", "finding", "detail"])


_PLAIN = (
    "source",
    "target",
    "source_count",
    "target_count",
    "expected",
    "compared",
    "missing",
    "extra",
    "changed",
    "swapped",
    "unmapped",
    "is_sample",
    "duration_s",
)


def verify(
    migration: Migration, *, sample: int | None = None, emit: EventSink = ignore_events, openers: Openers = PLAIN
) -> Verification:
    """Compare a migration's source with its target, both read-only.

    Args:
        migration: Names both sides, filter, mapping and vectors; it need not have been run.
        sample: Compares about that many records, spread evenly; None compares all.
        emit: Takes an event per batch.
        openers: How the stores are opened.

    Raises:
        CollectionNotFoundError: One of the collections does not exist.
        SourceChangedError: The source's ids do not hold still.
        SpecError: A sample of nothing, which would find nothing.
    """
    if sample is not None and sample < 1:
        raise SpecError(f"sample is {sample}: at least 1 record is to be compared.", todo="None compares all.")
    begun = time.perf_counter()
    with openers.source(migration.source) as source, openers.source(migration.target) as target:
        comparison = _Comparison(migration, source, target)
        listing = list_selected(migration, source, with_originals=False)
        chosen = _chosen(listing.ids, sample)
        found = comparison.found
        found.is_sample = len(chosen) < len(listing.ids)
        is_whole = not found.is_sample and not listing.push_down.is_narrowed
        for page in comparison.pages(chosen, is_whole=is_whole):
            started = time.perf_counter()
            comparison.compare(page)
            seconds = time.perf_counter() - started
            emit(BatchDone(migration.name, "", "validate", len(page), page.size_bytes(), seconds))
        comparison.finish()
    found.duration_s = time.perf_counter() - begun
    return found


class _Comparison:
    """Both sides, and what was found so far."""

    def __init__(self, migration: Migration, source: VectorStore, target: VectorStore) -> None:
        self._migration = migration
        self._source = source
        self._target = target
        source_info = source.describe(migration.source_collection)
        target_info = target.describe(migration.target_collection)
        self._source_layout = layout_of(source_info.spec, source.capabilities, migration.source.document_key)
        self._target_layout: Layout = target_layout_of(migration, target_info.spec, target.capabilities)
        self._mapping = planned_mapping(migration, source_info.spec, datetime.now(UTC))
        self._routes = renaming_routes(source_info.spec.vectors, migration.options.vectors)
        self._wanted = parse_filter(migration.options.filter)
        vectors = target_info.spec.vectors
        self._tolerances = {vector.name: target.capabilities.tolerance_of(vector) for vector in vectors}
        self._targets: set[RecordId] = set()
        self._expected_of: dict[bytes, str] = {}
        self._found_in: dict[str, bytes] = {}
        self.found = Verification(
            f"{source.address}, collection {migration.source_collection!r}",
            f"{target.address}, collection {migration.target_collection!r}",
            source_info.count,
            target_info.count,
        )

    def pages(self, ids: Sequence[RecordId], *, is_whole: bool) -> Iterator[RecordBatch]:
        """Yield the records of the source as they are expected in the target, under the ids that they have there."""
        name, size = self._migration.source_collection, self._source.capabilities.page_count
        if is_whole and ids:
            stored = self._source.read_range(name, RecordRange("", 0, ids[0], None, ids, 0), size)
        else:
            stored = self._source.fetch_pages(name, (ids[at : at + size] for at in range(0, len(ids), size)))
        unpacked = (unpack(batch, self._source_layout) for batch in stored)
        taken = filter_batches(unpacked, self._wanted)
        yield from transform_batches(taken, self._mapping, self._count_unmapped)

    def _count_unmapped(self, records: RecordBatch, _rejections: object) -> None:
        self.found.unmapped += len(records)

    def compare(self, page: RecordBatch) -> None:
        """Compare a page with what the target holds under its ids."""
        expected = self._expected(page)
        stored = self._target.fetch(self._migration.target_collection, expected.ids)
        held = unpack(stored, self._target_layout).with_columns(ids=stored.ids)
        if held.partitions is None:  # the target has none, and nobody noted them
            expected = expected.with_columns(partitions=None)
        findings = compare_batches(expected, held, self._target_layout.normalised, self._tolerances)
        self.found.expected += len(page)
        self.found.compared += findings.compared
        self.found.missing += findings.missing
        self.found.changed.update(findings.changed)
        self._remember(expected, held, findings.changed)

    def _expected(self, page: RecordBatch) -> RecordBatch:
        """Return a page with the ids and the vectors that the target would be given."""
        rule = self._target_layout.id_rule
        ids: list[RecordId] = []
        rows: list[int] = []
        for row, record_id in enumerate(page.ids):
            try:
                ids.append(rule.native(record_id))
                rows.append(row)
            except SchemaCompatibilityError:
                self.found.missing.append(id_text(record_id))
        self._targets.update(ids)
        types = self._target_layout.element_types
        routed = route_vectors(page.take(rows), self._routes)
        vectors = {name: converted(column, types.get(name, FLOAT32)) for name, column in routed.vectors.items()}
        return routed.with_columns(ids=ids, source_ids=None, vectors=vectors)

    def _remember(self, expected: RecordBatch, held: RecordBatch, changed: Mapping[str, str]) -> None:
        """Keep what changed records should hold and what they do, to tell those that changed places."""
        if not changed or len(self._found_in) >= REMEMBERED:
            return
        for batch, is_expected in ((expected, True), (held, False)):
            rows = [row for row, record_id in enumerate(batch.ids) if id_text(record_id) in changed]
            part = batch.take(rows)
            for record_id, signature in zip(part.ids, self._signatures(part), strict=True):
                if is_expected:
                    self._expected_of[signature] = id_text(record_id)
                else:
                    self._found_in[id_text(record_id)] = signature

    def _signatures(self, batch: RecordBatch) -> list[bytes]:
        exact = [
            digest_vectors(column)
            for name, column in sorted(batch.vectors.items())
            if name not in self._target_layout.normalised and not self._tolerances.get(name)
        ]
        return [b"".join(parts) for parts in zip(digest_contents(batch), *exact, strict=True)]

    def finish(self) -> None:
        """Look for what the source does not explain, and for records that changed places."""
        for record_id, signature in self._found_in.items():
            owner = self._expected_of.get(signature)
            if owner is not None and owner != record_id:
                self.found.swapped[record_id] = owner
        if self.found.is_sample:
            return
        seen: set[RecordId] = set()
        for page in self._target.iter_ids(self._migration.target_collection):
            for target_id in page:
                if target_id not in self._targets or target_id in seen:
                    self.found.extra.append(id_text(target_id))
                seen.add(target_id)


def _chosen(ids: Sequence[RecordId], sample: int | None) -> Sequence[RecordId]:
    """Return about that many ids, spread evenly."""
    if sample is None or sample >= len(ids):
        return ids
    return [ids[len(ids) * position // sample] for position in range(sample)]
