"""Generated collections with every kind of vector travel to the stores that hold them and come home as they were."""

from pathlib import Path

import pytest
from hypothesis import strategies as st

from rag_migration_pipeline.records import CollectionSpec, IdKind, Metric, VectorKind
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline_tests.contract.vector_samples import records, vector_of
from rag_migration_pipeline_tests.fidelity.strategies import Generated
from rag_migration_pipeline_tests.fidelity.test_round_trips import assert_comes_home, held, made, run_generated
from rag_migration_pipeline_tests.matrix.places import Place


@st.composite
def collections_of_vectors(draw: st.DrawFn, target: Capabilities, count: int) -> Generated:
    """Return collections with several of the vectors that a target holds, some of them missing in some records."""
    found = []
    for name, kind in (
        ("a", VectorKind.DENSE),
        ("b", VectorKind.DENSE),
        ("w", VectorKind.SPARSE),
        ("t", VectorKind.MULTI),
    ):
        dtypes = [dtype for dtype in ("float32", "float16", "uint8") if target.has_type(kind, dtype)]
        if dtypes and (name == "a" or draw(st.booleans())):
            dtype = draw(st.sampled_from(dtypes))
            metrics = sorted(target.metrics_of(vector_of(kind, dtype, Metric.DOT)))
            # Qdrant rounds to float16 after it has normalised, which has a tolerance and tests of its own.
            metrics = [metric for metric in metrics if dtype == "float32" or metric is not Metric.COSINE]
            found.append(vector_of(kind, dtype, draw(st.sampled_from(metrics)), name))
    spec = CollectionSpec("", tuple(found), frozenset(IdKind))
    is_partial = target.has_partial_vectors and draw(st.booleans())
    return Generated(spec, records(spec, count, seed=draw(st.integers(0, 2**16)), is_partial=is_partial))


@pytest.mark.fuzz
@pytest.mark.parametrize("target", ["qdrant", "milvus"])
def test_every_kind_of_vector_comes_home(
    target: str, embedded_stores: dict[str, Place], scale: float, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    home, there = embedded_stores["memory"], embedded_stores[target]
    assert there.store.capabilities.has_named_vectors, "the store holds several vectors per record"

    def check(collection: Generated) -> None:
        with made(home, collection) as origin:
            assert_comes_home(home, origin, held(home, origin), [there], tmp_path)

    run_generated(check, collections_of_vectors(there.store.capabilities, 30), max(2, round(scale)), pytestconfig)
