"""Files on an object store: there completely or not at all, read in pieces, and errors that say what to do."""

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec.config
import numpy as np
import pytest
from fsspec.registry import _registry

from rag_migration_pipeline.arrow import read_batches, write_batches
from rag_migration_pipeline.errors import MigrationError, SpecError, StagingError, StagingUnavailableError
from rag_migration_pipeline.records import DenseColumn, RecordBatch
from rag_migration_pipeline.remote_errors import without_secrets
from rag_migration_pipeline.remote_files import BLOCK_BYTES, RemotePath, location_of
from rag_migration_pipeline.sightings import Watch, read_sightings, write_sightings
from rag_migration_pipeline.state import StateFolder, default_staging, state_folder
from rag_migration_pipeline.state_files import write_atomically
from rag_migration_pipeline_tests.servers.s3 import KEY, SECRET, S3Server, use

KEYS = ("aaaaaa_000000", "aaaaaa_000001", "bbbbbb_000000")


def path_of(text: str) -> RemotePath:
    found = location_of(text)
    assert isinstance(found, RemotePath)
    return found


def batch_of(rows: int, dimension: int = 8, start: int = 0) -> RecordBatch:
    numbers = range(start, start + rows)
    values = np.arange(rows * dimension, dtype=np.float32).reshape(rows, dimension) + start
    return RecordBatch([f"r{n}" for n in numbers], {"": DenseColumn(values)}, [{"n": n} for n in numbers])


def test_what_is_written_is_read_and_removed(s3: S3Server) -> None:
    path = path_of("s3://files/a prefix/of % and +") / "x.json"
    assert not path.exists()
    write_atomically(path, lambda place: place.write_bytes(b"new"))
    assert (path.exists(), path.size(), path.read_bytes()) == (True, 3, b"new")
    assert s3.keys("files") == ["a prefix/of % and +/x.json"]
    path.unlink()
    assert s3.keys("files") == []
    path.unlink(missing_ok=True)
    with pytest.raises(StagingError, match="not there"):
        path.read_bytes()


def test_what_another_process_does_is_seen_at_once(s3: S3Server) -> None:
    folder = path_of("s3://files/shared")
    (folder / "x").write_bytes(b"1")
    assert [path.name for path in folder.children()] == ["x"]
    s3.client().delete_object(Bucket="files", Key="shared/x")
    s3.client().put_object(Bucket="files", Key="shared/y/z", Body=b"2")
    assert not (folder / "x").exists()
    assert [path.name for path in folder.children()] == ["y"]


def test_batches_of_many_parts_are_read_back(s3: S3Server) -> None:
    path = path_of("s3://files/x.arrow")
    batches = [batch_of(2_000, 1_000, start) for start in range(0, 8_000, 2_000)]  # 8 MB each
    assert write_batches(path, batches) == 8_000
    assert len([key for method, key in s3.requests if method == "PUT" and "partNumber" in key]) >= 3
    for given, found in zip(batches, read_batches(path), strict=True):
        assert found.ids == given.ids
        assert found.payloads == given.payloads
        np.testing.assert_array_equal(found.vectors[""].values, given.vectors[""].values)  # type: ignore[union-attr]


_PEAK = """
import sys, tracemalloc
import numpy as np
from rag_migration_pipeline.arrow import read_batches, write_batches
from rag_migration_pipeline.records import DenseColumn, RecordBatch
from rag_migration_pipeline.remote_files import location_of

def batches(count):
    for _ in range(count):
        yield RecordBatch([*range(500)], {"": DenseColumn(np.ones((500, 1000), dtype="f4"))}, [{}] * 500)

path = location_of("s3://files/x.arrow")
write_batches(path, batches(1))  # imports
for count in (10, 50):
    tracemalloc.start()
    write_batches(path, batches(count))
    written = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    assert sum(map(len, read_batches(path))) == 500 * count
    print(path.size(), written, tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
"""


def test_memory_does_not_grow_with_the_file(s3: S3Server) -> None:
    """Of a process of its own: moto keeps in memory what it is sent."""
    done = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    small, large = ([int(number) for number in line.split()] for line in done.stdout.splitlines())
    assert large[0] > 12 * BLOCK_BYTES
    for step in (1, 2):
        assert large[step] < 5 * BLOCK_BYTES
        assert large[step] < 1.2 * small[step]


def test_files_without_records_are_files_too(s3: S3Server) -> None:
    path = path_of("s3://files/x.arrow")
    assert write_batches(path, []) == 0
    assert path.exists()
    assert list(read_batches(path)) == []


def test_sightings_travel(s3: S3Server) -> None:
    path, watch = path_of("s3://files/sightings.arrow"), Watch()
    assert read_sightings(path) is None
    watch.see(batch_of(5), batch_of(5).ids)
    write_sightings(path, watch.sightings())
    found = read_sightings(path)
    assert found is not None
    assert (list(found.ids), found.contents) == (list(batch_of(5).ids), watch.sightings().contents)


@pytest.mark.parametrize("rows", [3, 4_000], ids=["one part", "several parts"])
@pytest.mark.parametrize("error", [ZeroDivisionError("x"), SpecError("x"), KeyboardInterrupt()], ids=repr)
def test_a_failing_writer_leaves_what_was_there(s3: S3Server, rows: int, error: BaseException) -> None:
    path = path_of("s3://files/x.arrow")
    path.write_bytes(b"old")

    def batches() -> Iterator[RecordBatch]:
        yield batch_of(rows, 1_000)
        raise error

    with pytest.raises(type(error)) as caught:
        write_batches(path, batches())
    assert caught.value is error
    del caught
    assert path.read_bytes() == b"old"
    assert s3.uploads("files") == []


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("AccessDenied", StagingError, "access is refused"),
        pytest.param(
            "SlowDown", StagingUnavailableError, "does not answer in time, or asks for fewer", marks=pytest.mark.slow
        ),
        ("InternalError", StagingUnavailableError, "does not answer in time, or asks for fewer"),
    ],
)
def test_what_the_store_answers_becomes_ours(s3: S3Server, code: str, kind: type[MigrationError], said: str) -> None:
    path = path_of("s3://files/x.arrow")
    write_batches(path, [batch_of(3)])
    uses: dict[str, Callable[[], Any]] = {
        "PUT": lambda: write_batches(path, [batch_of(3)]),
        "POST": lambda: write_batches(path, [batch_of(4_000, 1_000)]),
        "GET": lambda: list(read_batches(path)),
        "HEAD": path.exists,
    }
    for method, action in uses.items():
        s3.be_faulty(code, method)
        with pytest.raises(kind) as caught:
            action()
        assert type(caught.value) is kind, method
        assert "s3://files/x.arrow" in caught.value.what
        assert said in caught.value.what
        assert caught.value.todo
    s3.be_well()
    assert len(list(read_batches(path))) == 1, "what was there is there"


def test_a_bucket_that_is_not_there_is_told(s3: S3Server) -> None:
    with pytest.raises(StagingError, match="there is no bucket nobodys") as caught:
        write_batches(path_of("s3://nobodys/x.arrow"), [batch_of(3)])
    assert "RAG_MIGRATE_STAGING" in caught.value.todo
    assert not path_of("s3://nobodys/x.arrow").exists()
    assert path_of("s3://nobodys/x").children() == []


def test_an_endpoint_where_nobody_is_is_told(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with S3Server() as gone:
        url = gone.url
    use(url, monkeypatch)
    with pytest.raises(StagingError, match="nobody answers there") as caught:
        path_of("s3://files/x").exists()
    assert "AWS_ENDPOINT_URL_S3" in caught.value.todo


def test_a_store_that_does_not_answer_is_waited_for_and_may_be_tried_again(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 0.1}})
    use(s3.url, monkeypatch)
    go_on = threading.Event()
    s3.fault = lambda _method, _path: None if go_on.wait(10) else "SlowDown"
    with pytest.raises(StagingUnavailableError, match="does not answer in time"):
        path_of("s3://files/x").exists()
    go_on.set()


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(s3: S3Server) -> None:
    path = path_of("s3://files/x.arrow")
    large = [batch_of(2_000, 1_000, start) for start in range(0, 8_000, 2_000)]
    write_batches(path, large)
    reading = read_batches(path)
    next(reading)
    write_batches(path, [batch_of(3_000, 1_000), *large])
    with pytest.raises(StagingUnavailableError):
        list(reading)


def test_missing_keys_are_told(s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StagingError, match="access is refused"):
        path_of("s3://files/x").exists()


@pytest.mark.parametrize(
    ("driver", "url", "extra"),
    [("s3fs", "s3://files/x", "s3"), ("gcsfs", "gs://files/x", "gcs"), ("adlfs", "abfs://files/x", "azure")],
)
def test_a_missing_driver_names_its_extra(driver: str, url: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, driver, None)
    monkeypatch.delitem(_registry, url.partition(":")[0], raising=False)
    with pytest.raises(StagingError) as caught:
        path_of(url).exists()
    assert f"pip install 'rag_migration_pipeline[{extra}]'" in caught.value.todo


@pytest.mark.parametrize(
    "text", ["ftp://host/x", "s33://bucket", "s3://", "s3:/bucket/x", "file://host/x", "memory://x"]
)
def test_places_that_there_are_not_are_refused(text: str) -> None:
    with pytest.raises(StagingError, match=r"s3://bucket/prefix") as caught:
        location_of(text)
    assert text in caught.value.what


@pytest.mark.parametrize("text", [f"s3://{KEY}:{SECRET}@files/x", f"s3://files/x?secret={SECRET}"])
def test_a_secret_in_the_url_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(StagingError, match="environment") as caught:
        location_of(text)
    assert SECRET not in str(caught.value)


def test_secrets_of_the_environment_are_taken_out_of_drivers_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    text = f"no {SECRET} at http://u:pass@host:1/x?X-Amz-Signature=abc and 'https://h/c?sig=1&se=2'"
    assert without_secrets(text) == "no *** at http://***@host:1/x?*** and 'https://h/c?***'"


def test_folders_are_paths_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert location_of(str(tmp_path)) == location_of(f"file://{tmp_path}") == tmp_path
    assert location_of("here") == Path("here").absolute()
    monkeypatch.setenv("RAG_MIGRATE_STAGING", "")
    assert default_staging() is None
    assert state_folder(tmp_path, "i").staging("k") == tmp_path / "i" / "staging" / "k"
    monkeypatch.setenv("RAG_MIGRATE_STAGING", "s3://files/p/")
    assert str(state_folder(tmp_path, "i").staging("k")) == "s3://files/p/i/k"


def test_a_remote_path_pickles() -> None:
    path = path_of("s3://files/x")
    assert pickle.loads(pickle.dumps(path)) == path


def staged(folder: StateFolder) -> StateFolder:
    for key in KEYS:
        write_atomically(folder.staging(key) / "x", lambda path: path.write_bytes(b"1") and None)
    write_atomically(folder.manifest, lambda path: path.write_bytes(b"1") and None)
    return folder


@pytest.mark.parametrize("place", ["s3://files/p", "folder"])
def test_leftovers_are_removed_as_beside_the_state(s3: S3Server, tmp_path: Path, place: str) -> None:
    where = location_of(place if "://" in place else str(tmp_path / place))

    def left() -> set[str]:
        if isinstance(where, Path):
            return {str(path.relative_to(where)) for path in where.rglob("x")}
        return {key.removeprefix("p/") for key in s3.keys("files")}

    mine, other = (staged(state_folder(tmp_path / "state", name, where)) for name in ("m", "o"))
    others = {f"o/{key}/x" for key in KEYS}
    mine.clear_left_staging({KEYS[0]})
    mine.clear_left_staging({KEYS[0]})
    mine.clear_staging(KEYS[0])
    assert left() == {f"m/{key}/x" for key in KEYS[1:]} | others
    mine.remove_other_plans("aaaaaa", 0)
    assert left() == {f"m/{KEYS[1]}/x"} | others
    mine.remove()
    assert left() == others
    assert (mine.root.exists(), other.root.exists()) == (False, True)


def test_what_cannot_be_removed_fails_no_proof_but_the_purge(
    s3: S3Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = staged(state_folder(tmp_path, "m", path_of("s3://files/p")))
    s3.be_faulty("AccessDenied", "POST", "DELETE")
    folder.clear_staging(KEYS[0])
    folder.remove_other_plans("aaaaaa", 0)
    assert "access is refused" in caplog.text
    with pytest.raises(StagingError, match="access is refused"):
        folder.remove()
    assert folder.manifest.exists(), "the next purge comes to it again"
