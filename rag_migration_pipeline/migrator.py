"""The Python API: one object per pair of stores, a call per migration.

Belongs here: `VectorStoreMigrator`, what its arguments mean as options, and results made of outcomes. Does not belong
here: running (``engine.py``), the results' form (``models.py``), stores (``services.py``).
"""

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from pydantic import ValidationError as PydanticValidationError

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.models import MigrationEstimate, MigrationResult
from rag_migration_pipeline.options import Deletes, Detect, MigrationOptions, Validation
from rag_migration_pipeline.problems import spec_error
from rag_migration_pipeline.progress import OnProgress
from rag_migration_pipeline.running import (
    estimate_of_migration,
    plan_of_migration,
    replay_migration,
    rollback_migration,
    run_migration,
    verify_migration,
)
from rag_migration_pipeline.services import StoreService, store_at
from rag_migration_pipeline.spec import Migration, name_of
from rag_migration_pipeline.state import default_state_dir
from rag_migration_pipeline.steps.plan_view import MigrationPlan
from rag_migration_pipeline.steps.replay import ReplayReport
from rag_migration_pipeline.steps.rollback import RollbackReport
from rag_migration_pipeline.steps.verification import Verification
from rag_migration_pipeline.stores.base import StoreSettings

Store = StoreService | StoreSettings | str
"""A store as callers name it: from ``get_..._service``, settings, or a URL whose collection is not looked at."""


class VectorStoreMigrator:
    """Copies collections from one store to another, and proves that nothing was lost.

    May be used by several threads, for several collections at once.

    Attributes:
        source: The source store.
        target: The target store.
        validate: Whether every record is read back, where a call does not say otherwise.
        on_progress: Called with a `progress.MigrationProgress` after every batch and at the end.
        max_retries: Attempts per request, the first included.
        retry_delay: Seconds before the second attempt.
        retry_backoff: By what the wait grows from attempt to attempt.
        state_dir: Where migrations keep their state; ``RAG_MIGRATE_STATE_DIR`` or ``.rag_migrate`` by default.
    """

    def __init__(
        self,
        source: Store,
        target: Store,
        validate: bool = True,
        on_progress: OnProgress | None = None,
        max_retries: int = 3,
        retry_delay: float = 1.0,
        retry_backoff: float = 2.0,
        *,
        state_dir: str | Path | None = None,
        **options: Any,
    ) -> None:
        """Name both sides; nothing is opened yet.

        Args:
            source: The source store.
            target: The target store.
            validate: See the attributes; so for the next four.
            on_progress: What it raises stops a migration cleanly and is raised again.
            max_retries: ``max_retries=5, retry_delay=2.0, retry_backoff=2.0`` makes up to five attempts with waits of
                2, 4, 8 and 16 seconds.
            retry_delay: In seconds.
            retry_backoff: At least 1.
            state_dir: See the attributes.
            options: Options of every migration, as in docs/migrations.md: ``max_rejected``, ``accept_lossy``, ...

        Raises:
            SpecError: An option is unknown, wrong, or an argument of `migrate`, which every call gives anew.
        """
        self.source = _service(source)
        self.target = _service(target)
        self.validate = validate
        self.on_progress = on_progress
        self.max_retries = max_retries
        self.retry_delay = retry_delay
        self.retry_backoff = retry_backoff
        self.state_dir = Path(state_dir) if state_dir is not None else default_state_dir()
        self._options = _named(options)
        arguments = _named(signature(self.migrate).parameters)
        of_calls = [name for name in options if _NAMES.get(name, name) in arguments]
        if of_calls:
            what = f"what every call of migrate gives anew cannot be set for all of them: {', '.join(of_calls)}."
            raise SpecError(what, todo="Give it to the call.")
        self._checked({})  # a wrong option is told at once

    def migrate(  # noqa: PLR0913, PLR0917 - the signature that users know
        self,
        source_collection: str,
        target_collection: str | None = None,
        batch_size: int = 1000,
        validate: bool | None = None,
        filter: Mapping[str, Any] | str | None = None,  # noqa: A002 - the name that users know
        dry_run: bool = False,
        incremental: bool = False,
        resume: bool = False,
        checkpoint_file: str | Path | None = None,
        conflict: str | None = "overwrite",
        schema_mapping: Mapping[str, Any] | None = None,
        parallel: bool = False,
        max_workers: int | None = None,
        worker_type: str = "thread",
        *,
        detect: str = Detect.PAYLOAD,
        deletes: str = Deletes.KEEP,
        on_progress: OnProgress | None = None,
        **options: Any,
    ) -> MigrationResult:
        """Carry a collection from the source to the target.

        Args:
            source_collection: Its name in the source.
            target_collection: Its name in the target; None takes the same.
            batch_size: Records per batch.
            validate: Whether every record is read back; None takes the migrator's.
            filter: Which records to take (docs/filters.md); None takes all.
            dry_run: Read, filter, map and check every record, and write nothing.
            incremental: Carry only what is new or changed since the last completed run.
            resume: Go on with an interrupted run; what is done stays done.
            checkpoint_file: Where the ledger is kept; None takes the migration's state folder.
            conflict: What happens to ids that others have in the target: ``overwrite``, ``skip`` or ``fail``.
            schema_mapping: How records change on their way (docs/mapping.md).
            parallel: Whether several ranges run at once.
            max_workers: How many; None takes what the stores allow and what was measured to help.
            worker_type: ``thread`` or ``process``.
            detect: How an incremental run finds out what changed: ``ids``, ``payload``, ``watermark`` or ``full``.
                Only ``full`` promises to see a change in a vector alone.
            deletes: What an incremental run does about records that the source lost: ``keep`` or ``mirror``.
            on_progress: In place of the migrator's.
            options: Further options, as in docs/migrations.md.

        Raises:
            CollectionNotFoundError: There is no such source collection.
            SchemaCompatibilityError: The plan cannot be applied; names everything that forbids it.
            ValidationError: The target contradicts what was written; carries ``report`` and ``result``.
            MigrationInterruptedError: It was stopped on request; ``resume=True`` goes on.
            MigrationError: A store is away after all attempts, or something else that ends a whole run.
        """
        migration = self._migration(
            source_collection,
            target_collection,
            {
                "batch_size": batch_size,
                "filter": filter,
                "conflict": conflict,
                "mapping": schema_mapping,
                "incremental": incremental,
                "resume": resume,
                "checkpoint_file": None if checkpoint_file is None else str(checkpoint_file),
                "parallel": parallel,
                "max_workers": max_workers,
                "worker_type": worker_type,
                "detect": detect,
                "deletes": deletes,
                "dry_run": dry_run,
                **_named(options),
            },
            validate,
        )
        return run_migration(migration, self.state_dir, on_progress=on_progress or self.on_progress)

    def estimate(
        self,
        collection_name: str,
        batch_size: int = 1000,
        filter: Mapping[str, Any] | str | None = None,  # noqa: A002 - the name that users know
        *,
        target_collection: str | None = None,
        probe_target: bool = False,
        **options: Any,
    ) -> MigrationEstimate:
        """Plan a migration, time a probe of it, and change nothing.

        Args:
            collection_name: The source collection.
            batch_size: Records per batch.
            filter: Which records to take.
            target_collection: Its name in the target; None takes the same.
            probe_target: Whether writes are timed as well: into a collection that is made for it and removed.
            options: Further options, as of `migrate`.

        Raises:
            CollectionNotFoundError: There is no such source collection.
            MigrationError: A store is away after all attempts.
        """
        values = {"batch_size": batch_size, "filter": filter, "conflict": "overwrite", **_named(options)}
        migration = self._migration(collection_name, target_collection, values, None)
        return estimate_of_migration(migration, self.state_dir, probe_target=probe_target)

    def plan(
        self,
        source_collection: str,
        target_collection: str | None = None,
        conflict: str | None = "overwrite",
        **options: Any,
    ) -> MigrationPlan:
        """Return what a migration would do, with a verdict on every field and feature; nothing is written.

        Args:
            source_collection: Its name in the source.
            target_collection: Its name in the target; None takes the same.
            conflict: See `migrate`.
            options: As of `migrate`.

        Raises:
            CollectionNotFoundError: There is no such source collection.
        """
        values = {"conflict": conflict, **_named(options)}
        migration = self._migration(source_collection, target_collection, values, None)
        return plan_of_migration(migration, self.state_dir)

    def verify(
        self,
        source_collection: str,
        target_collection: str | None = None,
        *,
        sample: int | None = None,
        **options: Any,
    ) -> Verification:
        """Compare two collections record by record, whoever copied them; both are opened read-only.

        Args:
            source_collection: Its name in the source.
            target_collection: Its name in the target; None takes the same.
            sample: Compares about that many records, spread evenly; None compares all.
            options: ``filter``, ``schema_mapping``, ``vectors`` and others, as of `migrate`.

        Raises:
            CollectionNotFoundError: One of them does not exist.
        """
        migration = self._migration(source_collection, target_collection, _named(options), None)
        return verify_migration(migration, sample=sample)

    def replay(
        self, path: str | Path, source_collection: str, target_collection: str | None = None, **options: Any
    ) -> ReplayReport:
        """Load a repaired quarantine file; run the migration with ``resume=True`` afterwards for the proof.

        Args:
            path: The file (docs/quarantine.md).
            source_collection: As the migration was called; so for the next two.
            target_collection: None takes the same name.
            options: Those that make another migration: ``filter``, ``schema_mapping``, ``conflict``, ...

        Raises:
            StagingError: It is no quarantine file.
            ManifestError: It is of another migration.
        """
        values = {"conflict": "overwrite", **_named(options)}
        migration = self._migration(source_collection, target_collection, values, None)
        return replay_migration(migration, self.state_dir, Path(path))

    def rollback(
        self, source_collection: str, target_collection: str | None = None, *, force: bool = False, **options: Any
    ) -> RollbackReport:
        """Take away what a migration made, and its state.

        Args:
            source_collection: As the migration was called; so for the next.
            target_collection: None takes the same name.
            force: Also where records of others would be lost (docs/quarantine.md).
            options: Those that make another migration: ``filter``, ``schema_mapping``, ``conflict``, ...

        Raises:
            ManifestError: There is no such migration.
            ConflictError: Something of others would be lost.
        """
        values = {"conflict": "overwrite", **_named(options)}
        migration = self._migration(source_collection, target_collection, values, None)
        return rollback_migration(migration, self.state_dir, force=force)

    def _migration(
        self, source: str, target: str | None, values: Mapping[str, Any], validate: bool | None
    ) -> Migration:
        options = self._checked({**values, **self._validation(validate)})
        return Migration(name_of(source), self.source.settings, source, self.target.settings, target or source, options)

    def _validation(self, validate: bool | None) -> dict[str, Any]:
        chosen = self.validate if validate is None else validate
        return {"validate": Validation.FULL if chosen else Validation.NONE}

    def _checked(self, values: Mapping[str, Any]) -> MigrationOptions:
        retry = {
            "max_attempts": self.max_retries,
            "retry_delay_s": self.retry_delay,
            "retry_backoff": self.retry_backoff,
        }
        given = {**retry, **self._options, **values}
        try:
            return MigrationOptions.model_validate(given)
        except PydanticValidationError as error:
            raise spec_error(error, given, "the migration's options are wrong", "See docs/migrations.md.") from error


def _service(store: Store) -> StoreService:
    if isinstance(store, StoreService):
        return store
    if isinstance(store, StoreSettings):
        return StoreService(store)
    if isinstance(store, str):
        return store_at(store)
    raise SpecError(
        f"a store is a {type(store).__name__}.",
        todo="Give what get_chromadb_service, get_qdrant_service or get_milvus_service return, or a URL.",
    )


def _named(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options under the names that the description of a migration has for them."""
    return {_NAMES.get(name, name): value for name, value in options.items()}


_NAMES = {
    "schema_mapping": "mapping",
    "page_count": "batch_size",
    "max_retries": "max_attempts",
    "retry_delay": "retry_delay_s",
}
