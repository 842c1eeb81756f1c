"""The guard of the contract: no law disappears, and no store form goes its own way without a declared gap."""

import inspect
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.contract.gaps import all_forms, gap_of, gap_table, never, notimpl, notyet
from rag_migration_pipeline_tests.contract.laws import EmbeddedStoreLaws, Laws, ServerStoreLaws
from rag_migration_pipeline_tests.contract.laws_persistence import EmbeddedLaws, ServerLaws
from rag_migration_pipeline_tests.contract.test_memory import TestMemory

LAWS_OF_EVERY_STORE = """
LAWS_OF_EVERY
""".split()

LAWS_OF_FOLDERS = """
LAWS_OF_FOLDERS_
""".split()

LAWS_OF_SERVERS = """
LAWS_OF_SERVERS_
""".split()


def laws_of(form: type) -> dict[str, Callable[..., Any]]:
    """Return the tests that a class has, its own and inherited ones."""
    return {name: item for name, item in inspect.getmembers(form, callable) if name.startswith("test_")}


def violations(form: type[StoreForm]) -> list[str]:
    """Return what is wrong with a store form's test class: laws that it lacks or replaces without a mark."""
    base = EmbeddedStoreLaws if issubclass(form, EmbeddedLaws) else Laws
    base = ServerStoreLaws if issubclass(form, ServerLaws) else base
    own = laws_of(form)
    found = []
    for name, law in laws_of(base).items():
        if own.get(name) is None:
            found.append(f"{form.__name__} lacks {name}")
        elif own[name] is not law and gap_of(form, name) is None:
            found.append(f"{form.__name__} replaces {name}")
    found += [f"{form.__name__} marks {law}, which is no law" for law in form.gaps if law.partition("[")[0] not in own]
    if getattr(form, "__test__", True) is False:
        found.append(f"{form.__name__} is not collected")
    return found


def test_the_list_of_laws_is_complete() -> None:
    """A law that is deleted or renamed fails here, and so does a new one that is not listed."""
    assert sorted(laws_of(Laws)) == LAWS_OF_EVERY_STORE
    assert sorted(set(laws_of(EmbeddedStoreLaws)) - set(laws_of(Laws))) == LAWS_OF_FOLDERS
    assert sorted(set(laws_of(ServerStoreLaws)) - set(laws_of(Laws))) == LAWS_OF_SERVERS


def test_every_law_states_its_promise() -> None:
    """Each law has one sentence, which the docs can quote."""
    for form in (EmbeddedStoreLaws, ServerStoreLaws):
        for name, law in laws_of(form).items():
            assert (law.__doc__ or "").strip().endswith("."), name
            assert len((law.__doc__ or "").strip().splitlines()) == 1, name


@pytest.mark.parametrize("form", all_forms())
def test_every_store_form_keeps_every_law(form: type[StoreForm]) -> None:
    """A store form has all laws, unchanged, and knows whether it is a folder or a server."""
    assert violations(form) == []
    assert form.label
    assert form.is_server == issubclass(form, ServerLaws)


def test_all_named_store_forms_are_there() -> None:
    """The forms that the project promises to test are tested, each once."""
    labels = [form.label for form in all_forms()]
    assert len(set(labels)) == len(labels)
    assert set(labels) == {
        "memory",
        "Chroma folder",
        "Chroma server",
        "Qdrant folder",
        "Qdrant edge",
        "Qdrant double, gRPC",
        "Qdrant double, REST",
        "Qdrant server",
        "Milvus Lite file",
        "Milvus Lite server",
        "Milvus server",
    }


class _Fresh(Laws):
    gaps = MappingProxyType({})


def test_the_guard_sees_a_deleted_law() -> None:
    form = type("Form", (_Fresh,), {"test_count_equals_the_scan": None})
    assert violations(form) == ["Form lacks test_count_equals_the_scan"]


def test_the_guard_sees_a_replaced_law() -> None:
    form = type("Form", (_Fresh,), {"test_count_equals_the_scan": lambda self: None})
    assert violations(form) == ["Form replaces test_count_equals_the_scan"]
    marked = notimpl("test_count_equals_the_scan", reason="shown here", raises=AssertionError)(form)
    assert violations(marked) == []


def test_the_guard_sees_a_class_that_is_not_collected() -> None:
    assert violations(type("Form", (_Fresh,), {"__test__": False})) == ["Form is not collected"]


def test_a_gap_needs_a_reason_and_a_law() -> None:
    with pytest.raises(ValueError, match="reason"):
        notyet("test_count_equals_the_scan", reason=" ", raises=AssertionError)
    with pytest.raises(ValueError, match="no law"):
        never("test_of_no_such_law", reason="x", raises=AssertionError)(type("Form", (_Fresh,), {}))


def test_a_gap_covers_a_law_or_one_parameter_of_it() -> None:
    form = type("Form", (_Fresh,), {})
    form = notyet("test_every_metric_is_described_or_refused[l2]", reason="x", raises=AssertionError)(form)
    assert gap_of(form, "test_every_metric_is_described_or_refused[l2]") is not None
    assert gap_of(form, "test_every_metric_is_described_or_refused[dot]") is None
    assert gap_of(_Fresh, "test_every_metric_is_described_or_refused[l2]") is None
    assert gap_of(TestMemory, "test_count_equals_the_scan") is None


def test_a_gap_is_strict(pytester: pytest.Pytester) -> None:
    """A marked law that holds after all fails the suite, so that a fix forces the mark away."""
    pytester.makeconftest(
        "from rag_migration_pipeline_tests.conftest import pytest_collection_modifyitems  # noqa: F401"
    )
    pytester.makepyfile(
        """
        from rag_migration_pipeline_tests.contract.gaps import Gap

        class TestForm:
            gaps = {
                "test_fixed": Gap("test_fixed", "notyet", "it was broken", AssertionError),
                "test_broken": Gap("test_broken", "notyet", "it is broken", AssertionError),
                "test_broken_otherwise": Gap("test_broken_otherwise", "never", "it is broken", AssertionError),
            }
            def test_fixed(self): pass
            def test_broken(self): assert not self
            def test_broken_otherwise(self): raise KeyError(1)
        """
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(failed=2, xfailed=1)


def test_the_table_of_gaps_lists_every_mark() -> None:
    marks = sum(len(form.gaps) for form in all_forms())
    assert len(gap_table().splitlines()) == marks + 2
