"""A collection as Dagster's column schema: the id, the vectors, the typed fields or the free payload.

Belongs here: the words for what a `CollectionSpec` says. Does not belong here: other metadata (`facts`).
"""

import dagster as dg

from rag_migration_pipeline.records import CollectionSpec, FieldSpec, VectorKind, VectorSpec
from rag_migration_pipeline.stores.capabilities import type_label

_NEEDED = dg.TableColumnConstraints(nullable=False)


def column_schema(spec: CollectionSpec) -> dg.TableSchema:
    """Return the columns of a collection, in the order id, vectors, payload."""
    kinds = " or ".join(sorted(kind.value for kind in spec.id_kinds)) or "any"
    key = dg.TableColumnConstraints(nullable=False, unique=True)
    columns = [dg.TableColumn(spec.id_field or "id", kinds, description="the record's id", constraints=key)]
    columns += [_vector(vector) for vector in spec.vectors]
    columns += [_field(field) for field in spec.fields]
    if not spec.fields:
        columns.append(dg.TableColumn("payload", "json", description="free: any keys, the document among them"))
    return dg.TableSchema(columns)


def _vector(vector: VectorSpec) -> dg.TableColumn:
    size = "" if vector.dimension is None else str(vector.dimension)
    words = [vector.kind.value, vector.metric.value, *([vector.modifier] if vector.modifier else [])]
    kind = f"{vector.dtype}[][{size}]" if vector.kind is VectorKind.MULTI else f"{vector.dtype}[{size}]"
    return dg.TableColumn(vector.name or "(unnamed vector)", kind, description=f"vector: {', '.join(words)}")


def _field(field: FieldSpec) -> dg.TableColumn:
    label = type_label(field.element_type or field.type, field.bits)
    facts = [
        "indexed" if field.is_indexed else "",
        "" if field.max_length_bytes is None else f"at most {field.max_length_bytes} bytes",
        "" if field.max_items is None else f"at most {field.max_items} items",
        "" if field.default is None else f"default {field.default!r}",
    ]
    return dg.TableColumn(
        field.name,
        f"array<{label}>" if field.type == "array" else label,
        description=", ".join(fact for fact in facts if fact) or None,
        constraints=None if field.is_nullable else _NEEDED,
    )
