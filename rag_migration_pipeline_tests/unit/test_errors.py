"""The tree of errors is as drawn, and every error says what it should and survives the way between processes."""

import copy
import pickle
import re

import pytest

from rag_migration_pipeline import errors
from rag_migration_pipeline.errors import (
    MigrationError,
    MigrationInterruptedError,
    RateLimitedError,
    RecordRejectedError,
    StagingError,
    StopError,
    TryAgainError,
    ValidationError,
)

CLASSES = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, MigrationError)]


def drawn_tree() -> dict[str, tuple[str | None, str | None]]:
    """Return class name -> (parent's name, builtin that it also is), as the module's drawing has it."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^    ([│├└─ ]*)([A-Z]\w+Error)\b(.*)$", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        path[depth:] = [found[2]]
        also = re.search(r"\(also (\w+)\)", found[3])
        tree[found[2]] = (path[depth - 1] if depth else None, also[1] if also else None)
    return tree


def test_the_drawing_equals_the_classes() -> None:
    classes = {}
    for item in CLASSES:
        bases = [base.__name__ for base in item.__bases__]
        ours = [name for name in bases if name in {other.__name__ for other in CLASSES}]
        also = [name for name in bases if name not in ours]
        classes[item.__name__] = (ours[0] if ours else None, also[0] if ours and also else None)
    assert drawn_tree() == classes


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_pickles_with_its_facts(kind: type[MigrationError]) -> None:
    error = kind("the store is away.", todo="Start it.", address="qdrant://host:6333", ids=["a", 7], retry_after_s=2.0)
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(again) is kind
        assert str(again) == str(error) == "the store is away. Start it."
        assert (again.what, again.todo, again.facts) == (error.what, error.todo, error.facts)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_says_one_thing_about_recovery(kind: type[MigrationError]) -> None:
    if kind is MigrationError:
        return
    axes = (TryAgainError, StopError, MigrationInterruptedError, RecordRejectedError, ValidationError)
    assert len([axis for axis in axes if issubclass(kind, axis)]) == 1


def test_errors_are_caught_by_the_builtin_that_a_caller_expects() -> None:
    for name, (_, also) in drawn_tree().items():
        if also is not None:
            with pytest.raises(vars(__import__("builtins"))[also]):
                raise vars(errors)[name]("it went wrong.")


def test_an_error_without_advice_ends_with_its_sentence() -> None:
    assert str(StopError("that is all.")) == "that is all."
    assert str(StagingError("the disk is full.", todo="Free some.")) == "the disk is full. Free some."


def test_facts_are_read_by_name() -> None:
    assert RateLimitedError("slower.", retry_after_s=3).retry_after_s == 3.0
    assert RateLimitedError("slower.").retry_after_s is None
    assert ValidationError("it differs.", report={"missing": 1}).report == {"missing": 1}
    assert ValidationError("it differs.").report is None
