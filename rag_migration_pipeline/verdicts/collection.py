"""Verdicts on the collection itself: its name, metadata, typed fields and settings.

Belongs here: what belongs to the collection and not to a record. Losses here never change a record, so they are notes.
Does not belong here: the translation of settings between stores.
"""

from rag_migration_pipeline.names import NameRule, original_name, suggest_name, translate_name
from rag_migration_pipeline.settings import Fate, SettingNote
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
    """Return what becomes of the source's settings; an existing target keeps its own."""
    if sides.is_new:
        return [_setting_verdict(note, sides) for note in sides.settings]
    reason = "the target collection is there already and keeps its own"
    same = {key for key, value in sides.source.settings.items() if sides.target.settings.get(key) == value}
    return [
        Verdict(f"setting {key}", Level.EXACT, "the same there")
        if key in same
        else Verdict(f"setting {key}", Level.NOTE, Fate.LEFT, reason)
        for key in sides.source.settings
    ]


def _setting_verdict(note: SettingNote, sides: Sides) -> Verdict:
    held = sides.target.settings.get(note.name)
    if note.fate is Fate.LEFT and held is not None and held == sides.source.settings.get(note.name):
        return Verdict(f"setting {note.name}", Level.EXACT, Fate.CARRIED)  # with the typed field that it needs
    level = Level.EXACT if note.fate is Fate.CARRIED else Level.NOTE
    return Verdict(f"setting {note.name}", level, note.fate, note.detail)
