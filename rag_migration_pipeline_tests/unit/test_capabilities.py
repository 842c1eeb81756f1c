"""What a store declares decides what is refused, key by key and with a reason; nothing is refused without one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.records import (
    INT64_MAX,
    INT64_MIN,
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    RecordBatch,
    VectorColumn,
    VectorSpec,
)
from rag_migration_pipeline.stores.abilities import abilities
from rag_migration_pipeline.stores.capabilities import ListRule, PayloadRules
from rag_migration_pipeline.stores.memory import CAPABILITIES
from rag_migration_pipeline.stores.screening import screen
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.strategies import json_values

FLAT = PayloadRules(has_null=False, has_nested=False, lists=ListRule.NONE)
SPEC = CollectionSpec("c", (VectorSpec(samples.DIMENSION, Metric.L2),), frozenset({IdKind.STRING}))


@pytest.mark.parametrize(
    ("rules", "value", "reason"),
    [
        (FLAT, None, "null"),
        (FLAT, [1], "a list"),
        (FLAT, {"a": 1}, "nested object"),
        (PayloadRules(lists=ListRule.HOMOGENEOUS), [], "empty list"),
        (PayloadRules(lists=ListRule.HOMOGENEOUS), [1, 1.0], "mixed"),
        (PayloadRules(lists=ListRule.HOMOGENEOUS), [1, True], "mixed"),
        (PayloadRules(lists=ListRule.HOMOGENEOUS), [[1], [2]], "mixed or nested"),
        (PayloadRules(), INT64_MAX + 1, "integer outside"),
        (PayloadRules(), [INT64_MIN - 1], "integer outside"),
        (PayloadRules(), {"a": {"b": 2**70}}, "integer outside"),
        (PayloadRules(), float("nan"), "float nan"),
        (PayloadRules(), [1.0, float("-inf")], "float -inf"),
        (PayloadRules(), "\ud800", "surrogate"),
        (PayloadRules(), {"\ud800": 1}, "key"),
        (PayloadRules(), {1: 2}, "key"),
        (PayloadRules(), (1, 2), "type tuple"),
        (PayloadRules(), np.int64(1), "type int64"),
        (PayloadRules(has_null=False), {"a": None}, "null"),
        (PayloadRules(has_negative_zero=False), -0.0, "-0.0"),
        (PayloadRules(max_depth=2), [[[1]]], "deep|inside|level"),
    ],
)
def test_a_value_is_refused_with_its_reason(rules: PayloadRules, value: Any, reason: str) -> None:
    refusal = rules.refusal("key", value)
    assert refusal is not None
    assert any(part in refusal for part in reason.split("|")), refusal


@pytest.mark.parametrize(
    ("rules", "key"),
    [
        (PayloadRules(reserved_keys=frozenset({"id"})), "id"),
        (PayloadRules(key_pattern=r"[a-z]+"), "a.b"),
        (PayloadRules(key_pattern=r"[a-z]+"), "abc\n"),
        (PayloadRules(), "\ud800"),
    ],
)
def test_a_key_is_refused_by_name(rules: PayloadRules, key: str) -> None:
    assert repr(key) in (rules.refusal(key, 1) or "")


@pytest.mark.parametrize("label", abilities())
def test_every_store_holds_ordinary_payloads(label: str) -> None:
    rules = abilities()[label].payload
    for number in range(10):
        for key, value in samples.ordinary_payload(number).items():
            assert rules.refusal(key, value) is None, (key, value)


@given(json_values())
def test_the_reference_store_refuses_no_json_value(value: Any) -> None:
    in_bounds = "1" * 300 not in repr(value)
    assert not in_bounds or CAPABILITIES.payload.refusal("key", value) is None


@given(st.lists(st.sampled_from(samples.AWKWARD_VALUES), max_size=8))
def test_kept_and_rejected_are_given(values: list[Any]) -> None:
    capabilities = replace(CAPABILITIES, payload=FLAT)
    batch = samples.batch_of([f"r{n}" for n in range(len(values))], SPEC, payloads=[{"v": value} for value in values])
    kept, rejections = screen(batch, SPEC, capabilities, lambda *_: None)
    assert sorted([*kept.ids, *(rejection.record_id for rejection in rejections)]) == sorted(batch.ids)
    assert all(FLAT.refusal("v", payload["v"]) is None for payload in kept.payloads)
    assert all("'v'" in rejection.reason for rejection in rejections)


def test_a_batch_without_fault_is_passed_on_as_it_is() -> None:
    batch = samples.ordinary(5, SPEC, CAPABILITIES)
    kept, rejections = screen(batch, SPEC, CAPABILITIES, lambda *_: None)
    assert kept is batch
    assert rejections == []


def test_the_adapters_own_check_rejects_too() -> None:
    batch = samples.batch_of(["a", "b"], SPEC)
    kept, rejections = screen(batch, SPEC, CAPABILITIES, lambda _, payload: "odd" if payload["n"] else None)
    assert list(kept.ids) == ["a"]
    assert [(rejection.record_id, rejection.reason) for rejection in rejections] == [("b", "odd")]


def test_vectors_that_are_no_numbers_are_rejected_row_by_row() -> None:
    values = samples.vectors(4)
    values[1, 0], values[2, 3] = np.nan, np.inf
    values[3] = np.finfo(np.float32).max
    capabilities = replace(CAPABILITIES, has_non_finite_vectors=False)
    kept, rejections = screen(samples.batch_of(list("abcd"), SPEC, values=values), SPEC, capabilities, lambda *_: None)
    assert list(kept.ids) == ["a", "d"]
    assert [rejection.record_id for rejection in rejections] == ["b", "c"]


def test_missing_vectors_are_rejected_row_by_row() -> None:
    column = DenseColumn(samples.vectors(3), np.array([True, False, True]))
    batch = RecordBatch(list("abc"), {"": column}, [{}, {}, {}])
    kept, rejections = screen(batch, SPEC, replace(CAPABILITIES, has_partial_vectors=False), lambda *_: None)
    assert (list(kept.ids), [rejection.record_id for rejection in rejections]) == (["a", "c"], ["b"])


@pytest.mark.parametrize(
    "vectors", [{}, {"other": DenseColumn(samples.vectors(2))}, {"": DenseColumn(samples.vectors(2, 3))}]
)
def test_a_batch_for_another_collection_is_refused_as_a_whole(vectors: dict[str, VectorColumn]) -> None:
    batch = RecordBatch(["a", "b"], vectors, [{}, {}])
    with pytest.raises(SchemaCompatibilityError, match="'c'"):
        screen(batch, SPEC, replace(CAPABILITIES, has_partial_vectors=False), lambda *_: None)


KEYS = st.sampled_from(["a", "title", "_rmp_envelope", "ключ", "\ud800", "x y", "text"])
RULES = (
    PayloadRules(),
    FLAT,
    PayloadRules(lists=ListRule.HOMOGENEOUS, max_depth=2, has_all_floats=False),
    PayloadRules(reserved_keys=frozenset({"a"}), text_keys=frozenset({"text"}), key_pattern="[a-z_]+", int_max=9),
)
ANY_VALUE = st.one_of(json_values(), st.sampled_from([(1,), b"x", 2**70, float("nan"), -0.0, "\ud800", ["\ud800"]]))


@pytest.mark.parametrize("rules", RULES, ids=range(len(RULES)))
@given(payloads=st.lists(st.dictionaries(KEYS, ANY_VALUE, max_size=5), max_size=4))
def test_a_payload_is_refused_by_key_as_its_values_are_one_by_one(
    rules: PayloadRules, payloads: list[dict[str, Any]]
) -> None:
    """What was judged before changes nothing: rules that know the keys say what fresh ones do."""
    for payload in payloads:
        expected = {key: replace(rules).refusal(key, value) for key, value in payload.items()}
        assert rules.refusals(payload) == {key: reason for key, reason in expected.items() if reason is not None}
