"""What the steps of one migration share while it runs: open stores, the manifest, layouts, state, the event sink.

Belongs here: opening and closing those together. Does not belong here: anything that a step does.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rag_migration_pipeline.envelope import Layout, layout_of
from rag_migration_pipeline.errors import ManifestError, SourceChangedError
from rag_migration_pipeline.events import EventSink, ignore_events
from rag_migration_pipeline.mapping.mapper import MappingPlan
from rag_migration_pipeline.options import is_over
from rag_migration_pipeline.plan import planned_mapping, target_layout_of
from rag_migration_pipeline.records import RecordId
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import StateFolder, state_folder
from rag_migration_pipeline.steps.drift import refuse_source_drift, refuse_target_drift
from rag_migration_pipeline.steps.manifest import (
    Manifest,
    open_manifest,
    prepare_target,
    proven_keys,
    read_known_ids,
)
from rag_migration_pipeline.steps.planning import make_manifest
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.registry import open_source, open_target
from rag_migration_pipeline.vector_choice import VectorRoute, renaming_routes


@dataclass(frozen=True)
class MigrationContext:
    """A migration with its stores open.

    Attributes:
        source: The source store, read-only.
        target: The target store.
        source_layout: How the source collection holds records.
        target_layout: How the target collection holds records.
        emit: Takes the steps' events.
        vector_routes: Where each vector goes; empty where all keep their names.
        known: The target's ids that others wrote; None reads them off the state when they are first asked for.
    """

    migration: Migration
    manifest: Manifest
    state: StateFolder
    source: VectorStore
    target: VectorStore
    source_layout: Layout
    target_layout: Layout
    emit: EventSink
    vector_routes: tuple[VectorRoute, ...] = ()
    known: frozenset[RecordId] | None = None

    @cached_property
    def known_ids(self) -> frozenset[RecordId]:
        """The target's ids that others wrote, as of the manifest; read when first asked for."""
        return self.known if self.known is not None else frozenset(read_known_ids(self.state, self.manifest))

    @cached_property
    def tolerances(self) -> Mapping[str, float]:
        """How far off each of the target's vectors may be, by name; 0.0 is bit for bit."""
        vectors = self.target.spec(self.migration.target_collection).vectors
        return {vector.name: self.target.capabilities.tolerance_of(vector) for vector in vectors}

    @cached_property
    def inexact_vectors(self) -> frozenset[str]:
        """Names of the vectors that the target does not keep bit for bit."""
        return self.target_layout.normalised | {name for name, tolerance in self.tolerances.items() if tolerance}

    @cached_property
    def mapping(self) -> MappingPlan | None:
        """What is done to records on their way, or None; the same in every run of one manifest."""
        return planned_mapping(self.migration, self.manifest.source_spec, self.manifest.created_at)

    @property
    def page_count(self) -> int:
        """Records per read page: the option, else what was measured to be fast for the source."""
        return self.migration.options.page_count or self.source.capabilities.page_count


@dataclass(frozen=True)
class Openers:
    """How the stores of a migration are opened; a runner puts wrappers around them."""

    source: Callable[[StoreSettings], VectorStore] = open_source
    target: Callable[[StoreSettings], VectorStore] = open_target


PLAIN = Openers()
"""Without wrappers."""


@contextmanager
def open_migration(
    migration: Migration,
    state_dir: Path,
    emit: EventSink = ignore_events,
    *,
    plan: bool = False,
    fresh: bool = False,
    openers: Openers = PLAIN,
) -> Iterator[MigrationContext]:
    """Open both stores and take up the migration's manifest; the target collection is there afterwards.

    Args:
        migration: The migration.
        state_dir: Folder of all migrations' state.
        emit: Takes the steps' events.
        plan: Make the manifest where there is none (or where a finished migration's source has other ids now).
        fresh: Make a new one whatever there is.
        openers: How the stores are opened.

    Raises:
        ManifestError: There is no manifest and ``plan`` is False, or it is damaged.
    """
    state = state_folder(state_dir, migration.identity)
    with ExitStack() as stack:
        if not plan:
            open_manifest(state, migration)  # before any store is touched
        source = stack.enter_context(openers.source(migration.source))
        source.begin_reading()
        source.spec(migration.source_collection)  # a missing source is told before a target folder is made
        target = stack.enter_context(openers.target(migration.target))
        manifest = (
            make_manifest(migration, source, target, state, emit, fresh=fresh)
            if plan
            else open_manifest(state, migration)
        )
        take_up(manifest, migration, source, target, state)
        yield context_of(migration, manifest, state, source, target, emit)


def take_up(
    manifest: Manifest, migration: Migration, source: VectorStore, target: VectorStore, state: StateFolder
) -> None:
    """Prepare the target as planned; go on only where both sides are still what was planned.

    Raises:
        SchemaCompatibilityError: One of them is not.
        ManifestError: The target has vanished.
    """
    refuse_source_drift(manifest, migration, source)
    prepare_target(manifest, migration, target, state)
    refuse_target_drift(manifest, migration, target)


def context_of(
    migration: Migration,
    manifest: Manifest,
    state: StateFolder,
    source: VectorStore,
    target: VectorStore,
    emit: EventSink = ignore_events,
) -> MigrationContext:
    """Return the context of stores that are open already."""
    source_spec = source.spec(migration.source_collection)
    target_spec = target.spec(migration.target_collection)
    return MigrationContext(
        migration=migration,
        manifest=manifest,
        state=state,
        source=source,
        target=target,
        source_layout=layout_of(source_spec, source.capabilities, migration.source.document_key),
        target_layout=target_layout_of(migration, target_spec, target.capabilities),
        emit=emit,
        vector_routes=renaming_routes(source_spec.vectors, migration.options.vectors),
    )


def as_stored(context: MigrationContext) -> MigrationContext:
    """Return the migration as it is planned now: another run may have planned on since this one began."""
    stored = open_manifest(context.state, context.migration)
    return context if stored.generation == context.manifest.generation else with_manifest(context, stored)


def with_manifest(context: MigrationContext, manifest: Manifest) -> MigrationContext:
    """Return the migration under another manifest."""
    stores = context.source, context.target
    return context_of(context.migration, manifest, context.state, *stores, context.emit)


def refuse_many_gone(
    context: MigrationContext, count: int, total: int, consequence: str, otherwise: str = "raise max_deletes"
) -> None:
    """Refuse to follow a source that has lost more of its records than ``max_deletes`` allows.

    Args:
        context: The migration.
        count: How many records are gone.
        total: Of how many.
        consequence: What would become of them, for the message.
        otherwise: What to do where that is right.

    Raises:
        SourceChangedError: They are too many.
    """
    allowed = context.migration.options.max_deletes
    if is_over(count, total, allowed):
        raise SourceChangedError(
            f"{count} of {total} records are gone from {context.source.address}, collection "
            f"{context.migration.source_collection!r}, {consequence}; max_deletes allows {allowed:g}"
            f"{' of them' if isinstance(allowed, float) else ''}.",
            todo=f"Find out whether the source lost them by mistake; else {otherwise}.",
        )


def refuse_planned_anew(context: MigrationContext) -> None:
    """Refuse to note what is pending, or to plan on, in a generation that another run has planned on from meanwhile.

    Raises:
        ManifestError: One has.
    """
    stored = open_manifest(context.state, context.migration)
    if stored.generation != context.manifest.generation:
        raise ManifestError(
            f"another run has planned migration {context.migration.name!r} anew (generation {stored.generation}) since "
            f"this one began (generation {context.manifest.generation}).",
            todo="Run it again when the other has ended.",
        )


def refuse_unproven(context: MigrationContext) -> None:
    """Refuse to go on before all ranges are proven.

    Raises:
        ManifestError: Some are not; names them.
    """
    done = set(proven_keys(context.state, context.manifest))
    missing = [entry.key for entry in context.manifest.ranges if entry.key not in done]
    if missing:
        raise ManifestError(
            f"{len(missing)} of {len(context.manifest.ranges)} ranges of migration {context.migration.name!r} are not "
            f"loaded yet: {', '.join(missing[:10])}.",
            todo=f"Launch these partitions of loaded_ranges, or run the job {context.migration.name}__migrate.",
            ranges=missing,
        )
