"""Whatever a store is asked for, a migration takes exactly the records that the reference evaluator takes."""

import math
import re
from typing import Any

import pytest

from rag_migration_pipeline.envelope import unpack
from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.filters.meaning import select_rows
from rag_migration_pipeline.filters.nodes import Filter, as_dict, checked
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.records import INT64_MAX, RecordId
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.listing import list_selected
from rag_migration_pipeline.steps.push_down import describe_push_down, not_pushed_down
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.memory import MemorySettings
from rag_migration_pipeline.stores.milvus import MilvusSettings
from rag_migration_pipeline_tests.filters.makers import Maker
from rag_migration_pipeline_tests.filters.places import SERVERS, TYPED, Filled, fill, kinds_of, pairs
from rag_migration_pipeline_tests.filters.strategies import HOSTILE, ODD_FIELDS


def selected_by_a_migration(filled: Filled, wanted: Filter, *, push_down: bool) -> tuple[set[RecordId], int]:
    """Return the stored ids that planning, reading and the filter step leave, and how many were read."""
    options = MigrationOptions.model_validate({"filter": as_dict(wanted), "push_down": push_down})
    store = filled.store
    migration = Migration("filters", store.settings, filled.name, MemorySettings(name="nowhere"), "t", options)
    listing = list_selected(migration, store)
    if push_down and not (may_refuse(filled) and listing.push_down == not_pushed_down(wanted)):
        assert listing.push_down == describe_push_down(store, filled.name, wanted), "the store did not refuse"
    stored = store.fetch(filled.name, listing.ids)
    assert len(stored) == len(listing.ids)
    rows = select_rows(unpack(stored, filled.layout), wanted)
    return {stored.ids[row] for row in rows}, len(stored)


def may_refuse(filled: Filled) -> bool:
    """Return whether Milvus Lite may refuse: it cannot look at keys with integers above int64 (3.2.2)."""
    settings = filled.store.settings
    if not isinstance(settings, MilvusSettings) or filled.store.capabilities.concurrent_readers > 1:
        return False
    return any(
        int(number) > INT64_MAX
        for payload in filled.records.payloads
        for number in re.findall(r"\b[0-9]{19,20}\b", repr(payload))
    )


def check(filled: Filled, wanted: Filter) -> tuple[int, int]:
    """Compare a migration's selection with the reference; return how many records were taken, and how many read."""
    expected = filled.ids_of(select_rows(filled.records, wanted))
    got, read = selected_by_a_migration(filled, wanted, push_down=True)
    assert got == expected, f"{as_dict(wanted)}: {store_query(filled, wanted)}"
    return len(expected), read


def store_query(filled: Filled, wanted: Filter) -> Any:
    """Return what the store was asked, for messages."""
    where = describe_push_down(filled.store, filled.name, wanted).where
    return None if where is None else where.query


@pytest.mark.parametrize(("form", "kind"), pairs(), indirect=["form"], scope="module")
def test_a_migration_takes_what_the_reference_takes(store: VectorStore, form: str, kind: str, scale: float) -> None:
    """50 collections x 100 filters per store in `make test-full`, servers a tenth; a tenth of all in `make test`."""
    kinds = len(kinds_of(form))
    collections, filters = math.ceil(5 * scale / kinds), 100
    if form in SERVERS:
        collections, filters = math.ceil(0.5 * scale / kinds), 100 if scale >= 10 else 50 // kinds
    extra = {"typed": [field.name for field in TYPED], "nullable": ["title", "year"]}.get(kind, [])
    narrowed = 0
    for number in range(collections):
        maker = Maker(1000 * number + sum(map(ord, kind)))
        filled = fill(store, maker, kind)
        assert len(filled.stored_ids) >= 20, "enough records that the store holds"
        for wanted in maker.filters(filters, filled.records.ids, extra):
            try:
                narrowed += check(filled, wanted)[1] < len(filled.stored_ids)
            except SpecError:
                assert extra, "only a field's type can contradict a filter"
        plain = checked("a", "$ne", maker.texts[0], "")
        everything = selected_by_a_migration(filled, plain, push_down=False)
        assert everything == (filled.ids_of(select_rows(filled.records, plain)), len(filled.stored_ids))
        store.drop(filled.name)
    if not (form.startswith("chroma") and kind == "mixed"):  # beside envelopes Chroma is asked for everything
        assert narrowed >= collections * filters / 10, "the store was asked for less than everything"


@pytest.fixture(scope="module")
def hostile(store: VectorStore) -> Filled:
    """A collection in which every hostile string is a value, and as many as the store takes are keys and ids."""
    maker = Maker(3)
    maker.texts = list(HOSTILE)
    maker.profiles = {"a": "text", "b": "few", **dict.fromkeys(ODD_FIELDS, "text")}
    return fill(store, maker, "natural")


def test_hostile_strings_change_nothing(hostile: Filled, scale: float) -> None:
    is_fast = hostile.store.capabilities.form in ("process", "edge")
    operators = ("$eq", "$ne", "$gt", "$lte", "$contains")
    step = 1 if is_fast or scale >= 10 else 12
    texts = HOSTILE[::step]
    for position, text in enumerate(texts):
        for operator in operators if scale >= 10 else ("$eq", operators[position % 5]):
            check(hostile, checked("a", operator, text, ""))
        check(hostile, checked("a", "$nin" if position % 2 else "$in", [text, "a"], ""))
        for key in (text, f"a.{text}", f"{text}.a"):
            if not key.startswith("$"):
                check(hostile, checked(key, "$ne" if position % 2 else "$eq", "a", ""))
        check(hostile, checked("$id", "$in", [text, f"{text}-1"], ""))
    values = sorted(set(_values(hostile, "a")))[::step]
    for value in values:
        taken = check(hostile, checked("a", "$eq", value, ""))[0]
        assert taken == _values(hostile, "a").count(value), "each record is taken by its own value"


def _values(filled: Filled, key: str) -> list[str]:
    return [payload[key] for payload in filled.records.payloads if isinstance(payload.get(key), str)]
