"""Whatever the records are: the reverse of a mapping brings them back, and a batch is mapped as each record by itself.

Belongs here: laws over generated records and mappings. Does not belong here: examples (``test_mapper.py``).
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.mapping import parse_mapping
from rag_migration_pipeline.mapping.mapper import MappingPlan
from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline_tests.unit.mapper_samples import NOW, apply, batch_of

KEYS = ["a", "b", "c", "", "id", "document", "\U0001f984", "tags"]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
nested = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=2),
    max_leaves=5,
)
metas = st.dictionaries(st.sampled_from(["x", "y", "z"]), nested, min_size=1, max_size=3)
records = st.tuples(st.dictionaries(st.sampled_from(KEYS), nested, max_size=6), st.none() | metas).map(
    lambda pair: pair[0] if pair[1] is None else {**pair[0], "meta": pair[1]}
)
TARGETS = ["n1", "deep.n2", "deep.er.n3", r"dot\.ted", r"\id2", "n4"]
invertible = st.builds(
    lambda sources, targets, star: {
        "field_mapping": {
            **dict(zip([s.replace("id", r"\id") for s in sources], targets, strict=False)),
            **({"meta.*": star} if star else {}),
        },
    },
    st.lists(st.sampled_from(KEYS), unique=True, max_size=5),
    st.permutations(TARGETS),
    st.sampled_from([None, "m_*", "wide.*", "wide.m_*"]),
)


@given(payloads=st.lists(records, max_size=5), values=invertible)
def test_the_reverse_brings_every_record_back(payloads: list[Any], values: dict[str, Any]) -> None:
    before = [encode(payload) for payload in payloads]
    mapping = parse_mapping({**values, "transforms": {"c": "json"} if "c" in str(values) else {}})
    there = MappingPlan([mapping], NOW).apply(batch_of(payloads))
    assert there.failed == {}
    back = MappingPlan([mapping.reverse()], NOW).apply(there.batch)
    assert back.failed == {}
    assert [encode(payload) for payload in back.batch.payloads] == before
    assert [encode(payload) for payload in payloads] == before, "what comes in is not changed"


@given(
    payloads=st.lists(records, max_size=5),
    renames=st.dictionaries(st.sampled_from(KEYS[:4]), st.sampled_from(["a", "b", "c", "n"]), max_size=3),
    excluded=st.sets(st.sampled_from(["tags", "\U0001f984"])),
    defaults=st.dictionaries(
        st.sampled_from(["a", "n", "tags", "v"]), scalars.filter(lambda v: v != "now"), max_size=3
    ),
)
def test_a_batch_is_mapped_as_each_record_by_a_plain_reading_of_the_rules(
    payloads: list[Any], renames: dict[str, str], excluded: set[str], defaults: dict[str, Any]
) -> None:
    if len(set(renames.values())) < len(renames):
        with pytest.raises(SpecError):
            parse_mapping({"field_mapping": renames})
        return
    values = {"field_mapping": renames, "exclude_fields": sorted(excluded), "defaults": defaults}
    found = apply(values, batch_of(payloads))
    wanted = [_plainly(json.loads(json.dumps(payload)), renames, excluded, defaults) for payload in payloads]
    assert sorted(found.failed) == [row for row, payload in enumerate(wanted) if payload is None]
    assert [encode(p) for p in found.batch.payloads] == [encode(p) for p in wanted if p is not None]


def _plainly(payload: Any, renames: dict[str, str], excluded: set[str], defaults: dict[str, Any]) -> Any:
    kept = {key: value for key, value in payload.items() if key not in excluded and key not in renames}
    for old, new in renames.items():
        if old in payload:
            if new in kept:
                return None
            kept[new] = payload[old]
    return {**defaults, **kept}
