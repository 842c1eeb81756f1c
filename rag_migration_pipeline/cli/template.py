"""The commented migration file that ``init`` writes, also as a Dagster component.

Belongs here: its text, made of the table of options and their defaults. Does not belong here: what they mean.
"""

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

from rag_migration_pipeline.cli.table import TABLE, Entry
from rag_migration_pipeline.options import MigrationOptions

_HEAD = """\
# A migration; several in one file are several documents, separated by a line with three dashes.
# Run it with: rag-migrate --config {file}      Look at it first with: rag-migrate plan --config {file}
# ${{NAME}} and ${{NAME:-default}} stand for environment variables. Secrets belong into the environment
# (QDRANT_API_KEY, CHROMA_TOKEN, MILVUS_TOKEN, with SOURCE_ or TARGET_ in front where both sides have one) or
# into a file (?api_key_file=/path, QDRANT_API_KEY_FILE).
"""
_COMPONENT_HEAD = """\
# A migration that Dagster loads (docs/migrations.md); several in one file are several documents, separated by a line
# with three dashes. Check it with: dagster definitions validate -w workspace.yaml
# {{ env.NAME }}, in quotes, and ${NAME} stand for environment variables. Secrets belong into the environment
# (QDRANT_API_KEY, CHROMA_TOKEN, MILVUS_TOKEN, with SOURCE_ or TARGET_ in front where both sides have one).
type: rag_migration_pipeline.Migration
attributes:
"""
_EXAMPLES = {
    "source": "chroma://localhost:8000/docs",
    "target": "qdrant://localhost:6333/docs",
    "name": "docs",
}


def template(given: Mapping[str, Any]) -> str:
    """Return the text of the file.

    Args:
        given: Options that are written as they are; all others stand as comments with their defaults.
    """
    lines, panel = [_HEAD.format(file="FILE")], ""
    for entry in TABLE:
        if entry.panel != panel:
            panel = entry.panel
            lines.append(f"# {panel}\n")
        lines.append(_lines(entry, given))
    return "\n".join(lines)


def component_template(text: str) -> str:
    """Return the text of a ``defs.yaml`` with a migration file's options as attributes."""
    options = text.removeprefix(_HEAD.format(file="FILE"))
    return _COMPONENT_HEAD + textwrap.indent(options, "  ")


def _lines(entry: Entry, given: Mapping[str, Any]) -> str:
    key = entry.aliases[0] if entry.key in ("validate_target", "page_count") else entry.key
    choices = f" One of {', '.join(entry.choices)}." if entry.choices else ""
    said = f"# {entry.help}{choices}\n"
    if entry.key in given or entry.key in _EXAMPLES:
        value = given.get(entry.key, _EXAMPLES.get(entry.key))
        value = yaml.safe_load(value) if entry.kind in ("yaml", "number") and isinstance(value, str) else value
        return said + _pair(key, value)
    default = MigrationOptions.model_fields[entry.key].get_default(call_default_factory=True)
    plain = default.model_dump(mode="json") if hasattr(default, "model_dump") else default
    return said + "# " + _pair(key, plain)


def _pair(key: str, value: Any) -> str:
    plain = str(value) if isinstance(value, str) else value
    text = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000)
    plain_text = text.removesuffix("...\n").rstrip()
    return f"{key}: {plain_text}\n"
