"""A tenth of all requests goes wrong in every way that networks and servers know; every record arrives all the same."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline import retries
from rag_migration_pipeline.engine import Engine
from rag_migration_pipeline.events import Event, RequestRepeated
from rag_migration_pipeline.logs import RunLog
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline_tests.engine.journeys import Station, chroma_station, fresh_name, qdrant_station
from rag_migration_pipeline_tests.kill.vendor import differences, make_records
from rag_migration_pipeline_tests.servers.faulty import KINDS, RETRY_AFTER_S, FaultyProxy

pytestmark = pytest.mark.server

COUNT, RANGE_COUNT, BATCH_COUNT = 600, 150, 12
SHARE = 0.1
CLIENT_TIMEOUT_S = 1.0
CAUSES = ("reset by peer", "RateLimitedError", "503", "StoreTimeoutError", "without sending complete message body")
EXPECTED = make_records(COUNT)
SOURCE = fresh_name("source")


@pytest.fixture
def proxies(chroma_server: Any, qdrant_double: Any) -> Iterator[dict[str, FaultyProxy]]:
    """A proxy in front of each server."""
    ports = {"chroma": chroma_server.port, "qdrant": qdrant_double.http_port}
    found = {
        name: FaultyProxy(port, SHARE, seed, 2 * CLIENT_TIMEOUT_S) for seed, (name, port) in enumerate(ports.items(), 3)
    }
    yield found
    for proxy in found.values():
        proxy.close()


@pytest.fixture
def stations(chroma_server: Any, qdrant_double: Any, proxies: dict[str, FaultyProxy]) -> dict[str, Station]:
    """The servers, reached through the proxies by the pipeline and past them by the tests."""
    reached: dict[str, Any] = {"timeout_s": CLIENT_TIMEOUT_S}
    return {
        "chroma": chroma_station(chroma_server, port=proxies["chroma"].port, **reached),
        "qdrant": qdrant_station(
            qdrant_double, port=proxies["qdrant"].port, grpc_port=None, prefer_grpc="false", **reached
        ),
    }


@pytest.mark.parametrize(
    ("first", "second"), [("chroma", "qdrant"), pytest.param("qdrant", "chroma", marks=pytest.mark.slow)]
)
def test_a_migration_over_broken_connections_is_complete_and_tells_of_every_repetition(
    stations: dict[str, Station],
    proxies: dict[str, FaultyProxy],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    first: str,
    second: str,
) -> None:
    source, target, name = stations[first], stations[second], fresh_name("target")
    collection = f"{SOURCE}_{first}"
    source.fill(collection, EXPECTED)
    options = MigrationOptions.model_validate(
        {
            "range_count": RANGE_COUNT,
            "page_count": BATCH_COUNT,
            "max_workers": 2,
            "max_attempts": 8,
            "conflict": "overwrite",
        }
    )
    migration = Migration("docs", source.settings, collection, target.settings, name, options)
    events: list[Event] = []
    log = RunLog("docs")

    def take(event: Event) -> None:
        log.take(event)
        events.append(event)

    with retries.test_mode(), caplog.at_level(logging.WARNING):
        outcome = Engine(migration, tmp_path, sink=take).run()
    assert outcome.errors == []
    assert outcome.is_done
    assert (outcome.migrated, outcome.failed) == (COUNT, 0)
    assert differences(EXPECTED, target.read(name)) == []
    assert differences(EXPECTED, source.read(collection)) == []

    hits = proxies[first].hits + proxies[second].hits
    assert set(hits) == set(KINDS), "every kind of fault was met"
    repeated = [event for event in events if isinstance(event, RequestRepeated)]
    broken = [*proxies[first].broken, *proxies[second].broken]
    assert len(repeated) > len(broken) / 2, "less than all: pages that are asked for at once are repeated at once"
    assert {event.address for event in repeated} == {source.settings.address, target.settings.address}
    told = {words for words in CAUSES for event in repeated if words in event.cause}
    assert len(told) >= len(CAUSES) - 1, told
    assert any(event.wait_s >= RETRY_AFTER_S for event in repeated), "a store is asked again when it said"
    assert sum("failed at attempt" in record.message for record in caplog.records) == len(repeated)
