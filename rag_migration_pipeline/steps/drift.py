"""Drift: whether source and target are still what was planned.

Belongs here: comparing both sides' schemas with those of the stored plan. Does not belong here: whether records changed
(``steps/extract.py``, ``steps/validate.py``), planning (``steps/planning.py``).

Index and other settings may change while a migration runs: they change no record.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.records import CollectionSpec, FieldSpec, VectorSpec
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.manifest import Manifest
from rag_migration_pipeline.stores.base import VectorStore

SIDE = "side"
"""Fact of an error about drift: which side it is, `SOURCE` or `TARGET`."""

VECTORS = "vectors"
"""Fact of an error about drift: which of the differences are of vectors."""

SOURCE, TARGET = "the source", "the target"

_VECTOR_PROPERTIES = ("kind", "dimension", "metric", "dtype", "modifier")
_FIELD_PROPERTIES = ("type", "element_type", "max_length_bytes", "is_nullable")


def refuse_source_drift(manifest: Manifest, migration: Migration, source: VectorStore) -> None:
    """Refuse to go on where the source is not what was planned.

    Raises:
        SchemaCompatibilityError: Names every difference, expected against got.
    """
    _refuse(manifest.source_spec, source, migration.source_collection, SOURCE)


def refuse_target_drift(manifest: Manifest, migration: Migration, target: VectorStore) -> None:
    """Refuse to go on where the target is not what was planned.

    Raises:
        SchemaCompatibilityError: Names every difference, expected against got.
    """
    _refuse(manifest.target_spec, target, migration.target_collection, TARGET)


@dataclass(frozen=True, slots=True)
class VectorFacts:
    """A vector as it was planned, and as the target has it.

    Attributes:
        planned: Kind, dimension, metric and type in words; empty where none of that name was planned.
        found: Likewise; empty where the target has none of that name.
        differences: What is not as planned, a sentence each; empty where all is.
    """

    name: str
    planned: str
    found: str
    differences: tuple[str, ...] = ()


def vector_facts(planned: CollectionSpec, found: CollectionSpec) -> tuple[VectorFacts, ...]:
    """Return each vector that was planned or is there, in the order of their names."""
    wanted, got = ({vector.name: vector for vector in spec.vectors} for spec in (planned, found))
    facts = []
    for name in sorted(wanted.keys() | got.keys()):
        before, after = wanted.get(name), got.get(name)
        pair = ((before,) if before is not None else (), (after,) if after is not None else ())
        facts.append(VectorFacts(name, _words(before), _words(after), tuple(_vector_differences(*pair))))
    return tuple(facts)


def _words(vector: VectorSpec | None) -> str:
    if vector is None:
        return ""
    size = "" if vector.dimension is None else f"{vector.dimension} dimensions"
    said = (vector.kind.value, size, vector.metric.value, vector.dtype, vector.modifier)
    return ", ".join(word for word in said if word)


def _refuse(planned: CollectionSpec, store: VectorStore, collection: str, side: str) -> None:
    has_schema = store.capabilities.has_typed_text_fields
    differences = list(_differences(planned, store.spec(collection), has_schema=has_schema))
    if differences:
        raise SchemaCompatibilityError(
            f"collection {collection!r} in {store.address}, {side}, is not what was planned: {'; '.join(differences)}.",
            todo="Restore it, or remove the migration's state folder and plan again"
            + (" (drop the collection first if the migration made it)." if side == TARGET else "."),
            differences=differences,
            side=side,
            vectors=[*_vector_differences(planned.vectors, store.spec(collection).vectors)],
        )


def _differences(planned: CollectionSpec, found: CollectionSpec, *, has_schema: bool) -> Iterator[str]:
    yield from _vector_differences(planned.vectors, found.vectors)
    if planned.id_kinds != found.id_kinds:
        yield f"expected ids of kind {_names(planned.id_kinds)}, got {_names(found.id_kinds)}"
    if planned.id_field is not None and planned.id_field != found.id_field:
        yield f"expected the id field {planned.id_field!r}, got {found.id_field!r}"
    if (planned.max_id_length_bytes or 0) > (found.max_id_length_bytes or 0) and found.max_id_length_bytes:
        yield f"expected ids of up to {planned.max_id_length_bytes} bytes, got {found.max_id_length_bytes}"
    if bool(planned.settings.get("auto_id")) != bool(found.settings.get("auto_id")):
        yield f"expected auto_id {bool(planned.settings.get('auto_id'))}, got {bool(found.settings.get('auto_id'))}"
    if has_schema:  # elsewhere a field is an index, which anybody may add
        yield from _field_differences(planned.fields, found.fields)


def _vector_differences(planned: tuple[VectorSpec, ...], found: tuple[VectorSpec, ...]) -> Iterator[str]:
    wanted, got = ({vector.name: vector for vector in vectors} for vectors in (planned, found))
    if wanted.keys() != got.keys():
        yield f"expected vectors {sorted(wanted)}, got {sorted(got)}"
    for name in sorted(wanted.keys() & got.keys()):
        for what in _VECTOR_PROPERTIES:
            before, after = getattr(wanted[name], what), getattr(got[name], what)
            is_open = what == "dimension" and None in (before, after)  # Chroma has none before the first record
            if before != after and not is_open:
                yield f"vector {name!r}: expected {what} {before}, got {after}"


def _field_differences(planned: tuple[FieldSpec, ...], found: tuple[FieldSpec, ...]) -> Iterator[str]:
    wanted, got = ({field.name: field for field in fields} for fields in (planned, found))
    if wanted.keys() != got.keys():
        yield f"expected fields {sorted(wanted)}, got {sorted(got)}"
    for name in sorted(wanted.keys() & got.keys()):
        for what in _FIELD_PROPERTIES:
            before, after = getattr(wanted[name], what), getattr(got[name], what)
            is_open = what == "max_length_bytes" and None in (before, after)  # Milvus Lite forgets that of an array
            if before != after and not is_open:
                yield f"field {name!r}: expected {what} {before}, got {after}"


def _names(kinds: frozenset[str]) -> str:
    return ", ".join(sorted(kinds)) or "none"
