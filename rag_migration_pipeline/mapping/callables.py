"""Functions that a user names or hands over: found by import path, and told apart by what they do.

Belongs here: importing ``package.module:function``, a callable's fingerprint. Does not belong here: what it is called
with (``hooks.py``).
"""

import functools
import hashlib
import importlib
from collections.abc import Callable
from types import CodeType, FunctionType, MethodType
from typing import Any

AnyCallable = Callable[..., Any]

MAX_DEPTH = 10
"""How far a fingerprint looks into what a closure holds, which may hold itself."""


def import_callable(path: str) -> AnyCallable:
    """Return the callable at ``package.module:function``.

    Raises:
        ValueError: The path has another form, the module cannot be imported, or there is no such callable in it.
    """
    module_name, colon, name = path.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), *name.split("."))):
        raise ValueError(f"{path!r} is no import path; expected package.module:function")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # a user's module may fail in any way
        raise ValueError(f"{path!r} cannot be imported: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ValueError(f"{path!r}: the module {module_name} has no function {name}")  # noqa: TRY004 - a setting
    return found  # type: ignore[no-any-return] # what getattr gives has no type


def callable_name(function: AnyCallable) -> str:
    """Return ``module:qualified name``."""
    if isinstance(function, functools.partial):
        return callable_name(function.func)
    owner = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(owner, '__module__', None) or 'builtins'}:{owner.__qualname__}"


def callable_fingerprint(function: AnyCallable) -> str:
    """Return a text that changes when another function is meant, or the same one does something else.

    It is the name and a digest of the byte code with its constants, default values and what a closure holds, of
    the function itself and not of those that it calls. Another minor version of Python compiles other byte code.
    """
    digest = hashlib.blake2b(digest_size=8)
    _add(digest, function, 0)
    return f"{callable_name(function)}#{digest.hexdigest()}"


def _add(digest: Any, value: Any, depth: int) -> None:
    """Add a value to a digest, its parts in turn; what has neither parts nor a stable text counts by its type."""
    parts = _parts(value)
    if value is None or isinstance(value, str | bytes | int | float | complex):
        digest.update(f"{type(value).__name__}:{value!r};".encode("utf-8", "surrogatepass"))
    else:
        digest.update(f"{type(value).__module__}.{type(value).__qualname__}:{len(parts)};".encode())
    for part in parts if depth < MAX_DEPTH else ():
        _add(digest, part, depth + 1)


def _parts(value: Any) -> list[Any]:
    """Return what decides about the meaning of a value, in a fixed order."""
    if isinstance(value, functools.partial):
        return [value.func, list(value.args), value.keywords]
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [value.__code__, value.__defaults__, value.__kwdefaults__, cells]
    if isinstance(value, CodeType):
        return [value.co_code, value.co_consts, value.co_names, value.co_varnames]
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, frozenset | set):
        return sorted(map(repr, value))
    if isinstance(value, dict):
        return sorted(([repr(key), item] for key, item in value.items()), key=lambda pair: str(pair[0]))
    if isinstance(value, MethodType):
        return [value.__func__]
    call = getattr(type(value), "__call__", None)  # noqa: B004 - not whether, but what it does
    return [call] if isinstance(call, FunctionType) else []
