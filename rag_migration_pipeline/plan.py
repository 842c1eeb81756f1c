"""What a migration will do, decided from what both stores say, and refused before the first write where it cannot be.

Belongs here: the target's spec, how ids and records are laid out there, all reasons to refuse. Does not belong here:
reading ids and cutting ranges (``steps/manifest.py``), writing (``steps/load.py``).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rag_migration_pipeline.envelope import ENVELOPE_KEY, Layout, layout_of
from rag_migration_pipeline.errors import ConflictError, SchemaCompatibilityError
from rag_migration_pipeline.ids import IdRule, find_collisions
from rag_migration_pipeline.records import (
    CollectionInfo,
    CollectionSpec,
    FieldSpec,
    IdKind,
    RecordId,
    VectorKind,
    VectorSpec,
    id_kind,
    id_text,
)
from rag_migration_pipeline.spec import Conflict, Migration
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.vectors import FLOAT32, WIDENED

SHOWN = 10
"""How many ids an error message names."""

MIN_ID_LENGTH_BYTES = 64


@dataclass(frozen=True)
class Plan:
    """How the target will hold what the source has.

    Attributes:
        source_layout: How the source collection holds records.
        target_spec: The target collection, as it is or as it will be created.
        target_layout: How it will hold records.
        creates_target: Whether the migration creates the target collection.
    """

    source_layout: Layout
    target_spec: CollectionSpec
    target_layout: Layout
    creates_target: bool


def make_plan(
    migration: Migration,
    source: CollectionInfo,
    source_capabilities: Capabilities,
    ids: Sequence[RecordId],
    target: CollectionInfo | None,
    target_capabilities: Capabilities,
) -> Plan:
    """Decide how the target will hold the source's records.

    Args:
        migration: The migration.
        source: The source collection as described by its store.
        source_capabilities: What the source store can hold.
        ids: The source's ids, as the source names them.
        target: The target collection, or None where it is to be created.
        target_capabilities: What the target store can hold.

    Raises:
        SchemaCompatibilityError: Lists every reason why the target cannot hold the source.
    """
    source_layout = layout_of(source.spec, source_capabilities, migration.source.document_key)
    problems = _vector_problems(source.spec, target_capabilities)
    if target is None:
        problems += _name_problems(migration.target_collection, target_capabilities)
        target_spec = _new_target(migration, source.spec, ids, target_capabilities)
    else:
        target_spec = target.spec
        problems += _mismatches(source.spec, target_spec)
    if problems:
        raise SchemaCompatibilityError(
            f"{migration.target.address}, collection {migration.target_collection!r} cannot hold what "
            f"{migration.source.address}, collection {migration.source_collection!r} has: {'; '.join(problems)}.",
            todo="Choose another target, or change the named settings.",
            problems=problems,
        )
    layout = layout_of(
        target_spec, target_capabilities, migration.target.document_key, has_envelope=migration.options.envelope
    )
    return Plan(source_layout, target_spec, layout, creates_target=target is None)


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
    native_ids: set[RecordId], known: set[RecordId], policy: Conflict | None, migration: Migration
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


def _vector_problems(source: CollectionSpec, capabilities: Capabilities) -> list[str]:
    """Return what the target store cannot hold of the source's vectors, each in one phrase."""
    problems = []
    if not source.vectors:
        problems.append("the source has no vectors")
    if len(source.vectors) > 1 and not capabilities.has_named_vectors:
        names = ", ".join(repr(vector.name) for vector in source.vectors)
        problems.append(f"{capabilities.store} holds one vector per record, the source has {names}")
    for vector in source.vectors:
        label = f"vector {vector.name!r}" if vector.name else "the vector"
        if vector.kind not in capabilities.vector_kinds:
            problems.append(f"{label} is {vector.kind}, {capabilities.store} is not written with such vectors yet")
        elif held_vector(vector, capabilities) is None:
            problems.append(f"{label} is of {vector.dtype}, which {capabilities.store} does not hold")
        elif vector.metric not in capabilities.metrics_of(vector):
            known = ", ".join(sorted(capabilities.metrics_of(vector)))
            problems.append(f"{label} has the metric {vector.metric}, {capabilities.store} has {known}")
        if vector.modifier is not None and vector.modifier not in capabilities.sparse_modifiers:
            problems.append(f"{label} has the modifier {vector.modifier}, which {capabilities.store} does not have")
        if vector.kind is not VectorKind.SPARSE and vector.dimension is None:
            problems.append(f"{label} has no dimension yet: the source is empty")
        if vector.name and not capabilities.has_named_vectors and len(source.vectors) == 1:
            problems.append(f"{label} is named, {capabilities.store} holds one unnamed vector")
        if capabilities.max_dimension and vector.dimension and vector.dimension > capabilities.max_dimension:
            problems.append(f"{label} has dimension {vector.dimension}, at most {capabilities.max_dimension} fit")
    return problems


def held_vector(vector: VectorSpec, capabilities: Capabilities) -> VectorSpec | None:
    """Return how a store holds a vector with all its values: in its own element type, in float32, or (None) not at all.

    Every float16, bfloat16, int8 or uint8 is a float32 as well.
    """
    if capabilities.has_type(vector.kind, vector.dtype):
        return vector
    return replace(vector, dtype=FLOAT32) if vector.dtype in WIDENED else None


def _name_problems(name: str, capabilities: Capabilities) -> list[str]:
    if re.fullmatch(capabilities.collection_name_pattern, name):
        return []
    return [f"the collection name {name!r} is not allowed there (pattern {capabilities.collection_name_pattern})"]


def _mismatches(source: CollectionSpec, target: CollectionSpec) -> list[str]:
    """Return where an existing target differs from the source: vectors, dimensions, metrics."""
    wanted = {vector.name: vector for vector in source.vectors}
    found = {vector.name: vector for vector in target.vectors}
    problems = [f"the target has no vector {name!r}, it has {sorted(found)}" for name in wanted if name not in found]
    problems += [f"the target also has a vector {name!r}" for name in found if name not in wanted]
    for name in wanted.keys() & found.keys():
        for what in _COMPARED:
            expected, got = getattr(wanted[name], what), getattr(found[name], what)
            if not _is_same(what, expected, got):
                problems.append(f"vector {name!r}: expected {what} {expected}, the target has {got}")
    if target.settings.get("auto_id"):
        problems.append("the target makes its own ids (auto_id), so the source's could not be kept")
    return problems


_COMPARED = ("dimension", "metric", "kind", "dtype", "modifier")


def fits(wanted: VectorSpec, found: VectorSpec) -> bool:
    """Return whether vectors of one spec can be written where the other is."""
    return all(_is_same(what, getattr(wanted, what), getattr(found, what)) for what in _COMPARED)


def _is_same(what: str, expected: object, got: object) -> bool:
    """Compare one property.

    A dimension that is None is still open (Chroma: before the first record); float32 holds what smaller types do.
    """
    if what == "dtype" and got == FLOAT32 and expected in WIDENED:
        return True
    return expected == got or (what == "dimension" and got is None)


def _new_target(
    migration: Migration, source: CollectionSpec, ids: Sequence[RecordId], capabilities: Capabilities
) -> CollectionSpec:
    """Return the spec of a target collection that holds these ids, with the source's vectors and user metadata."""
    key = migration.target.document_key
    length = capabilities.max_text_field_bytes
    fields: tuple[FieldSpec, ...] = ()
    if capabilities.has_typed_text_fields:
        names = (key, ENVELOPE_KEY) if migration.options.envelope else (key,)
        fields = tuple(FieldSpec(name, "string", max_length_bytes=length) for name in names)
    kinds = _target_kinds({id_kind(i) for i in ids} or set(source.id_kinds), capabilities.id_kinds)
    return replace(
        source,
        name=migration.target_collection,
        vectors=tuple(held_vector(vector, capabilities) or vector for vector in source.vectors),
        id_kinds=kinds,
        fields=fields,
        settings={},
        id_field=None,
        max_id_length_bytes=_id_length(ids, capabilities) if IdKind.STRING in kinds else None,
    )


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
