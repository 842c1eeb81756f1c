"""What is promised of files on S3 (``test_remote_files.py``) holds on Google Cloud Storage and Azure Blob as well."""

import importlib.util
from collections.abc import Callable, Iterator

import fsspec
import numpy as np
import pytest

from rag_migration_pipeline.arrow import read_batches, write_batches
from rag_migration_pipeline.errors import StagingError
from rag_migration_pipeline.records import DenseColumn, RecordBatch
from rag_migration_pipeline.remote_files import BLOCK_BYTES, RemotePath, location_of
from rag_migration_pipeline_tests.servers.object_stores import AZURITE, BUCKET, AzureEmulator, GoogleEmulator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    # aiohttp's, of parts above 1 MiB, at the drivers, which send them as bytes; Python shows no warning of this kind.
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
]

ROWS = 2_000
NEEDED = {"gs": ("gcsfs", "gcp_storage_emulator"), "abfs": ("adlfs",)}


@pytest.fixture(scope="module", params=[GoogleEmulator, AzureEmulator], ids=["gs", "abfs"])
def emulator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    kind: type[GoogleEmulator | AzureEmulator] = request.param
    missing = [name for name in NEEDED[kind.protocol] if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; the extra dev brings them")
    if kind is AzureEmulator and AZURITE is None:
        pytest.skip("azurite-blob is not on the PATH: npm install --global azurite")
    with kind(tmp_path_factory.mktemp(kind.protocol)) as running:
        yield running


@pytest.fixture
def place(emulator: GoogleEmulator | AzureEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemotePath]:
    emulator.use(monkeypatch)
    fsspec.get_filesystem_class(emulator.protocol).clear_instance_cache()
    found = location_of(f"{emulator.protocol}://{BUCKET}/a prefix/of and +")
    assert isinstance(found, RemotePath)
    yield found
    found.remove_tree()


def batches(count: int) -> Iterator[RecordBatch]:
    """Yield batches of 8 MB each."""
    for start in range(0, count * ROWS, ROWS):
        values = np.full((ROWS, 1_000), start, dtype=np.float32)
        yield RecordBatch([f"r{start + n}" for n in range(ROWS)], {"": DenseColumn(values)}, [{"n": start}] * ROWS)


def test_what_is_written_is_read_replaced_and_removed(place: RemotePath) -> None:
    path = place / "x.json"
    assert (path.exists(), path.size(), place.children()) == (False, None, [])
    path.write_bytes(b"first")
    path.write_bytes(b"new")
    (place / "y").write_bytes(b"")
    (place / "below" / "z").write_bytes(b"1")
    assert (path.exists(), path.size(), path.read_bytes()) == (True, 3, b"new")
    assert (place / "y").read_bytes() == b""
    assert sorted(found.name for found in place.children()) == ["below", "x.json", "y"]
    path.unlink()
    assert not path.exists()
    path.unlink(missing_ok=True)
    place.remove_tree()
    assert place.children() == []
    place.remove_tree()


def test_batches_of_many_parts_are_read_back(place: RemotePath) -> None:
    path = place / "x.arrow"
    assert write_batches(path, batches(4)) == 4 * ROWS
    assert (path.size() or 0) > 3 * BLOCK_BYTES
    for given, found in zip(batches(4), read_batches(path), strict=True):
        assert found.ids == given.ids
        assert found.payloads == given.payloads
        np.testing.assert_array_equal(found.vectors[""].values, given.vectors[""].values)  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [0, 1, 3], ids=["nothing", "one part", "several parts"])
def test_a_failing_writer_leaves_what_was_there(place: RemotePath, count: int) -> None:
    path = place / "x.arrow"
    path.write_bytes(b"old")

    def failing() -> Iterator[RecordBatch]:
        yield from batches(count)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_batches(path, failing())
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (lambda place: (place / "x").read_bytes(), "it is not there"),
        (lambda place: (place / "x").unlink(), "it is not there"),
        (lambda place: RemotePath(place.protocol, "nobodys/x").write_bytes(b"1"), "there is no bucket nobodys"),
    ],
    ids=["read", "remove", "write"],
)
def test_what_is_missing_is_told(place: RemotePath, action: Callable[[RemotePath], object], said: str) -> None:
    with pytest.raises(StagingError, match=said) as caught:
        action(place)
    assert caught.value.todo
