"""Random records for Hypothesis, within what a store declares that it holds.

Belongs here: strategies. Does not belong here: fixed samples (``samples.py``).
"""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    CollectionSpec,
    DenseColumn,
    RecordBatch,
    VectorColumn,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.stores.screening import payload_reason
from rag_migration_pipeline.vectors import column_of, element_type, row_width
from rag_migration_pipeline_tests.contract import samples


def json_values(*, max_leaves: int = 6) -> st.SearchStrategy[Any]:
    """Return any value that JSON has, with all of Python's strings, integers and floats."""
    text = st.text(st.characters(codec=None), max_size=8)
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | text
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=max_leaves,
    )


def payloads(capabilities: Capabilities) -> st.SearchStrategy[dict[str, Any]]:
    """Return payloads that the store declares to hold: what it refuses is left out key by key."""

    def held(payload: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in payload.items() if payload_reason({key: value}, capabilities) is None}

    keys = st.sampled_from(["a", "b", "title", "ü", "a b"]) | st.text(min_size=1, max_size=4)
    return st.dictionaries(keys, json_values(max_leaves=3), max_size=3).map(held)


def columns(
    vector: VectorSpec, count: int, capabilities: Capabilities, *, is_partial: bool = True
) -> st.SearchStrategy[VectorColumn]:
    """Return columns of any kind that the store declares to hold.

    Args:
        vector: What the column is of.
        count: Records.
        capabilities: Whether vectors may be missing, and NaN and infinities are kept.
        is_partial: Whether vectors may be missing here, where the store lets them.
    """
    dimension = row_width(vector)
    elements = _elements(vector, capabilities)
    one: st.SearchStrategy[Any] = hnp.arrays(element_type(vector.dtype), dimension, elements=elements)
    if vector.kind is VectorKind.MULTI:
        one = st.lists(one, min_size=1, max_size=4).map(np.stack)
    elif vector.kind is VectorKind.SPARSE:
        indices = st.integers(0, capabilities.max_sparse_index) | st.integers(0, 5)
        least = 0
        if not capabilities.has_any_sparse_weights:
            least, elements = 1, elements.map(lambda weight: abs(weight) or 1.0)
        entries = st.dictionaries(indices, elements, min_size=least, max_size=5)
        one = entries.map(lambda drawn: (list(drawn), [*drawn.values()]))
    if is_partial and capabilities.has_partial_vectors:
        one = st.none() | one
    return st.lists(one, min_size=count, max_size=count).map(lambda rows: column_of(vector, rows))


def _elements(vector: VectorSpec, capabilities: Capabilities) -> st.SearchStrategy[Any]:
    """Return components of a vector, away from where its length leaves what float32 can square."""
    held = element_type(vector.dtype)
    if held.kind != "f":
        return st.integers(int(np.iinfo(held).min), int(np.iinfo(held).max))
    width: Any = 16 if held == np.float16 else 32
    if capabilities.is_normalised(vector) or not capabilities.has_non_finite_vectors:
        return st.floats(-1e3, 1e3, width=width).map(lambda x: 0.0 if abs(x) < 1e-3 else x)
    return st.floats(width=width, allow_nan=True, allow_infinity=True)


def batches(spec: CollectionSpec, capabilities: Capabilities, *, id_count: int = 12) -> st.SearchStrategy[RecordBatch]:
    """Return batches whose ids, each once, are among the first few sample ids, so that they meet again."""
    ids = samples.sample_ids(id_count, spec.id_kinds)
    dimension = spec.vectors[0].dimension or samples.DIMENSION
    components = st.floats(-1e3, 1e3, width=32).map(lambda x: 0.0 if abs(x) < 1e-3 else x)
    # Not empty, or the state machine's runs would be mostly nothing.
    chosen = st.lists(st.sampled_from(ids), min_size=1, max_size=6, unique=True)

    def build(chosen_ids: list[Any]) -> st.SearchStrategy[RecordBatch]:
        count = len(chosen_ids)
        columns = {
            "vectors": hnp.arrays(np.float32, (count, dimension), elements=components),
            "payloads": st.lists(payloads(capabilities), min_size=count, max_size=count),
            "documents": st.none(),
        }
        if capabilities.has_documents:
            text = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
            columns["documents"] = st.lists(text, min_size=count, max_size=count)
        return st.fixed_dictionaries(columns).map(
            lambda drawn: RecordBatch(
                chosen_ids, {DEFAULT_VECTOR: DenseColumn(drawn["vectors"])}, drawn["payloads"], drawn["documents"]
            )
        )

    return chosen.flatmap(build)
