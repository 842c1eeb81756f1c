"""The typed payload fields of a new target: given in the spec, inferred from the records, or the source's own.

Belongs here: the option ``target_fields``, and the choice of fields that follows from it. Does not belong here: the
profile of records (``inference.py``), the rest of a target's spec (``plan.py``), schemas in a store's own terms
(``stores/``).

In YAML, names of types are Milvus' own::

    target_fields: {year: int64, tags: array<varchar>, title: {type: varchar, max_length_bytes: 512}}
    target_fields: infer        # from the records, with room
    target_fields: none         # everything stays untyped
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.inference import SchemaProfile, ValueKind, infer_fields
from rag_migration_pipeline.records import CollectionSpec, FieldSpec
from rag_migration_pipeline.stores.capabilities import Capabilities, FieldRules, type_label

INFER = "infer"
NONE = "none"

_TYPES: dict[str, tuple[str, int | None]] = {
    "bool": ("bool", None),
    "int8": ("int", 8),
    "int16": ("int", 16),
    "int32": ("int", 32),
    "int64": ("int", None),
    "float": ("float", 32),
    "double": ("float", None),
    "varchar": ("string", None),
    "json": ("json", None),
}
_OPTIONS = ("type", "max_length_bytes", "max_items", "nullable", "default")
_TEXT = re.compile(r"(?:array<(?P<element>\w+)>|(?P<type>\w+))(?:\((?P<length>\d+)\))?", re.IGNORECASE)


@dataclass(frozen=True)
class FieldRequest:
    """What the option asks for.

    Attributes:
        fields: Fields that were given, by name.
        is_inferred: Fields follow from the records.
        is_copied: Fields follow from the source's own, where source and target are of one kind; the default.
    """

    fields: tuple[FieldSpec, ...] = ()
    is_inferred: bool = False
    is_copied: bool = False


def parse_target_fields(value: Any) -> FieldRequest:
    """Return what the option ``target_fields`` asks for.

    Raises:
        SpecError: Names every field that is wrong, with what was expected.
    """
    if value is None:
        return FieldRequest(is_copied=True)
    if value in (INFER, NONE):
        return FieldRequest(is_inferred=value == INFER)
    if not isinstance(value, Mapping):
        raise SpecError(
            f"target_fields: expected {INFER!r}, {NONE!r} or types by field name, got {type(value).__name__}.",
            todo="See docs/migrations.md.",
        )
    fields, problems = [], []
    for name, given in value.items():
        try:
            fields.append(_parse_field(name, given))
        except (TypeError, ValueError) as error:
            problems.append(f"{name!r}: {error}")
    if problems:
        raise SpecError(
            f"target_fields is wrong: {'; '.join(problems)}.",
            todo=f"Types are {', '.join(_TYPES)}, array<..> of these but json; varchar(512) has its length in bytes.",
        )
    return FieldRequest(tuple(fields))


def _parse_field(name: Any, given: Any) -> FieldSpec:
    if not isinstance(name, str):
        raise TypeError(f"expected a name, got {type(name).__name__}")
    options = dict(given) if isinstance(given, Mapping) else {"type": given}
    unknown = sorted(str(key) for key in options if key not in _OPTIONS)
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}; expected {', '.join(_OPTIONS)}")
    text = options.get("type")
    found = _TEXT.fullmatch(text.replace(" ", "")) if isinstance(text, str) else None
    label = (found["element"] or found["type"]).lower() if found else ""
    if found is None or label not in _TYPES:
        raise ValueError(f"expected a type, got {text!r}")
    kind, bits = _TYPES[label]
    length = _positive(options, "max_length_bytes") or (int(found["length"]) if found["length"] else None)
    if length is not None and kind != "string":
        raise ValueError(f"a length is for varchar, not for {label}")
    max_items = _positive(options, "max_items")
    if max_items is not None and not found["element"]:
        raise ValueError(f"max_items is for arrays, not for {label}")
    nullable = options.get("nullable", False)
    if type(nullable) is not bool:
        raise ValueError(f"nullable: expected true or false, got {nullable!r}")
    item = FieldSpec(
        name,
        "array" if found["element"] else kind,
        nullable,
        max_length_bytes=length,
        element_type=kind if found["element"] else None,
        bits=bits,
        max_items=max_items,
        default=options.get("default"),
    )
    _refuse_default(item)
    return item


def _positive(options: Mapping[str, Any], name: str) -> int | None:
    value = options.get(name)
    if value is not None and (type(value) is not int or value < 1):
        raise ValueError(f"{name}: expected a positive integer, got {value!r}")
    return value


def _refuse_default(item: FieldSpec) -> None:
    expected = {"bool": bool, "int": int, "float": float, "string": str}.get(item.type)
    if item.default is None:
        return
    if expected is None or type(item.default) is not expected:
        raise ValueError(f"default: {item.default!r} is no value of type {type_label(item.type, item.bits)}")


def with_fields(
    target: CollectionSpec,
    request: FieldRequest,
    source: tuple[CollectionSpec, Capabilities],
    capabilities: Capabilities,
    seen: SchemaProfile | None,
) -> tuple[CollectionSpec, list[str]]:
    """Return a new target collection with its typed fields, and what it cannot have of those asked for.

    Args:
        target: The collection with the fields of document and envelope.
        request: What the spec asks for.
        source: The source collection, and what its store holds.
        capabilities: What the target store holds.
        seen: What the records hold, as far as they were looked at.
    """
    taken = {item.name for item in target.fields} | {"id", str(target.settings.get("vector_field") or "vector")}
    taken |= {vector.name for vector in target.vectors}
    fields, problems = choose_fields(request, source, capabilities, taken=taken, seen=seen)
    settings = dict(target.settings)
    key = source[0].settings.get("partition_key")
    if source[1].store == capabilities.store and key in {item.name for item in fields}:
        settings.update(partition_key=key, num_partitions=source[0].settings.get("num_partitions"))
    return replace(target, fields=(*target.fields, *fields), settings=settings), problems


def choose_fields(
    request: FieldRequest,
    source: tuple[CollectionSpec, Capabilities],
    capabilities: Capabilities,
    *,
    taken: Collection[str],
    seen: SchemaProfile | None = None,
) -> tuple[tuple[FieldSpec, ...], list[str]]:
    """Return the typed fields of a new target collection, and what it cannot have of those asked for.

    Args:
        request: What the spec asks for.
        source: The source collection, and what its store holds.
        capabilities: What the target store holds.
        taken: Names that the target needs for its key, vectors, document and envelope.
        seen: What the records hold, as far as they were looked at.
    """
    rules, seen = capabilities.fields, seen or SchemaProfile()
    if rules is None:
        is_asked = request.fields or request.is_inferred
        return (), [f"{capabilities.store} has no typed fields"] if is_asked else []
    if request.is_inferred:
        return infer_fields(seen, rules, taken), []
    if request.fields:
        problems = [
            f"field {item.name!r} is one that the target has already" for item in request.fields if item.name in taken
        ]
        return request.fields, problems + [problem for item in request.fields for problem in rules.problems(item)]
    spec, source_capabilities = source
    if request.is_copied and source_capabilities.store == capabilities.store and source_capabilities.fields:
        found = _copied(spec, source_capabilities.fields, rules, taken)
        return tuple(item for item in found if _is_borne_out(item, seen)), []
    return (), []


def _is_borne_out(item: FieldSpec, seen: SchemaProfile) -> bool:
    """Return whether the records seen fit a field of their source: what a mapping changed, or left out, may not."""
    if not seen.count:
        return True
    key = seen.keys.get(item.name)
    if key is None or seen.missing(item.name) or key.refused or (key.nulls and not item.is_nullable):
        return False
    kinds = {kind for kind, count in key.kinds.items() if count} - {ValueKind.NULL}
    return not key.non_finite and kinds <= _KINDS_HELD.get(item.type, set())


_KINDS_HELD = {
    "bool": {ValueKind.BOOL},
    "int": {ValueKind.INT},
    "float": {ValueKind.FLOAT},
    "string": {ValueKind.STRING},
    "json": {ValueKind.OBJECT, ValueKind.LIST},
    "array": {ValueKind.LIST},
}


def _copied(
    source: CollectionSpec, source_rules: FieldRules, rules: FieldRules, taken: Collection[str]
) -> tuple[FieldSpec, ...]:
    """Return the source's fields of which the target can hold every value; the others' values stay untyped."""
    fields = []
    for item in source.fields:
        if item.name in taken or (item.type == "json" and source_rules.has_json_lists and not rules.has_json_lists):
            continue
        length = item.max_length_bytes
        if length is not None and source_rules.counts_characters and not rules.counts_characters:
            length = min(4 * length, rules.max_text_bytes)
        copy = replace(item, max_length_bytes=length)
        if not rules.problems(copy):
            fields.append(copy)
    return tuple(fields)


def refuse_other_fields(request: FieldRequest, target: CollectionSpec) -> list[str]:
    """Return where an existing target's fields are not those asked for; other capacities are its own affair."""
    found = {item.name: item for item in target.fields}
    problems = []
    for item in request.fields:
        if item.name not in found:
            problems.append(f"the target has no field {item.name!r}")
        elif _type_of(found[item.name]) != _type_of(item):
            problems.append(f"field {item.name!r} is {_type_of(found[item.name])} there, expected {_type_of(item)}")
    return problems


def _type_of(item: FieldSpec) -> str:
    if item.type == "array":
        return f"array of {type_label(item.element_type or '', item.bits)}"
    return type_label(item.type, item.bits)
