"""Generated collections travel from every store to every other and come home as they were, or are refused by name."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline_tests.fidelity.meaning import ENVELOPE, Meaning, differences, meaning
from rag_migration_pipeline_tests.fidelity.strategies import Generated, generated_collections
from rag_migration_pipeline_tests.matrix.places import Place, fresh_name, move

RECORDS = 30
"""Records per pair of stores at `--scale 1`; ten times that in `make test-full`."""
MAX_RECORDS = 100
"""Records per collection; more of them are more collections."""

STORES = ("memory", "chroma", "qdrant", "milvus")
SERVER = [pytest.mark.server]
SLOW = [*SERVER, pytest.mark.slow]
SETS = [
    *(pytest.param("embedded_stores", store, id=f"embedded-{store}") for store in STORES),
    *(
        pytest.param("server_stores", store, id=f"servers-{store}", marks=marks)
        for store, marks in (("memory", SLOW), ("chroma", SLOW), ("qdrant", SLOW), ("milvus", SERVER))
    ),
    *(pytest.param("local_stores", store, id=f"local-{store}", marks=pytest.mark.slow) for store in STORES[:3]),
]
_numbers = itertools.count(1)


def run_generated(
    check: Callable[[Generated], None], source: st.SearchStrategy[Generated], examples: int, config: pytest.Config
) -> None:
    """Run a check on that many generated collections: the same ones each time, or by the seed on the command line."""
    is_seeded = config.getoption("--hypothesis-seed") is not None
    is_first = True
    settings = hypothesis.settings(
        max_examples=examples + 1,
        derandomize=not is_seeded,
        database=None,
        deadline=None,
        verbosity=hypothesis.Verbosity.quiet,  # or it prints all records
        phases=(hypothesis.Phase.generate,),  # a collection is too slow to be shrunk, and the message names the records
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    @settings
    @hypothesis.given(source)
    def generated(collection: Generated) -> None:
        nonlocal is_first
        if not is_first:  # the first one is always the simplest of all
            check(collection)
        is_first = False

    generated()


def held(place: Place, collection: str) -> Meaning:
    """Return what lies in a collection, read through the back door."""
    fields = {field.name for field in place.store.describe(collection).spec.fields}
    return meaning(place.door.raw_read(collection), has_field=ENVELOPE in fields)


@contextmanager
def made(home: Place, collection: Generated) -> Iterator[str]:
    """Make and fill a collection through the back door; its name."""
    name = fresh_name()
    home.door.raw_create(replace(collection.spec, name=name))
    try:
        home.door.raw_write(name, collection.records)
        yield name
    finally:
        home.store.drop(name)


@contextmanager
def moved(source: Place, collection: str, target: Place, folder: Path) -> Iterator[tuple[str, Meaning]]:
    """Migrate a collection by the real steps; its new name and what lies there. It is dropped at the end."""
    into, report = move(source, collection, target, folder / str(next(_numbers)))
    try:
        assert report.is_proven
        yield into, held(target, into)
    finally:
        target.store.drop(into)


def assert_comes_home(home: Place, origin: str, expected: Meaning, route: Sequence[Place], folder: Path) -> None:
    """Move a collection along a route and home; each store must hold the same records."""
    if not route:
        return
    label = "-".join(place.store.capabilities.store for place in (home, *route, home))
    metric = home.store.describe(origin).spec.vectors[0].metric
    lacking = [place for place in route if metric not in place.store.capabilities.metrics]
    if lacking:
        with pytest.raises(SchemaCompatibilityError, match=f"metric {metric}"), moved(home, origin, lacking[0], folder):
            pass
        return
    metadata = home.store.describe(origin).spec.metadata
    with _along(home, origin, expected, [*route, home], folder, label) as last:
        home.store.forget_spec(last)
        assert home.store.describe(last).spec.metadata == metadata, label
    assert differences(expected, held(home, origin)) == [], f"{label}: the source was changed"


@contextmanager
def _along(
    source: Place, collection: str, expected: Meaning, route: Sequence[Place], folder: Path, label: str
) -> Iterator[str]:
    with moved(source, collection, route[0], folder) as (into, found):
        assert differences(expected, found) == [], f"{label}: in {route[0].settings.address}"
        if len(route) == 1:
            yield into
            return
        with _along(route[0], into, expected, route[1:], folder, label) as last:
            yield last


def _examples(scale: float) -> tuple[int, int]:
    """Return how many collections of how many records."""
    total = max(1, round(RECORDS * scale))
    examples = -(-total // MAX_RECORDS)
    return examples, -(-total // examples)


def _source(home: Place, store: str, count: int) -> st.SearchStrategy[Generated]:
    return generated_collections(store, home.store.capabilities, count)


@pytest.mark.fuzz
@pytest.mark.parametrize(("stores", "store"), SETS)
def test_every_generated_record_comes_home_from_every_other_store(
    stores: str, store: str, request: pytest.FixtureRequest, scale: float, tmp_path: Path
) -> None:
    places: dict[str, Place] = request.getfixturevalue(stores)
    home = places[store]
    others = [place for name, place in places.items() if name != store]
    examples, count = _examples(scale)

    def check(collection: Generated) -> None:
        with made(home, collection) as origin:
            expected = held(home, origin)
            assert len(expected) == len(collection.records)
            # Servers wait for their indexes most of the time; engines in this process have one user.
            with ThreadPoolExecutor(len(others) if stores == "server_stores" else 1) as pool:
                trips = [pool.submit(assert_comes_home, home, origin, expected, [other], tmp_path) for other in others]
                for trip in trips:
                    trip.result()

    run_generated(check, _source(home, store, count), examples, request.config)


ROUTES = [(a, b, c) for a in STORES for b in STORES for c in STORES if len({a, b, c}) == len((a, b, c))]


@pytest.mark.fuzz
@pytest.mark.parametrize("store", STORES)
def test_every_generated_record_comes_home_over_two_other_stores(
    store: str, request: pytest.FixtureRequest, scale: float, tmp_path: Path
) -> None:
    """One route of each store in `make test`, all of them in `make test-full`."""
    places: dict[str, Place] = request.getfixturevalue("embedded_stores")
    home = places[store]
    routes: list[Any] = [route for route in ROUTES if route[0] == store]
    if scale <= 1:
        routes = routes[STORES.index(store) :][:1]
    examples, count = _examples(scale)

    def check(collection: Generated) -> None:
        with made(home, collection) as origin:
            expected = held(home, origin)
            for _, first, second in routes:
                assert_comes_home(home, origin, expected, [places[first], places[second]], tmp_path)

    run_generated(check, _source(home, store, count), examples, request.config)
