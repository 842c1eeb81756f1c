"""Signatures of commands, made from the table of options.

Belongs here: the way from a table entry to a Typer option, the options that all commands share. Does not belong here:
the table, the commands.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rag_migration_pipeline.cli.table import TABLE, Entry

_METAVARS = {"integer": "NUMBER", "number": "NUMBER", "yaml": "YAML|@FILE", "text": "TEXT"}
_COMMAND = "This command"


@dataclass(frozen=True)
class Request:
    """What a command was asked for, apart from its own options.

    Attributes:
        given: Options of the migration by key, from flags and the environment.
        config: A migration file.
        is_all: All migrations of the file.
        output: Form of the result.
        quiet: No progress, no remarks.
        state_dir: Folder of the state.
        log_format: Form of log lines.
        log_level: None for the form's own.
        show_config: Print the merged options and end.
    """

    given: dict[str, Any] = field(default_factory=dict)
    config: Path | None = None
    is_all: bool = False
    output: Literal["table", "json", "yaml"] = "table"
    quiet: bool = False
    state_dir: Path | None = None
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] | None = None
    show_config: bool = False


def _common(*flags: str, text: str, **more: Any) -> Any:
    return typer.Option(*flags, help=text, rich_help_panel=_COMMAND, show_default=False, show_envvar=False, **more)


_CONFIG = _common("--config", "-c", text="Migration file: YAML, JSON or TOML.", envvar="RAG_MIGRATE_CONFIG")
_STATE = _common("--state-dir", text="Folder of the state; .rag_migrate by default.", envvar="RAG_MIGRATE_STATE_DIR")
_FORMAT = _common("--log-format", text="Form of log lines.", envvar="RAG_MIGRATE_LOG_FORMAT")
_LEVEL = _common(
    "--log-level", text="By default warning; info for JSON, which has no progress.", envvar="RAG_MIGRATE_LOG_LEVEL"
)
SHARED_FLAGS = {"is_all": "--all"}
"""Flags of those that are not named after their name."""

COMMON: dict[str, tuple[Any, Any]] = {
    "config": (Path | None, _CONFIG),
    "is_all": (bool, _common(SHARED_FLAGS["is_all"], text="All migrations of the file.")),
    "output": (
        Literal["table", "json", "yaml"],
        _common("--output", "-o", text="Form of the result on standard output.", envvar="RAG_MIGRATE_OUTPUT"),
    ),
    "quiet": (bool, _common("--quiet", "-q", text="No progress and no remarks; errors all the same.")),
    "state_dir": (Path | None, _STATE),
    "log_format": (Literal["text", "json"], _FORMAT),
    "log_level": (Literal["debug", "info", "warning", "error"] | None, _LEVEL),
    "show_config": (bool, _common("--show-config", text="Print the merged options, secrets masked, and end.")),
}
"""Name in `Request` -> type and option."""


def with_request(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a migration and those that all commands share, as its first argument."""
    return _with(command, TABLE, COMMON)


def with_name(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the name of a migration that is described elsewhere, and where and how it prints."""
    kept = ("output", "quiet", "log_format", "log_level")
    return _with(command, [entry for entry in TABLE if entry.key == "name"], {name: COMMON[name] for name in kept})


def _with(
    command: Callable[..., None], entries: Sequence[Entry], common: Mapping[str, tuple[Any, Any]]
) -> Callable[..., None]:
    @wraps(command)
    def call(**values: Any) -> None:
        given = {entry.key: values.pop(entry.key) for entry in entries}
        shared = {name: values.pop(name) for name in common}
        command(Request({key: value for key, value in given.items() if value is not None}, **shared), **values)

    own = list(inspect.signature(command).parameters.values())[1:]
    defaults = Request()
    shared = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=getattr(defaults, name), annotation=Annotated[kind, option]
        )
        for name, (kind, option) in common.items()
    ]
    parameters = [*own, *map(_parameter, entries), *shared]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {item.name: item.annotation for item in parameters} | {"return": None}
    return call


def _parameter(entry: Entry) -> inspect.Parameter:
    flags = [f"{flag}/--no-{flag.removeprefix('--')}" if entry.kind == "switch" else flag for flag in entry.flags]
    option = typer.Option(
        *flags,
        help=entry.help,
        envvar=entry.variable,
        show_envvar=False,
        rich_help_panel=entry.panel,
        show_default=False,
        metavar=None if entry.kind in ("switch", "choice") else entry.metavar or _METAVARS[entry.kind],
    )
    kinds: dict[str, Any] = {"integer": int, "switch": bool}
    if entry.choices:
        kinds["choice"] = Literal.__getitem__(entry.choices)
    annotation: Any = Annotated[kinds.get(entry.kind, str) | None, option]
    return inspect.Parameter(entry.key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
