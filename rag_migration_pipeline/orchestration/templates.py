"""``{{ env.NAME }}`` and the like in the attributes of a component, as Dagster's components have them.

Belongs here: filling them in so that a text stays a text, and a variable that is not set is an error. Does not belong
here: ``${NAME}`` (``config_files.py``), which works beside it.

Dagster (1.13.27) renders every text of a component as a template of Python literals: the text "12" would become 12, and
a variable that is not set None. Here only what stands in double braces is an expression. Alone in its text it gives
what it is (a variable of the environment is text, one of a ``template_vars_module`` may be a mapping), else text.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, StrictUndefined, Undefined

from rag_migration_pipeline.config_files import changed, not_set, with_references
from rag_migration_pipeline.problems import LineOf, Place, Problem, problems_error

_EXPRESSION = re.compile(r"(\{\{.*?\}\})", re.DOTALL)
_ENGINE = Environment(undefined=StrictUndefined)  # noqa: S701 - what is made is no HTML


def filled_in(value: Any, scope: Mapping[str, Any], line_of: LineOf | None = None) -> Any:
    """Return a value with its expressions and its ``${NAME}`` replaced; what they stand for is not looked into.

    Args:
        value: What stands in the file.
        scope: What expressions may name; ``env`` is always the environment of this process.
        line_of: Gives the line of a place in the value.

    Raises:
        SpecError: An expression is wrong, or a variable of the environment is not set; names place and line.
    """

    def change(text: str, place: Place) -> Any:
        parts = [part for part in _EXPRESSION.split(text) if part]
        made = [
            _value(part, scope, place, line_of)
            if _EXPRESSION.fullmatch(part)
            else with_references(part, os.environ, place, line_of)
            for part in parts
        ]
        return made[0] if len(made) == 1 else "".join(map(str, made))

    return changed(value, change)


class _Variables:
    """The environment: ``env.NAME``, ``env("NAME")``, ``env("NAME", "default")``; one that is empty is not set."""

    def __init__(self) -> None:
        self.missing: list[str] = []

    def __call__(self, name: str, default: Any = None) -> Any:
        found = os.environ.get(name) or default
        if found is None:
            self.missing.append(name)
            raise LookupError(name)
        return found

    def __getattr__(self, name: str) -> str:
        found = os.environ.get(name)
        if found:
            return found
        if not name.startswith(("_", "jinja")):  # the template engine asks for marks of its own
            self.missing.append(name)
        raise AttributeError(name)


def _value(part: str, scope: Mapping[str, Any], place: Place, line_of: LineOf | None) -> Any:
    """Return what an expression in double braces gives."""
    variables = _Variables()
    said = "it names nothing that is known"
    try:
        expression = _ENGINE.compile_expression(part[2:-2].strip(), undefined_to_none=False)
        found = expression({**scope, "env": variables})
        if not isinstance(found, Undefined):
            return found
    except Exception as error:  # noqa: BLE001 - an expression may call anything; its own words may quote a secret
        said = type(error).__name__
    if variables.missing:
        name = variables.missing[0]
        raise not_set(name, f"{{{{ env('{name}', 'default') }}}}", place, line_of) from None
    problem = Problem(place, f"the expression in double braces is wrong: {said}")
    raise problems_error([problem], "", "{{ env.NAME }} is a variable of the environment.", line_of) from None
