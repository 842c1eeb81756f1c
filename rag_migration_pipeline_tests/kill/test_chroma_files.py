"""A Chroma folder under load: its index files, which a kill in the wrong moment would destroy, stay as they were."""

from pathlib import Path

import pytest

from rag_migration_pipeline.stores.chroma import ChromaSettings
from rag_migration_pipeline.stores.chroma_index_files import DEFAULT_SYNC_THRESHOLD, HELD_SYNC_THRESHOLD
from rag_migration_pipeline_tests.kill.vendor import fill_chroma, make_records, read_chroma, read_chroma_settings
from rag_migration_pipeline_tests.orchestration.scene import records, spec_of

NAME = "texts"
COUNT = 1_500  # more than Chroma's default holds back


def threshold(folder: Path) -> int:
    """Return the sync threshold that the collection has now."""
    return int(read_chroma_settings(folder)["sync_threshold"])


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of every index file."""
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.glob("*/*.bin")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a collection, loaded and not finished."""
    with ChromaSettings(path=str(tmp_path / "data")).open(create=True) as store:
        store.create(spec_of(NAME))
        store.upsert(NAME, records(COUNT))
    return tmp_path / "data"


def test_no_index_file_is_written_while_records_are_loaded(folder: Path) -> None:
    assert files(folder)["link_lists.bin"][0] == 0
    assert threshold(folder) == HELD_SYNC_THRESHOLD
    assert len(read_chroma(folder)) == COUNT


def test_the_next_process_goes_on_holding_them_back_and_brings_the_default_back(folder: Path) -> None:
    with ChromaSettings(path=str(folder)).open(create=True) as store:
        store.upsert(NAME, records(COUNT, start=COUNT))
        assert files(folder)["link_lists.bin"][0] == 0
        store.finish_loading(NAME)
        assert store.count(NAME) == 2 * COUNT
    assert threshold(folder) == DEFAULT_SYNC_THRESHOLD
    assert len(read_chroma(folder)) == 2 * COUNT  # the opening that writes the files
    assert files(folder)["link_lists.bin"][0] > 0


def test_a_second_load_rewrites_no_file_of_the_first(folder: Path) -> None:
    with ChromaSettings(path=str(folder)).open(create=True) as store:
        store.finish_loading(NAME)
    assert len(read_chroma(folder)) == COUNT
    before = files(folder)
    with ChromaSettings(path=str(folder)).open(create=True) as store:
        store.upsert(NAME, records(COUNT, start=COUNT))
        assert len(store.fetch(NAME, ["r00001", f"r{2 * COUNT - 1:05d}"])) == 2
        assert files(folder) == before
        store.finish_loading(NAME)
    assert len(read_chroma(folder)) == 2 * COUNT


def test_a_threshold_that_the_user_set_comes_back(tmp_path: Path) -> None:
    fill_chroma(tmp_path / "data", make_records(3), settings={"sync_threshold": 7_000})
    with ChromaSettings(path=str(tmp_path / "data")).open(create=True) as store:
        batch = store.fetch(NAME, [next(iter(make_records(1)))])
        store.upsert(NAME, batch)
        store.finish_loading(NAME)
    assert threshold(tmp_path / "data") == 7_000


def test_finishing_twice_or_without_a_write_is_quiet(folder: Path) -> None:
    with ChromaSettings(path=str(folder)).open(create=True) as store:
        store.finish_loading(NAME)
        store.finish_loading(NAME)
    assert threshold(folder) == DEFAULT_SYNC_THRESHOLD
