"""A pushed-down filter changes what is listed and read, and nothing of what arrives."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from rag_migration_pipeline.errors import SpecError, StoreRequestError
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.records import CollectionSpec, FieldSpec, IdKind, Metric, VectorSpec
from rag_migration_pipeline.steps.push_down import describe_push_down, refuse_mistyped
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.stores.narrowing import Handling
from rag_migration_pipeline_tests.steps.support import World, numbered, records, with_faults


def held(world: World) -> list[Any]:
    return sorted(i for page in world.b.iter_ids("docs") for i in page)  # type: ignore[type-var]


def test_only_ids_that_may_be_taken_are_planned_and_read(world: World) -> None:
    world.fill(records(numbered(40)))
    calls: Counter[str] = Counter()
    migration = world.migration(filter={"n": {"$in": [3, 39]}})
    migration = replace(migration, source=with_faults(world.source, lambda _, name: calls.update([name])))
    with world.opened(migration) as context:
        assert context.manifest.count == 2
        assert context.manifest.plan.push_down == (f'{{"n":{{"$in":[3,39]}}}}: {Handling.STORE.value}',)
        receipts = [migrate_range(context, entry.key) for entry in context.manifest.ranges]
        report = prove_collection(context)
    assert calls["read_range"] == 0, "what lies between is not read"
    assert [receipt.counts["filtered"] for receipt in receipts] == [0]
    assert (report.planned, report.written, report.source_count, report.is_proven) == (2, 2, 40, True)
    assert held(world) == ["r003", "r039"]


@pytest.mark.parametrize("push_down", [True, False])
def test_a_filter_that_takes_nothing_is_noted_by_the_plan(world: World, push_down: bool) -> None:
    world.fill(records(numbered(9)))

    def notes(wanted: dict[str, Any]) -> list[str]:
        with world.opened(world.migration(filter=wanted, push_down=push_down)) as context:
            return [verdict.reason for verdict in context.manifest.plan.verdicts if verdict.subject == "filter"]

    assert notes({"n": {"$lt": 3}}) == []
    (note,) = notes({"n": "1"})
    assert ("none of the source's 9 records" if push_down else "none of the records looked at") in note


def test_records_that_a_mapping_will_set_aside_are_noted_by_the_plan(world: World) -> None:
    world.fill(records(numbered(9)))
    with world.opened(world.migration(mapping={"field_mapping": {"n.deep": "x"}})) as context:
        (note,) = [verdict.reason for verdict in context.manifest.plan.verdicts if verdict.subject == "records"]
    assert note.startswith("9 of 9 records looked at: the path 'n.deep' leads into 'n'")


def test_ids_are_decided_without_the_store(world: World) -> None:
    world.fill(records(numbered(9)))
    wanted: dict[str, Any] = {"$or": [{"$id": {"$in": ["r001", "r007"]}}, {"$id": {"$gt": "r007"}}], "n": {"$lt": 8}}
    with world.opened(world.migration(filter=wanted)) as context:
        assert [line.rpartition(": ")[2] for line in context.manifest.plan.push_down] == [
            Handling.IDS.value,
            Handling.STORE.value,
        ]
        assert context.manifest.count == 2
    _, report = world.run(world.migration(filter=wanted))
    assert report.is_proven
    assert held(world) == ["r001", "r007"]


def test_a_record_that_changes_between_plan_and_extract_is_filtered_and_not_missed(world: World) -> None:
    world.fill(records(numbered(9)))
    with world.opened(world.migration(filter={"n": {"$lt": 6}})) as context:
        world.fill(records(["r002"], start=100))
        receipts = [migrate_range(context, entry.key) for entry in context.manifest.ranges]
        assert prove_collection(context).is_proven
    assert [receipt.counts["filtered"] for receipt in receipts] == [1, 0]
    assert held(world) == ["r000", "r001", "r003", "r004", "r005"]


@pytest.mark.parametrize("push_down", [True, False])
def test_what_a_filter_took_once_and_takes_no_more_stays_and_is_counted(world: World, push_down: bool) -> None:
    migration = world.migration(filter={"n": {"$lt": 6}}, push_down=push_down)
    world.fill(records(numbered(9)))
    world.run(migration)
    world.fill(records(["r002"], start=100))
    world.fill(records(["r009"], start=4))
    _, report = world.run(migration)
    assert (report.is_proven, report.left_over, report.written) == (True, 1, 6)
    assert "r002" in held(world)


def test_a_store_that_refuses_the_question_is_asked_for_everything(world: World) -> None:
    world.fill(records(numbered(9)))
    asked: list[str] = []

    def refuse(_: Any, operation: str) -> None:
        asked.append(operation)
        if asked.count("iter_ids") == 1 and operation == "iter_ids":
            raise StoreRequestError("filters on keys without an index are forbidden.")

    migration = world.migration(filter={"n": 3})
    migration = replace(migration, source=with_faults(world.source, refuse))
    with world.opened(migration) as context:
        assert (context.manifest.count, context.manifest.is_narrowed) == (9, False)
        assert context.manifest.plan.push_down[0].endswith(Handling.EVALUATED.value)
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        assert prove_collection(context).is_proven
    assert held(world) == ["r003"]


def test_without_a_filter_nothing_is_asked(world: World) -> None:
    world.fill(records(numbered(9)))
    asked: list[str] = []
    migration = replace(world.migration(), source=with_faults(world.source, lambda _, name: asked.append(name)))
    with world.opened(migration) as context:
        assert (context.manifest.plan.push_down, context.manifest.is_narrowed) == ((), False)
    assert "narrow" not in asked


TYPED = CollectionSpec(
    "docs",
    (VectorSpec(2, Metric.L2),),
    frozenset({IdKind.INT64}),
    (
        FieldSpec("year", "int"),
        FieldSpec("title", "string"),
        FieldSpec("flag", "bool"),
        FieldSpec("document", "string"),
    ),
    id_field="id",
)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"year": "2024"}, ["'year'", "int", "str"]),
        ({"$or": [{"year": {"$in": [1, True]}}, {"n": 1}]}, ["'year'", "bool"]),
        ({"title": {"$gt": 3}}, ["'title'", "string"]),
        ({"flag": {"$gt": 3}}, ["'flag'", "bool"]),
        ({"year": {"$like": "20%"}}, ["'year'", "$like"]),
        ({"year.month": 3}, ["'year.month'", "int"]),
    ],
)
def test_a_filter_for_another_type_of_field_is_refused(wanted: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        refuse_mistyped(parse_filter(wanted), TYPED, "document")
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    "wanted",
    [
        {"year": 2024.5},
        {"year": None},
        {"other": "x"},
        {"year": {"$exists": False}},
        {"document": 3},
        {"title": {"$like": "x%"}},
    ],
)
def test_a_filter_that_fits_the_fields_is_taken(wanted: dict[str, Any]) -> None:
    refuse_mistyped(parse_filter(wanted), TYPED, "document")
    refuse_mistyped(parse_filter({"year": "x"}), replace(TYPED, id_field=None), "document")


def test_each_part_of_a_filter_says_who_decides_it(world: World) -> None:
    world.fill(records(numbered(2)))
    pushed = describe_push_down(world.a, "docs", parse_filter("n>=1,$id!=x"))
    assert pushed.lines == (
        f'{{"n":{{"$gte":1}}}}: {Handling.STORE.value}',
        f'{{"$id":{{"$ne":"x"}}}}: {Handling.IDS.value}',
    )
