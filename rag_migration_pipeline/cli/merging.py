"""One description of a migration out of three sources: flag over environment over file.

Belongs here: reading values of flags, choosing among the migrations of a file, what is shown of the result. Does not
belong here: reading files (``config_files.py``), what the options mean (``spec.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from rag_migration_pipeline.cli.table import TABLE, Entry
from rag_migration_pipeline.config_files import Described, read_config
from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.locators import has_secret, mask_url, parse_locator
from rag_migration_pipeline.problems import LineOf, Place
from rag_migration_pipeline.spec import Migration, MigrationSpec, migration_of_spec, name_of, spec_from_values

_RETRY_KEYS = {"max_attempts": "max_retries", "retry_delay_s": "delay_s", "retry_backoff": "backoff"}


@dataclass(frozen=True)
class Asked:
    """One migration that a command is about."""

    spec: MigrationSpec
    migration: Migration

    def shown(self) -> dict[str, Any]:
        """Return all options with their values, secrets masked, as a migration file would have them."""
        facts = self.spec.model_dump(mode="json", by_alias=True)
        return {**facts, "source": mask_url(self.spec.source), "target": mask_url(self.spec.target)}

    def warnings(self) -> list[str]:
        """Return what is unwise about how it is described."""
        return [
            f"the {role} URL carries a secret ({mask_url(url)}), which shells and lists of processes show; put it into "
            "the environment, or into a file (?api_key_file=/path)."
            for role, url in (("source", self.spec.source), ("target", self.spec.target))
            if has_secret(url)
        ]


def asked(given: Mapping[str, Any], config: Path | None, *, is_all: bool = False) -> list[Asked]:
    """Return the migrations that flags, environment and file describe together.

    Args:
        given: Options by key, from flags and the environment.
        config: A migration file, or None.
        is_all: Whether all migrations of the file are meant.

    Raises:
        SpecError: A value is wrong; or the file has several migrations and none of them, or a missing one, is named.
    """
    values = {entry.key: _value(entry, given[entry.key]) for entry in TABLE if entry.key in given}
    if config is None:
        return [_asked(values, None)]
    described = read_config(config)
    if not described:
        raise SpecError(f"{config} describes no migration.", todo="See docs/migrations.md, or write one: init.")
    chosen = described if is_all else _chosen(described, values.get("name"), config)
    if is_all and len(chosen) > 1 and (one := {"name", "source", "target"} & set(values)):
        raise SpecError(f"--all with {', '.join(sorted(one))}: those are one migration's.", todo="Leave them out.")
    found = [_asked(values, item) for item in chosen]
    names = [item.spec.name for item in found]
    if len(set(names)) < len(names):
        raise SpecError(f"{config}: several migrations have one name.", todo="Give each its own name.")
    return found


def _chosen(described: list[Described], name: str | None, config: Path) -> list[Described]:
    if len(described) == 1:
        return described
    names = [str(item.values.get("name", "")) if isinstance(item.values, Mapping) else "" for item in described]
    if name in names:
        return [described[names.index(name)]]
    said = f"{config} has {len(described)} migrations: {', '.join(filter(None, names))}"
    raise SpecError(f"{said}; {f'none is named {name!r}' if name else 'none is named'}.", todo="Use --name or --all.")


def _asked(given: Mapping[str, Any], described: Described | None) -> Asked:
    if described is None:
        return _checked(_named(given), None)
    if not isinstance(described.values, Mapping):
        got = type(described.values).__name__
        raise described.named(SpecError(f"expected a mapping of options, got {got}.", todo="See docs/migrations.md."))
    try:
        return _checked(_named(_over(described.values, given)), replace(described, line_of=_origin(described, given)))
    except SpecError as error:
        raise described.named(error) from error


def _origin(described: Described, given: Mapping[str, Any]) -> LineOf:
    """Return what says where an option stands: in a line of the file, or in a flag or variable that replaces it."""
    entries = {entry.key: entry for entry in TABLE if entry.key in given}

    def origin(place: Place) -> int | str | None:
        entry = entries.get(str(place[0])) if place else None
        if entry is not None:
            return f"not in the file but given as {entry.flags[0]} or {entry.variable}"
        return described.line_of(place) if described.line_of is not None else None

    return origin


def _checked(values: Mapping[str, Any], described: Described | None) -> Asked:
    missing = [key for key in ("source", "target") if key not in values]
    if missing and described is None:
        raise SpecError(
            f"no {' and no '.join(missing)} is named.",
            todo=f"Give {' and '.join(f'--{key} URL' for key in missing)}, or a migration file with --config.",
        )
    return asked_of(values, described.line_of if described is not None else None)


def asked_of(values: Mapping[str, Any], line_of: LineOf | None = None) -> Asked:
    """Return the migration that merged options describe.

    Raises:
        SpecError: Names every option that is wrong.
    """
    spec = spec_from_values(values, line_of)
    return Asked(spec, migration_of_spec(spec))


def _over(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's options with others in place of those that they replace, under whichever name."""
    kept = dict(values)
    for entry in TABLE:
        if entry.key not in given:
            continue
        for alias in entry.aliases:
            kept.pop(alias, None)
        retry = kept.get("retry")
        if isinstance(retry, Mapping) and entry.key in _RETRY_KEYS:
            kept["retry"] = {key: value for key, value in retry.items() if key != _RETRY_KEYS[entry.key]}
    return {**kept, **given}


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give a migration without a name one after its source collection."""
    source = values.get("source")
    if "name" in values or not isinstance(source, str):
        return dict(values)
    return {"name": name_of(parse_locator(source, "source").collection), **values}


def _value(entry: Entry, value: Any) -> Any:
    """Return what a flag or an environment variable says."""
    if entry.kind in ("yaml", "number"):
        return _yaml(entry, value)
    if entry.key == "filter" and value.lstrip().startswith("{"):
        return _yaml(entry, value)
    return value


def _yaml(entry: Entry, text: str) -> Any:
    source = text
    if text.startswith("@"):
        try:
            source = Path(text[1:]).expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SpecError(f"{entry.flags[0]}: cannot read {text[1:]}: {reason}.") from None
    try:
        return yaml.safe_load(source)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise SpecError(f"{entry.flags[0]}: not YAML{where}.", todo="Quote it for the shell: '{key: value}'.") from None
