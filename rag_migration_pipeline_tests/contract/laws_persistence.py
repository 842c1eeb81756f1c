"""Laws of embedded folders and of servers: what concerns only stores that outlive the process or can vanish."""

import hashlib
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline.errors import (
    CollectionNotFoundError,
    StoreLockedError,
    StoreUnavailableError,
    TryAgainError,
)
from rag_migration_pipeline.records import CollectionSpec, RecordBatch
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.stores.registry import open_source
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.comparison import assert_same_records
from rag_migration_pipeline_tests.contract.elsewhere import read_elsewhere
from rag_migration_pipeline_tests.contract.form import StoreForm
from rag_migration_pipeline_tests.contract.laws_errors import OPERATIONS
from rag_migration_pipeline_tests.contract.proxy import CuttableProxy
from rag_migration_pipeline_tests.contract.support import error_of, joined, operations, scanned
from rag_migration_pipeline_tests.servers.process import free_port


def folder_dump(folder: Path) -> dict[str, str]:
    """Return every path below a folder with what it is and a digest of its content."""
    dump = {}
    for path in sorted(folder.rglob("*")):
        is_file = path.is_file() and not path.is_symlink()
        content = hashlib.blake2b(path.read_bytes()).hexdigest() if is_file else "folder"
        dump[str(path.relative_to(folder))] = content
    return dump


class FolderTouchedError(AssertionError):
    """A file of a source folder is not what it was before the reading."""


class EmbeddedLaws(StoreForm):
    """A folder has one process at a time, keeps what was written, and is not touched by readers."""

    def test_a_missing_folder_stays_missing(self, tmp_path: Path) -> None:
        """A source folder that does not exist is an error that names it, and is not created, nor are its parents."""
        settings = self.settings_in(tmp_path / "not" / "there")
        for opened in (lambda: settings.open(create=False), lambda: open_source(settings)):
            error = error_of(opened, CollectionNotFoundError, "open a missing folder")
            assert str(tmp_path / "not" / "there") in str(error)
            assert error.todo
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_no_database_stays_as_it_is(self, tmp_path: Path) -> None:
        """A source folder that holds something else is an error, and nothing is put into it."""
        settings = self.settings_in(tmp_path / "other")
        (tmp_path / "other").mkdir()
        error_of(lambda: settings.open(create=False), CollectionNotFoundError, "open an empty folder")
        (tmp_path / "other" / "notes.txt").write_text("mine")
        before = folder_dump(tmp_path)
        error_of(lambda: settings.open(create=False), CollectionNotFoundError, "open a folder of notes")
        assert folder_dump(tmp_path) == before

    def test_a_source_folder_is_the_same_before_and_after_reading(
        self, tmp_path: Path, capabilities: Capabilities
    ) -> None:
        """Every file of a source folder is the same, byte for byte, after everything in it was read."""
        settings, spec, records = self._filled_folder(tmp_path, capabilities)
        before = folder_dump(tmp_path)
        with open_source(settings) as source:
            assert source.list_collections() == [spec.name]
            assert source.describe(spec.name).count == len(records)
            assert_same_records(records, scanned(source, spec), spec, capabilities)
            assert_same_records(records, source.fetch(spec.name, records.ids), spec, capabilities)
        after = folder_dump(tmp_path)
        changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        if changed:
            raise FolderTouchedError(f"reading touched {sorted(changed)}")

    def test_what_is_written_outlives_the_store(self, tmp_path: Path, capabilities: Capabilities) -> None:
        """A folder that was closed opens again, here and in another process, with all records."""
        settings, spec, records = self._filled_folder(tmp_path, capabilities)
        with settings.open(create=False) as again:
            assert_same_records(records, scanned(again, spec), spec, capabilities)
        batches, count, address = read_elsewhere(settings, spec.name)
        assert count == len(records)
        assert address == settings.address
        assert_same_records(records, joined(iter(batches), spec), spec, capabilities)

    def test_a_folder_has_one_process_at_a_time(self, tmp_path: Path, capabilities: Capabilities) -> None:
        """While a folder is open another process is told who has it; after the last close it gets in."""
        settings, spec, records = self._filled_folder(tmp_path, capabilities)
        first = settings.open(create=False)
        second = settings.open(create=False)
        first.close()
        error = read_elsewhere(settings, spec.name)
        assert isinstance(error, StoreLockedError)
        assert str(os.getpid()) in str(error)
        assert str(settings.address).rpartition("://")[2].split("?")[0] in str(error)
        assert second.count(spec.name) == len(records)
        second.close()
        assert read_elsewhere(settings, spec.name)[1] == len(records)

    def test_a_target_folder_is_created(self, tmp_path: Path) -> None:
        """Opening a target creates its folder, with parents, and it starts without collections."""
        settings = self.settings_in(tmp_path / "new" / "folder")
        with settings.open(create=True) as store:
            assert store.list_collections() == []
        with settings.open(create=True) as store:
            assert store.list_collections() == []

    def test_folders_are_the_same_by_any_path(self, tmp_path: Path, capabilities: Capabilities) -> None:
        """A folder reached through a symbolic link is the same store, with the same address."""
        settings, spec, records = self._filled_folder(tmp_path / "real", capabilities)
        (tmp_path / "link").symlink_to(tmp_path / "real")
        through_link = self.settings_in(tmp_path / "link" / "store")
        assert through_link.address == settings.address
        with settings.open(create=False) as one, through_link.open(create=False) as other:
            one.delete(spec.name, records.ids[:1])
            assert other.count(spec.name) == len(records) - 1

    def _filled_folder(
        self, parent: Path, capabilities: Capabilities
    ) -> tuple[StoreSettings, CollectionSpec, RecordBatch]:
        settings = self.settings_in(parent / "store")
        spec = self.spec_of(capabilities)
        records = samples.ordinary(9, spec, capabilities)
        with settings.open(create=True) as store:
            store.create(spec)
            store.upsert(spec.name, records)
        return settings, spec, records


class ServerLaws(StoreForm):
    """A server may be away, and may go away."""

    def test_an_unreachable_server_is_named(self, settings: StoreSettings) -> None:
        """Opening a store where nothing listens says so, names the address, and that trying again may help."""
        away = self.settings_at(settings, "127.0.0.1", [free_port() for _ in self.ports_of(settings)])
        error = error_of(lambda: away.open(create=False), StoreUnavailableError, "open an unreachable server")
        assert away.address in str(error)
        assert error.todo

    def test_an_unknown_host_is_named(self, settings: StoreSettings) -> None:
        """Opening a store on a host that has no address says so and names the host."""
        away = self.settings_at(settings, "no-such-host.invalid", self.ports_of(settings))
        error = error_of(lambda: away.open(create=False), StoreUnavailableError, "open an unknown host")
        assert "no-such-host.invalid" in str(error)

    def test_what_is_written_is_read_by_another_process(
        self,
        settings: StoreSettings,
        store: VectorStore,
        filled: CollectionSpec,
        sample: RecordBatch,
        capabilities: Capabilities,
    ) -> None:
        """Settings that were pickled into another process open the same store there, while it is open here."""
        batches, count, address = read_elsewhere(settings, filled.name)
        assert (count, address) == (len(sample), store.address)
        assert_same_records(sample, joined(iter(batches), filled), filled, capabilities)

    @pytest.mark.parametrize("operation", ["list_collections", *OPERATIONS])
    def test_a_server_that_vanishes_may_be_tried_again(
        self, vanished: tuple[VectorStore, CollectionSpec], sample: RecordBatch, operation: str
    ) -> None:
        """When the connection breaks, every operation raises an error that says: try again."""
        store, spec = vanished
        calls: dict[str, Callable[[], Any]] = {
            "list_collections": store.list_collections,
            **operations(store, spec, sample),
        }
        error = error_of(calls[operation], TryAgainError, f"{operation} after the server went away")
        assert store.address in str(error)

    def test_an_error_of_a_vanished_server_keeps_its_cause(self, vanished: tuple[VectorStore, CollectionSpec]) -> None:
        """The driver's exception is kept as the cause, for the log."""
        store, spec = vanished
        with pytest.raises(TryAgainError) as caught:
            store.count(spec.name)
        assert caught.value.__cause__ is not None
        assert pickle.loads(pickle.dumps(caught.value)).what == caught.value.what

    @pytest.fixture(scope="class")
    @classmethod
    def vanished(cls, settings: StoreSettings, filled: CollectionSpec) -> Iterator[tuple[VectorStore, CollectionSpec]]:
        """A store whose server was there when it was opened and described, and is gone now."""
        proxies = [CuttableProxy(port) for port in cls.ports_of(settings)]
        try:
            store = cls.settings_at(settings, "127.0.0.1", [proxy.port for proxy in proxies]).open(create=False)
            try:
                store.spec(filled.name)
                for proxy in proxies:
                    proxy.cut()
                yield store, filled
            finally:
                store.close()
        finally:
            for proxy in proxies:
                proxy.cut()
