"""Verdicts on what a mapping does to records: notes, because the spec asks for it by name.

Belongs here: what leaves a record for good through a mapping or the option ``ids``. Does not belong here: how the
mapped records fare in the target (the other verdicts, which are made from mapped records).
"""

from collections.abc import Iterator

from rag_migration_pipeline.mapping import MappingChain, SchemaMapping
from rag_migration_pipeline.mapping.checks import id_source
from rag_migration_pipeline.mapping.mapper import MappingPlan, made_version, recorded_version
from rag_migration_pipeline.verdicts import Level, Sides, Verdict


def mapping_verdicts(plan: MappingPlan | None) -> list[Verdict]:
    """Return a verdict per field that is left out, and on an id that another one takes the place of."""
    mappings = [] if plan is None else [mapper.mapping for mapper in plan.mappers]
    return [verdict for mapping in mappings for verdict in (*_id_verdicts(mapping), *_left_out(mapping))]


def version_verdicts(mapping: SchemaMapping | MappingChain | None, sides: Sides) -> list[Verdict]:
    """Return the verdict on the version of the schema; none where no side records one."""
    subject = "schema version"
    made = made_version(mapping, recorded_version(sides.source))
    there = None if sides.is_new else recorded_version(sides.target)
    if made is None and there is None:
        return []
    if sides.is_new or made == there:
        return [Verdict(subject, Level.EXACT, f"{made}, kept in the target's metadata")]
    if made is None or there is None:
        reason = f"the target records {there or 'none'}, the records are of {made or 'none that is known'}"
        return [Verdict(subject, Level.NOTE, "not checked", reason)]
    reason = f"the target records {there}, the records are of {made}; map them to {there}, or choose another target"
    return [Verdict(subject, Level.IMPOSSIBLE, "", reason)]


def _id_verdicts(mapping: SchemaMapping) -> Iterator[Verdict]:
    source = id_source(mapping)
    if source is None:
        return
    how = f"from the field {source.text!r}"
    kept = mapping.field_mapping.get("$id")
    if kept is not None:
        yield Verdict("mapping of id", Level.EXACT, how, f"the source's id is kept as {kept!r}")
    else:
        yield Verdict("mapping of id", Level.NOTE, how, "the source's id is kept nowhere, as the spec asks for")


def _left_out(mapping: SchemaMapping) -> Iterator[Verdict]:
    dropped = [name for name, item in mapping.deprecated.items() if mapping.drops(item)]
    for name in (*mapping.exclude_fields, *dropped):
        yield Verdict(f"mapping of {name}", Level.NOTE, "left out", "the spec asks for it")
    if mapping.include_fields is not None:
        reason = f"the spec takes {', '.join(mapping.include_fields) or 'none'} alone"
        yield Verdict("mapping of other fields", Level.NOTE, "left out", reason)
