"""The one-shot service `demo` of the compose file, against servers: real ones of Chroma and Milvus, Qdrant's double.

Belongs here: what `rag_migration_pipeline.demo.servers` does and says. Does not belong here: the demo in folders
(``demo/``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag_migration_pipeline.demo import servers
from rag_migration_pipeline_tests.contract.elsewhere import ROOT
from rag_migration_pipeline_tests.servers.chroma import ChromaServer
from rag_migration_pipeline_tests.servers.process import free_port


def command() -> list[str]:
    content = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    words: list[str] = content["services"]["demo"]["command"]
    return words


@pytest.mark.server
def test_the_collection_goes_round_the_three_servers_and_a_second_run_finds_it_done(
    qdrant_double: Any,
    milvus_lite_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAG_MIGRATE_STATE_DIR", str(tmp_path / "state"))
    # A Chroma of its own: 1.5.9 gives the records of a new collection list values of a deleted one.
    with ChromaServer(tmp_path / "chroma") as chroma:
        ports = {"chroma": chroma.port, "qdrant": qdrant_double.port, "milvus": milvus_lite_server.port}
        go_round_and_round(ports, capsys)


def go_round_and_round(ports: Mapping[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    places = [f"{word.partition(':')[0]}://127.0.0.1:{ports[word.partition(':')[0]]}" for word in command()[3:]]
    assert servers.main([*places, "--limit", "60"]) == 0
    first = capsys.readouterr().out
    assert first.count(": 60 records in this run, all proven: yes") == 3
    assert first.endswith("round trip: 60 of 60 records identical\n")
    assert servers.main([*places, "--limit", "60"]) == 0
    again = capsys.readouterr().out
    assert again.count(": 0 records in this run, all proven: yes") == 3
    assert again.endswith("round trip: 60 of 60 records identical\n")
    with servers.open_chroma(places[0]) as client:
        home = client.get_collection(servers.HOME, embedding_function=None)
        home.delete(ids=home.get(limit=1, include=[])["ids"])
        assert servers.main([*places, "--limit", "60"]) == 1, "a record that is gone is no success"
        assert "1 missing" in capsys.readouterr().out


def test_a_server_that_is_not_there_is_told_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert servers.main([f"chroma://127.0.0.1:{port}", "qdrant://127.0.0.1:1", "milvus://127.0.0.1:1"]) == 1
    assert str(port) in capsys.readouterr().out
