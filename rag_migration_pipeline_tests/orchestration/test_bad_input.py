"""Bad input over real stores: the run fails and says what, where and what to do; the source stays as it was."""

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from qdrant_client import QdrantClient, models

from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.factory import migration_definitions
from rag_migration_pipeline.orchestration.resources import (
    ChromaResource,
    MemoryResource,
    QdrantResource,
    StateResource,
)
from rag_migration_pipeline.orchestration.runs import run_job
from rag_migration_pipeline_tests.kill.vendor import Plains, differences, fill_chroma, make_records, read_chroma
from rag_migration_pipeline_tests.orchestration.scene import failures
from rag_migration_pipeline_tests.servers.process import ReservedPort
from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble

COUNT = 40
COLLECTION = "texts"


class Place:
    """A migration from a Chroma folder of forty records."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.root = root
        self.instance = instance
        self.records: Plains = make_records(COUNT)
        self.source: Any = ChromaResource(path=str(root / "source"))
        self.target: Any = QdrantResource(path=str(root / "target"), engine="edge")
        self.state = root / "state"
        self.collection = COLLECTION

    def start(self) -> dg.ExecuteInProcessResult:
        """Run the migration."""
        options = MigrationOptions(range_count=10, retry_delay_s=0.001, max_attempts=2)
        declaration = MigrationDeclaration("bad", "source", self.collection, "target", COLLECTION, options)
        resources = {"source": self.source, "target": self.target, "state": StateResource(folder=str(self.state))}
        definitions = migration_definitions([declaration], resources)
        return run_job(definitions.resolve_job_def("bad__migrate"), self.instance)

    def run(self) -> dict[str, str]:
        """Run the migration, which must fail; returns what it says."""
        result = self.start()
        assert not result.success
        said = next(iter(failures(result).values()))
        assert said["error"]
        assert said["what"]
        assert said["what to do"]
        return said

    def assert_nothing_claimed(self, *, is_planned: bool = False) -> None:
        """Check that no range and no collection counts as done, and that the source is as it was."""
        assert not self.instance.get_materialized_partitions(dg.AssetKey(["bad", "loaded_ranges"]))
        assert self.instance.get_latest_materialization_event(dg.AssetKey(["bad", "target_collection"])) is None
        manifest = self.instance.get_latest_materialization_event(dg.AssetKey(["bad", "source_manifest"]))
        assert (manifest is not None) is is_planned
        assert differences(self.records, read_chroma(self.root / "source")) == []


@pytest.fixture
def place(tmp_path: Path, instance: dg.DagsterInstance) -> Place:
    """A filled source and an empty target."""
    made = Place(tmp_path, instance)
    fill_chroma(tmp_path / "source", made.records)
    return made


def files_of(folder: Path) -> dict[str, str]:
    """Return every file of a folder with the digest of its content."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_a_missing_source_folder_is_named_and_not_made(place: Place) -> None:
    missing = place.root / "nowhere"
    place.source = ChromaResource(path=str(missing))
    said = place.run()
    assert said["error"] == "CollectionNotFoundError"
    assert str(missing) in said["what"]
    assert not missing.exists()
    assert not (place.root / "target").exists()
    place.assert_nothing_claimed()


def test_a_missing_source_collection_is_named_beside_those_there_are(place: Place) -> None:
    place.collection = "novels"
    said = place.run()
    assert said["error"] == "CollectionNotFoundError"
    assert "novels" in said["what"]
    assert COLLECTION in said["what"]
    assert not (place.root / "target").exists()
    place.assert_nothing_claimed()


def test_a_target_that_is_the_source_is_refused(place: Place) -> None:
    before = files_of(place.root / "source")
    place.target = ChromaResource(path=str(place.root / "x" / ".." / "source"))
    (place.root / "x").mkdir()
    assert place.run()["error"] == "SpecError"
    assert files_of(place.root / "source") == before
    place.assert_nothing_claimed()


def test_a_host_that_nobody_answers_at_is_named(place: Place) -> None:
    with closing(ReservedPort()) as port:
        place.target = QdrantResource(host="127.0.0.1", port=port.number, timeout_s=2.0)
        said = place.run()
    assert said["error"] == "StoreUnavailableError"
    assert f"127.0.0.1:{port.number}" in said["what"]
    place.assert_nothing_claimed()


@pytest.fixture(scope="module")
def locked_double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantDouble]:
    """A Qdrant double that asks for a key."""
    with QdrantDouble(tmp_path_factory.mktemp("locked"), api_key="right-key") as server:
        yield server


@pytest.mark.parametrize("key", ["", "wrong-key"])
def test_wrong_credentials_are_told_without_showing_them(place: Place, locked_double: QdrantDouble, key: str) -> None:
    place.target = QdrantResource(host="127.0.0.1", port=locked_double.http_port, api_key=key)
    said = place.run()
    assert said["error"] == "AuthenticationError"
    assert str(locked_double.http_port) in said["what"]
    assert "wrong-key" not in str(said)
    place.assert_nothing_claimed()


def test_an_existing_target_of_another_dimension_is_refused_and_left_alone(
    place: Place, locked_double: QdrantDouble
) -> None:
    with pytest.warns(UserWarning, match="insecure"):
        client = QdrantClient(host="127.0.0.1", port=locked_double.http_port, api_key="right-key", https=False)
    with closing(client):
        client.create_collection(COLLECTION, models.VectorParams(size=5, distance=models.Distance.COSINE))
        place.target = QdrantResource(host="127.0.0.1", port=locked_double.http_port, api_key="right-key")
        said = place.run()
        assert said["error"] == "SchemaCompatibilityError"
        assert "expected dimension 8, the target has 5" in said["what"]
        assert client.count(COLLECTION, exact=True).count == 0
        client.delete_collection(COLLECTION)
    place.assert_nothing_claimed()


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Callable[[], None]]:
    """Make a folder a disk of its own, or, where nobody may mount one, limit the size of every file.

    Gives a function that makes the disk large enough.
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield lambda: subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True) and None
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_048, before[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_the_next_run_goes_on_when_there_is_space(place: Place) -> None:
    place.target = MemoryResource(name=f"full_{place.root.name}")  # a real target would meet a file size limit, too
    with small_disk(place.root / "small", 6 * os.sysconf("SC_PAGE_SIZE")) as grow:
        place.state = place.root / "small" / "state"
        said = place.run()
        assert said["error"] == "StagingError"
        assert str(place.state) in said["what"]
        assert "Free space" in said["what to do"]
        assert place.instance.get_latest_materialization_event(dg.AssetKey(["bad", "target_collection"])) is None
        grow()
        assert place.start().success
    assert differences(place.records, read_chroma(place.root / "source")) == []


def test_a_folder_that_another_process_uses_is_named_with_its_user(
    place: Place, hold_folder: Callable[[Path], int]
) -> None:
    process_id = hold_folder(place.root / "source")
    said = place.run()
    assert said["error"] == "StoreLockedError"
    assert f"process {process_id}" in said["what"]


@pytest.fixture
def hold_folder() -> Iterator[Callable[[Path], int]]:
    """Let another process hold the lock of a folder; returns its id."""
    held: list[subprocess.Popen[bytes]] = []

    def hold(folder: Path) -> int:
        program = (
            "import sys, time; from rag_migration_pipeline.stores.folder_lock import FolderLock; "
            "lock = FolderLock(sys.argv[1]); print('held', flush=True); time.sleep(120)"
        )
        process = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE)
        held.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        return process.pid

    yield hold
    for process in held:
        process.kill()
        process.communicate()
