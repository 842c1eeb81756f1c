"""A migration is described once, checked, and named by what it does."""

import pickle
from dataclasses import dataclass, replace
from typing import Any

import pytest

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.mapping import parse_mapping
from rag_migration_pipeline.mapping.id_strategy import Strategy
from rag_migration_pipeline.options import Conflict, MigrationOptions, Validation
from rag_migration_pipeline.spec import Migration, migration_from_spec
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.memory import MemorySettings

GOOD = {"name": "docs", "source": "memory://a?name=x", "target": "memory://b?name=y"}


def test_a_minimal_description_has_the_documented_defaults() -> None:
    migration = migration_from_spec(GOOD)
    assert (migration.name, migration.source_collection, migration.target_collection) == ("docs", "a", "b")
    assert migration.source == MemorySettings(name="x")
    options = migration.options
    assert (options.filter, options.conflict, options.validate_target) == (None, None, Validation.FULL)
    assert (options.range_count, options.page_count, options.max_attempts) == (50_000, None, 5)


def test_every_option_arrives() -> None:
    values: dict[str, Any] = {
        "filter": {"n": {"$gte": 1}},
        "push_down": False,
        "conflict": "overwrite",
        "validate": "counts",
        "range_count": 7,
        "page_count": 3,
        "batch_bytes": 99,
        "max_attempts": 2,
        "retry_delay_s": 0.5,
        "retry_backoff": 3.0,
        "keep_staging": True,
        "envelope": False,
        "max_rejected": 3,
        "keep_overwritten": True,
        "detect": "watermark",
        "watermark": "updated_at",
        "deletes": "tombstone",
        "tombstone": "gone_at",
        "both_changed": "fail",
        "max_deletes": 9,
        "parallel": True,
        "max_workers": 4,
        "worker_type": "process",
        "prefetch_bytes": 1,
        "limits": {
            "source": {"requests_per_s": 5.0, "records_per_s": None},
            "target": {"requests_per_s": None, "records_per_s": 9.5},
        },
        "dry_run": True,
        "incremental": True,
        "resume": True,
        "checkpoint_file": "state.json",
        "schedule": "0 2 * * *",
        "timezone": "Europe/Berlin",
        "declarative": True,
        "watch": {"every_s": 30, "by": "watermark", "field": "updated_at"},
        "notify": ({"to": "https://hooks.example.com/x", "secret_env": "HOOK", "channel": None},),
        "owners": ("team:data", "someone@example.com"),
        "max_lag_s": 3600.0,
        "ranges_per_run": 20,
        "accept_lossy": ("id", "field tags"),
        "translate_names": True,
        "target_fields": {"year": "int64", "title": {"type": "varchar", "max_length_bytes": 512}},
        "infer_count": 500,
        "vectors": {"title": "", "body": None, "text": {"name": None, "metric": "dot", "dtype": "float16"}},
    }
    changed: dict[str, Any] = {"mapping": {"field_mapping": {"a": "b"}}, "ids": "uuid5"}
    options = migration_from_spec({**GOOD, **values, **changed}).options
    assert options.mapping == parse_mapping(changed["mapping"])
    assert options.ids.strategy is Strategy.UUID5
    expected = {**values, "conflict": Conflict.OVERWRITE, "validate": Validation.COUNTS}
    assert options.model_dump(by_alias=True, exclude=set(changed)) == expected
    assert {*values, *changed} == {field.alias or name for name, field in MigrationOptions.model_fields.items()}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"batch_size": 7}, {"page_count": 7}),
        ({"max_retries": 7, "retry_delay": 2.5}, {"max_attempts": 7, "retry_delay_s": 2.5}),
        (
            {"retry": {"max_retries": 5, "delay_s": 2.0, "backoff": 3.0}},
            {"max_attempts": 5, "retry_delay_s": 2.0, "retry_backoff": 3.0},
        ),
    ],
)
def test_options_have_the_names_that_users_know(given: dict[str, Any], meant: dict[str, Any]) -> None:
    assert migration_from_spec({**GOOD, **given}).options == migration_from_spec({**GOOD, **meant}).options


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"page_count": 0}, r"page_count: .*greater than or equal to 1 \(got 0\)"),
        ({"retry": 5}, r"retry: .*\(got int\)"),
        ({"retry": {"tries": 5}}, r"retry\.tries: there is no such option"),
        ({"retry": {"max_retries": 0}}, r"retry\.max_retries: "),
        ({"limits": {"target": {"records_per_s": 0}}}, r"limits\.target\.records_per_s: "),
        ({"limits": {"target": {"bytes_per_s": 1}}}, r"limits\.target\.bytes_per_s: there is no such option"),
        ({"watermark": "at"}, r"watermark: a field, if and only if detect is watermark"),
        ({"detect": "watermark"}, r"watermark: a field, if and only if"),
        ({"max_deletes": 1.5}, r"max_deletes: .*above 0 and up to 1\.0\), got 1\.5"),
        ({"worker_type": "fiber"}, r"worker_type: "),
        ({"both_changed": "target"}, r"both_changed: "),
        ({"tombstone": ""}, r"tombstone: "),
        ({"schedule": "every night"}, r"schedule: expected five fields as cron has them"),
        ({"declarative": True}, r"declarative: it needs a schedule"),
        ({"timezone": "Berlin"}, r"timezone: there is no such time zone"),
        ({"watch": {"every_s": 0}}, r"watch\.every_s: .*greater than or equal to 1 \(got 0\)"),
        ({"watch": {"by": "watermark"}}, r"watch\.field: the field that grows with every change"),
        ({"watch": {"by": "guess"}}, r"watch\.by: "),
        (
            {"watch": {"by": "watermark", "field": "at"}, "detect": "watermark", "watermark": "on"},
            r"watch\.field: another field than the migration's watermark, 'on'",
        ),
        ({"notify": [{"to": "mail"}]}, r"notify\.0\.to: expected log, slack, an http\(s\) URL or module:function"),
        ({"notify": [{"to": "slack"}]}, r"notify\.0\.to: slack needs the channel"),
        ({"max_lag_s": 0}, r"max_lag_s: "),
        ({"ranges_per_run": 0}, r"ranges_per_run: "),
        ({"owners": ["team:"]}, r"owners: .*e-mail addresses and teams such as team:data"),
        ({"owners": ["someone"]}, r"owners: .*got 'someone'"),
    ],
)
def test_what_is_wrong_with_running_it_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        migration_from_spec({**GOOD, **values})


def test_typed_fields_that_are_none_are_named_and_make_another_migration() -> None:
    with pytest.raises(SpecError, match=r"'year'.*expected a type"):
        migration_from_spec({**GOOD, "target_fields": {"year": "number"}})
    options: list[Any] = [None, "infer", "none", {"year": "int64"}, {"year": "int32"}]
    assert len({migration_from_spec({**GOOD, "target_fields": value}).identity for value in options}) == len(options)
    assert migration_from_spec(GOOD).identity == migration_from_spec({**GOOD, "target_fields": None}).identity


def test_options_do_not_change_and_pickle() -> None:
    migration = migration_from_spec(GOOD)
    with pytest.raises(ValueError, match="frozen"):
        migration.options.range_count = 3
    again = pickle.loads(pickle.dumps(migration))
    assert again == migration
    assert again.identity == migration.identity


@pytest.mark.parametrize("name", ["docs", "a", "a1_b", "a" * 100])
def test_names_of_letters_digits_and_underscores_are_taken(name: str) -> None:
    assert migration_from_spec({**GOOD, "name": name}).name == name


@pytest.mark.parametrize("name", ["", "Docs", "1a", "_a", "a-b", "a b", "a\n", "ä", "a" * 101])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match="name"):
        migration_from_spec({**GOOD, "name": name})
    with pytest.raises(SpecError, match="migration name"):
        Migration(name, MemorySettings(), "a", MemorySettings(), "b", MigrationOptions())


def test_an_identity_is_the_same_in_every_process() -> None:
    """State is found again by it, so it is frozen like a file format."""
    migration = migration_from_spec({**GOOD, "filter": {"n": 1}, "conflict": "fail"})
    assert migration.identity_facts() == {
        "source": {"address": "memory://?name=x", "collection": "a", "document_key": "document"},
        "target": {"address": "memory://?name=y", "collection": "b", "document_key": "document"},
        "plan": {"filter": {"n": 1}, "conflict": "fail"},
    }
    assert migration.identity == "b55a4913baccd8aa3fb454c6ec0a118d"


def test_an_option_that_is_not_used_does_not_change_the_identity() -> None:
    """State of earlier versions is taken up again."""
    assert MigrationOptions().plan_fingerprint() == {"filter": None, "conflict": None}
    assert MigrationOptions(envelope=False).plan_fingerprint() == {"filter": None, "conflict": None, "envelope": False}


def test_the_order_of_a_filters_keys_is_no_other_migration() -> None:
    first = migration_from_spec({**GOOD, "filter": {"a": 1, "b": {"$gt": 1, "$lt": 5}}})
    second = migration_from_spec({**GOOD, "filter": {"b": {"$lt": 5, "$gt": 1}, "a": 1}})
    assert first.identity == second.identity


def test_types_in_a_filter_are_another_migration() -> None:
    values: list[Any] = [1, 1.0, True, "1", None, [1]]
    assert len({migration_from_spec({**GOOD, "filter": {"n": value}}).identity for value in values}) == len(values)


@dataclass(frozen=True, kw_only=True)
class Elsewhere(StoreSettings):
    """Settings of a store that is never opened."""

    place: str = "a"

    @property
    def address(self) -> str:
        return f"elsewhere://{self.place}"

    def open(self, *, create: bool = False) -> VectorStore:
        raise NotImplementedError


@pytest.mark.parametrize("option", ["retry_jitter", "retries"])
def test_an_option_that_would_have_no_effect_is_refused(option: str) -> None:
    with pytest.raises(SpecError, match=option):
        migration_from_spec({**GOOD, option: 2})


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("qdrant://store.example:6333/docs", "qdrant://STORE.example.:6333/docs"),
        ("chroma://localhost:8000/docs", "chroma://localhost.:8000/docs"),
        ("milvus://127.0.0.1:19530/docs", "milvus://[::1]:19530/docs"),
        ("qdrant://[::1]:6333/docs", "qdrant://localhost:6333/docs"),
        ("qdrant+file:///data/q/docs", "qdrant+edge:///data/q/docs"),
        ("qdrant+edge:///data/q/docs", "qdrant+edge:///data/x/../q/docs?timeout_s=5"),
    ],
)
def test_a_target_that_is_the_source_in_another_spelling_is_refused(source: str, target: str) -> None:
    with pytest.raises(SpecError, match="the target is the source"):
        migration_from_spec({"name": "docs", "source": source, "target": target})


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("qdrant://a.example/docs", "qdrant://b.example/docs"),
        ("qdrant+edge:///data/Q/docs", "qdrant+edge:///data/q/docs"),
        ("chroma+file:///data/q/docs", "qdrant+edge:///data/q/docs"),
    ],
)
def test_two_places_are_a_source_and_a_target(source: str, target: str) -> None:
    assert migration_from_spec({"name": "docs", "source": source, "target": target}).name == "docs"


def test_another_timeout_is_the_same_place() -> None:
    """What only says how a store is reached does not make another migration, or another place."""
    migration = Migration("m", Elsewhere(), "docs", Elsewhere(place="b"), "docs", MigrationOptions())
    assert replace(migration, source=Elsewhere(timeout_s=5)).identity == migration.identity
    with pytest.raises(SpecError, match=r"the target is the source: elsewhere://a, collection 'docs'"):
        replace(migration, target=Elsewhere(timeout_s=5))


@pytest.mark.parametrize(
    ("option", "value", "got"),
    [
        ("accept_lossy", "yes", "got str"),
        ("accept_lossy", 1, "got int"),
        ("accept_lossy", ["id", 7], "got a list with something else in it"),
        ("max_rejected", 1.5, "got 1.5"),
        ("max_rejected", "7", "got str"),
    ],
)
def test_an_option_of_several_forms_says_which_it_takes_and_what_it_got(option: str, value: Any, got: str) -> None:
    with pytest.raises(SpecError, match=rf"{option}: expected .*, {got}") as caught:
        migration_from_spec({**GOOD, option: value})
    assert len(caught.value.facts["problems"]) == 1
