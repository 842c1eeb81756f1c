"""Verdicts on the collection itself: its name, metadata, typed fields and settings.

Belongs here: what belongs to the collection and not to a record. Losses here never change a record, so they are notes.
Does not belong here: the translation of settings between stores.
"""

from rag_migration_pipeline.names import NameRule, original_name, suggest_name, translate_name
from rag_migration_pipeline.verdicts import Level, Sides, Verdict


def collection_verdicts(sides: Sides) -> list[Verdict]:
    """Return the verdicts on metadata, typed fields and settings."""
    return [*_metadata_verdicts(sides), *_schema_verdicts(sides), *_setting_verdicts(sides)]


def name_verdict(asked: str, name: str, rule: NameRule, *, is_new: bool) -> Verdict:
    """Return the verdict on the target collection's name.

    Args:
        asked: The name that the spec asks for.
        name: The name that the collection has or will have.
        rule: Which names the target allows.
        is_new: The migration creates the collection.
    """
    subject = "collection name"
    if name != asked:
        how = f"{asked!r} translated to {name!r}"
        reason = "read back by names.original_name" if original_name(name) == asked else "read back from the manifest"
        return Verdict(subject, Level.EXACT, how, reason)
    if not is_new or rule.allows(name):
        return Verdict(subject, Level.EXACT, "native")
    reason = (
        f"{name!r} is not allowed there (pattern {rule.pattern}); a legal name is {suggest_name(name, rule)!r}, "
        f"and translate_names: true would make it {translate_name(name, rule)!r}"
    )
    return Verdict(subject, Level.IMPOSSIBLE, "", reason)


def _metadata_verdicts(sides: Sides) -> list[Verdict]:
    subject = "collection metadata"
    if not sides.source.metadata:
        return []
    if sides.is_new or dict(sides.target.metadata) == dict(sides.source.metadata):
        return [Verdict(subject, Level.EXACT, "native")]
    return [Verdict(subject, Level.NOTE, "not carried", "the target collection is there already and keeps its own")]


def _schema_verdicts(sides: Sides) -> list[Verdict]:
    """Return a verdict per typed or indexed field of the source."""
    found = {field.name: field for field in sides.target.fields}
    verdicts = []
    for field in sides.source.fields:
        subject = f"schema of {field.name}"
        if field.name in found and found[field.name].type == field.type:
            verdicts.append(Verdict(subject, Level.EXACT, f"typed {field.type}"))
        else:
            what = "indexed" if field.is_indexed else "typed"
            reason = f"{what} {field.type} in the source; its values are carried as they are"
            verdicts.append(Verdict(subject, Level.NOTE, "not carried", reason))
    known = {field.name for field in sides.source.fields} | sides.layout.text_fields
    new = [field for field in sides.target.fields if field.name not in known] if sides.is_new else []
    verdicts += [Verdict(f"schema of {field.name}", Level.EXACT, f"typed {field.type}, new") for field in new]
    return verdicts


def _setting_verdicts(sides: Sides) -> list[Verdict]:
    verdicts = []
    for key, value in sides.source.settings.items():
        if key in sides.target.settings and sides.target.settings[key] == value:
            verdicts.append(Verdict(f"setting {key}", Level.EXACT, "carried"))
        else:
            verdicts.append(Verdict(f"setting {key}", Level.NOTE, "not carried", "the target has settings of its own"))
    return verdicts
