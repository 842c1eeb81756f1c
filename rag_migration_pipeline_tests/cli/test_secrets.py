"""A key reaches the server and nothing else: no output, no log, no file of the state, no list of processes."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline_tests.cli.running import COUNT, TIMEOUT_S, Place, fill
from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble

KEY = "do-not-show-me-7391"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    with QdrantDouble(tmp_path / "server", api_key=KEY) as double:
        yield double


def command_lines() -> str:
    """Return the command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:  # it has ended
            continue
    return "\n".join(found)


def without_server(text: str) -> str:
    """Return command lines without those of the double, which gets its key as an argument."""
    return "\n".join(line for line in text.splitlines() if "qdrant_double" not in line)


@pytest.mark.server
@pytest.mark.parametrize("form", ["environment", pytest.param("file", marks=pytest.mark.slow)])
def test_the_key_is_nowhere(place: Place, server: QdrantDouble, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    url = server.url.replace("http://", "qdrant://").rstrip("/")
    monkeypatch.setenv("QDRANT_API_KEY", KEY)
    fill(f"{url}/docs?api_key={KEY}")
    monkeypatch.delenv("QDRANT_API_KEY")
    key = place.file("key", KEY + "\n")
    variables = {"QDRANT_API_KEY": KEY} if form == "environment" else {"QDRANT_API_KEY_FILE": key}
    pair = ("--source", f"{url}/docs", "--target", f"{url}/copy")
    workers = ("--parallel", "--workers", "2", "--worker-type", "process")
    sizes = ("--range-count", "5", "--log-format", "json", "--log-level", "debug", "--output", "json")
    process = place.start(*pair, *workers, *sizes, **variables)
    seen = []
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while process.poll() is None and time.monotonic() < deadline:
            seen.append(without_server(command_lines()))
            time.sleep(0.1)
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert any("multiprocessing" in lines for lines in seen), "the workers were looked at"
    assert all(KEY not in lines for lines in seen)
    assert f'"vectors_migrated": {COUNT}' in out
    assert KEY not in out + err
    refused = place.run(*pair, "--conflict", "overwrite", QDRANT_API_KEY=KEY + "-wrong")
    assert (refused.code, KEY in refused.out + refused.err) == (1, False), refused.err
    written = [path for path in place.root.rglob("*") if path.is_file() and path != Path(key)]
    assert {"ledger.json", "report.json", "report.html"} <= {path.name for path in written}
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []
