"""The generated parts of docs/cli.md: commands with their options, options of a migration, exit codes.

Belongs here: Markdown made of the command itself. Does not belong here: what is written by hand around it.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import typer

from rag_migration_pipeline.cli.app import app
from rag_migration_pipeline.cli.exit_codes import MEANINGS
from rag_migration_pipeline.cli.signatures import COMMON
from rag_migration_pipeline.cli.table import TABLE
from rag_migration_pipeline_tests.generated import write_blocks

KINDS = {int: "NUMBER", str: "TEXT", Path: "FILE"}
SHARED = {entry.key for entry in TABLE} | set(COMMON) | {"help"}


def blocks() -> dict[str, str]:
    """Return the generated parts by name."""
    return {"commands": commands(), "common": common(), "options": options(), "exit codes": exit_codes()}


def commands() -> str:
    """Return a section per command: what it does, its arguments and its own options."""
    group: Any = typer.main.get_command(app)
    parts = []
    for name, command in group.commands.items():
        own = [item for item in command.params if item.name not in SHARED]
        arguments = [item for item in own if item.param_type_name == "argument"]
        named = "".join(f" {item.name.upper()}" for item in arguments)
        parts += [f"### `rag-migrate {name}{named} [OPTIONS]`", "", " ".join(command.help.split()), ""]
        rows = [(f"`{item.name.upper()}`", item.help) for item in arguments]
        rows += [(_flags(item), item.help) for item in own if item.param_type_name == "option"]
        parts += [*_table(("its own", "means"), rows), ""] if rows else []
    return "\n".join(parts).rstrip()


def common() -> str:
    """Return the table of the options that all commands share."""
    group: Any = typer.main.get_command(app)
    params = {item.name: item for item in group.params}
    rows = [
        (_flags(params[name]), f"`{params[name].envvar}`" if params[name].envvar else "", params[name].help)
        for name in COMMON
    ]
    return "\n".join(_table(("flag", "variable", "means"), rows))


def options() -> str:
    """Return the table of the options of a migration."""
    parts, panel = [], ""
    for entry in TABLE:
        if entry.panel != panel:
            panel = entry.panel
            parts += ["", f"### {panel}", "", *_table(("flag", "key", "variable", "means"), [])]
        flags = ", ".join(
            f"`{flag}`" + (f", `--no-{flag[2:]}`" if entry.kind == "switch" else "") for flag in entry.flags
        )
        keys = ", ".join(f"`{key}`" for key in (entry.key, *entry.aliases))
        choices = f" One of {', '.join(f'`{item}`' for item in entry.choices)}." if entry.choices else ""
        parts.append(_row((flags, keys, f"`{entry.variable}`", _plain(entry.help) + choices)))
    return "\n".join(parts).lstrip()


def exit_codes() -> str:
    """Return the table of exit codes."""
    return "\n".join(_table(("code", "means"), [(f"{code.value}", text) for code, text in MEANINGS.items()]))


def _flags(option: Any) -> str:
    kind = option.type_descriptor.annotation
    value = "" if option.is_flag else f" {option.metavar or '|'.join(get_args(kind)) or KINDS[kind]}"
    return ", ".join(f"`{flag}{value}`" for flag in option.opts)


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    heads = list(columns)
    return [_row(heads), "|" + "---|" * len(heads), *map(_row, rows)]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    return re.sub(r"\\\[", "[", " ".join(text.split()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write_blocks(Path(sys.argv[2]), blocks())
    else:
        print("\n\n".join(blocks().values()))  # noqa: T201  this is the command
