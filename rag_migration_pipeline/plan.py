"""What a migration will do, decided from what both stores say, and refused before the first write where it cannot be.

Belongs here: the target's spec, how ids and records are laid out there, and the plan with its verdicts. Does not belong
here: the verdicts themselves (``verdicts/``), reading ids and cutting ranges
(``steps/manifest.py``), writing (``steps/load.py``).
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from rag_migration_pipeline.envelope import ENVELOPE_KEY, Layout, layout_of
from rag_migration_pipeline.errors import ConflictError, SchemaCompatibilityError
from rag_migration_pipeline.ids import IdRule, find_collisions
from rag_migration_pipeline.inference import profile_batches
from rag_migration_pipeline.mapping.mapper import MappingPlan, plan_mapping, recorded_version, with_version
from rag_migration_pipeline.options import Conflict
from rag_migration_pipeline.records import (
    CollectionInfo,
    CollectionSpec,
    FieldSpec,
    IdKind,
    Payload,
    RecordId,
    id_kind,
    id_text,
)
from rag_migration_pipeline.settings import indexed_fields, translate_settings
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.target_fields import parse_target_fields, refuse_other_fields, with_fields
from rag_migration_pipeline.vector_choice import VectorRoute, choice_problems, routes_of
from rag_migration_pipeline.verdicts import (
    Level,
    RecordProfile,
    Sides,
    Verdict,
    map_ids,
    record_verdicts,
    refuse_verdicts,
    with_consent,
)
from rag_migration_pipeline.verdicts.collection import collection_verdicts, name_verdict
from rag_migration_pipeline.verdicts.mapping import mapping_verdicts, version_verdicts
from rag_migration_pipeline.verdicts.profile import Sample, profile_records
from rag_migration_pipeline.verdicts.vectors import fitted_routes, vector_verdicts

SHOWN = 10
"""How many ids an error message names."""

MIN_ID_LENGTH_BYTES = 64
NO_SAMPLE = Sample()


@dataclass(frozen=True)
class PlanFacts:
    """What of a plan is stored with the manifest, beside specs and counts.

    Attributes:
        verdicts: One per field and feature of the source; see ``verdicts/``.
        id_mapping: How many ids are kept, written as text, ...
        looked_at: How many records the verdicts on fields rest on.
        target_name: The target collection's name as the spec asks for it.
        push_down: Which part of the filter the source evaluates itself, in lines.
    """

    verdicts: tuple[Verdict, ...] = ()
    id_mapping: Mapping[str, int] = field(default_factory=dict)
    looked_at: int = 0
    target_name: str = ""
    push_down: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How the target will hold what the source has.

    Attributes:
        source_layout: How the source collection holds records.
        target_spec: The target collection, as it is or as it will be created.
        target_layout: How it will hold records.
        creates_target: Whether the migration creates the target collection.
        refused_ids: Ids that the target cannot hold in any form.
        facts: What is stored with the manifest.
    """

    source_layout: Layout
    target_spec: CollectionSpec
    target_layout: Layout
    creates_target: bool
    refused_ids: tuple[RecordId, ...] = ()
    facts: PlanFacts = field(default_factory=PlanFacts)


def make_plan(
    migration: Migration,
    source: CollectionInfo,
    source_capabilities: Capabilities,
    ids: Sequence[RecordId],
    target: CollectionInfo | None,
    target_capabilities: Capabilities,
    sample: Sample = NO_SAMPLE,
    screen_payload: Callable[[CollectionSpec, Payload], str | None] | None = None,
) -> Plan:
    """Decide how the target will hold the source's records, and judge it; nothing is refused here.

    Args:
        migration: The migration.
        source: The source collection as described by its store.
        source_capabilities: What the source store can hold.
        ids: The source's ids, as the source names them.
        target: The target collection, or None where it is to be created.
        target_capabilities: What the target store can hold.
        sample: Records of the source, for the verdicts on fields and for typed fields.
        screen_payload: An existing target's own check of a payload against its typed fields.
    """
    source_layout = layout_of(source.spec, source_capabilities, migration.source.document_key)
    choices = migration.options.vectors
    there = () if target is None else target.spec.vectors
    routes = fitted_routes(routes_of(source.spec.vectors, choices), there, target_capabilities)
    spec = _new_target(migration, source.spec, routes, ids, target_capabilities) if target is None else target.spec
    origin = (source.spec, source_capabilities)
    spec, wrong = _with_fields(migration, spec, origin, target_capabilities, sample, is_new=target is None)
    layout = target_layout_of(migration, spec, target_capabilities)
    lenient = replace(layout, accepted=True)  # what would be lost without consent has verdicts of its own
    sides = Sides(
        source=source.spec,
        target=spec,
        is_new=target is None,
        capabilities=target_capabilities,
        layout=layout,
        routes=routes,
        id_mapping=map_ids(ids, layout.id_rule),
        profile=profile_records(sample, lenient, spec, routes, target_capabilities, screen_payload),
        settings=() if target is not None else translate_settings(source.spec, routes, target_capabilities)[1],
    )
    verdicts = [*_verdicts(migration, sides, wrong), *_filter_notes(migration, source, ids, sides.profile)]
    facts = PlanFacts(
        with_consent(verdicts, migration.options.accept_lossy),
        sides.id_mapping.counts,
        sides.profile.schema.count,
        migration.target_name,
    )
    return Plan(source_layout, spec, layout, target is None, sides.id_mapping.refused, facts)


def planned_mapping(migration: Migration, source: CollectionSpec, now: datetime) -> MappingPlan | None:
    """Return what a migration does to its records, or None where they stay as they are.

    Args:
        migration: The migration.
        source: The source collection as it was planned with.
        now: When it was planned.

    Raises:
        SpecError: The mapping does not fit the schema version that the source records, or two parts set the id.
    """
    options = migration.options
    if options.mapping is None and options.ids.field is None:
        return None
    return plan_mapping(options.mapping, options.ids.as_mapping(), recorded_version(source), now)


def target_layout_of(migration: Migration, spec: CollectionSpec, capabilities: Capabilities) -> Layout:
    """Return how a target collection holds the records of a migration."""
    options = migration.options
    layout = layout_of(spec, capabilities, migration.target.document_key, has_envelope=options.envelope)
    rule = replace(layout.id_rule, namespace=options.ids.derived_under)
    return replace(layout, id_rule=rule, accepted=options.accept_lossy)


def _with_fields(
    migration: Migration,
    target: CollectionSpec,
    source: tuple[CollectionSpec, Capabilities],
    capabilities: Capabilities,
    sample: Sample,
    *,
    is_new: bool,
) -> tuple[CollectionSpec, list[str]]:
    """Return the target with the typed fields that it is to be created with, and what is wrong with them."""
    request = parse_target_fields(migration.options.target_fields)
    if not is_new:
        return target, refuse_other_fields(request, target)
    seen = sample.schema
    if request.is_copied and capabilities.fields is not None:
        seen = profile_batches(sample.batches)
    return with_fields(target, request, source, capabilities, seen)


def _verdicts(migration: Migration, sides: Sides, wrong_fields: Sequence[str]) -> list[Verdict]:
    """Return all verdicts, in the order in which a plan shows them."""
    rule = migration.target.name_rule
    wrong = choice_problems(sides.source.vectors, migration.options.vectors)
    return [
        name_verdict(migration.target_name, migration.target_collection, rule, is_new=sides.is_new),
        *(Verdict("vectors", Level.IMPOSSIBLE, "", text) for text in wrong),
        *(Verdict("target_fields", Level.IMPOSSIBLE, "", text) for text in wrong_fields),
        *vector_verdicts(sides),
        *record_verdicts(sides),
        *collection_verdicts(sides),
        *version_verdicts(migration.options.mapping, sides),
        *mapping_verdicts(planned_mapping(migration, sides.source, datetime.now(UTC))),
    ]


def _filter_notes(
    migration: Migration, source: CollectionInfo, ids: Sequence[RecordId], profile: RecordProfile
) -> list[Verdict]:
    """Return a note on a filter that takes nothing: a typo in a field, or a value of another type."""
    is_met = profile.schema.count or profile.unmapped
    if migration.options.filter is None or is_met or not source.count:
        return []
    seen = "the records looked at" if ids else f"the source's {source.count} records"
    reason = f"it takes none of {seen}; check the names of its fields and the types of its values (docs/filters.md)"
    return [Verdict("filter", Level.NOTE, "takes nothing", reason)]


def refuse_plan(plan: Plan, migration: Migration) -> None:
    """Refuse a plan with anything impossible in it, or with a loss that the spec does not consent to.

    Raises:
        SchemaCompatibilityError: Names every one of them.
    """
    refuse_verdicts(
        plan.facts.verdicts,
        f"{migration.source.address}, collection {migration.source_collection!r}",
        f"{migration.target.address}, collection {migration.target_collection!r}",
    )


def refuse_collisions(ids: Sequence[RecordId], rule: IdRule) -> None:
    """Prove that no two ids meet in the target.

    Raises:
        SchemaCompatibilityError: Names the pairs that do.
    """
    collisions = find_collisions(ids, rule)
    if collisions:
        pairs = "; ".join(f"{id_text(a)!r} and {id_text(b)!r} -> {c}" for a, b, c in collisions[:SHOWN])
        raise SchemaCompatibilityError(
            f"{len(collisions)} pairs of ids would meet in the target: {pairs}.",
            todo="Filter one of each pair out, or choose a target that holds both kinds of ids.",
        )


def refuse_conflicts(
    native_ids: Set[RecordId], known: Set[RecordId], policy: Conflict | None, migration: Migration
) -> None:
    """Apply the conflict policy before the first write.

    Args:
        native_ids: Ids that the migration will write, in the target's terms.
        known: Ids that are in the target already.
        policy: The policy, or None where the user chose none.
        migration: For the message.

    Raises:
        ConflictError: The policy is fail and ids are in both, or the target is not empty and there is no policy.
    """
    place = f"{migration.target.address}, collection {migration.target_collection!r}"
    if known and policy is None:
        raise ConflictError(
            f"{place} is not empty: it holds {len(known)} records, and the migration names no conflict policy.",
            todo="Set conflict to overwrite, skip or fail, or choose an empty target.",
        )
    both = sorted(id_text(i) for i in native_ids & known) if policy is Conflict.FAIL else []
    if both:
        raise ConflictError(
            f"{len(both)} ids are already in {place}: {', '.join(both[:SHOWN])}; the conflict policy is fail.",
            todo="Set conflict to overwrite or skip, or choose another target.",
        )


def _new_target(
    migration: Migration,
    source: CollectionSpec,
    routes: Sequence[VectorRoute],
    ids: Sequence[RecordId],
    capabilities: Capabilities,
) -> CollectionSpec:
    """Return the spec of a target collection that holds these ids, with the source's vectors and user metadata."""
    key = migration.target.document_key
    length = capabilities.max_text_field_bytes
    # Under a mapping the fields may have other names.
    fields = indexed_fields(source, capabilities) if migration.options.mapping is None else ()
    if capabilities.has_typed_text_fields:
        names = (key, ENVELOPE_KEY) if migration.options.envelope else (key,)
        fields = tuple(FieldSpec(name, "string", max_length_bytes=length) for name in names)
    ids = migration.options.ids.derived(ids)
    kinds = _target_kinds({id_kind(i) for i in ids} or set(source.id_kinds), capabilities.id_kinds)
    new = replace(
        source,
        name=migration.target_collection,
        vectors=tuple(route.target for route in routes if route.target is not None),
        id_kinds=kinds,
        fields=fields,
        settings=translate_settings(source, routes, capabilities)[0],
        id_field=None,
        max_id_length_bytes=_id_length(ids, capabilities) if IdKind.STRING in kinds else None,
    )
    return with_version(new, migration.options.mapping)


def _target_kinds(used: set[IdKind], held: frozenset[IdKind]) -> frozenset[IdKind]:
    """Return the id kinds of a new collection: all of them where one collection may hold several kinds."""
    if IdKind.STRING not in held or held == frozenset(IdKind):
        return held
    if used == {IdKind.INT64} and IdKind.INT64 in held:
        return frozenset({IdKind.INT64})
    return frozenset({IdKind.STRING})


def _id_length(ids: Sequence[RecordId], capabilities: Capabilities) -> int | None:
    """Return the capacity of a string id field, in bytes: twice what is needed now, within the store's limit."""
    if capabilities.max_id_length_bytes is None:
        return None
    longest = max((len(str(i).encode("utf-8", "surrogatepass")) for i in ids), default=0)
    return min(capabilities.max_id_length_bytes, max(MIN_ID_LENGTH_BYTES, 2 * longest))
