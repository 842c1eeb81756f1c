"""Every error of the project, in one tree whose first axis is what to do next.

Belongs here: exception classes, their facts, their sentences. Does not belong here: the decision which driver error
becomes which of ours (each adapter has one place for that).

    MigrationError                        base of all; carries its facts and pickles
    ├── TryAgainError                     the same call may succeed later
    │   ├── StoreUnavailableError         unreachable, restarting, 5xx          (also ConnectionError)
    │   ├── StoreTimeoutError             no answer in time                     (also TimeoutError)
    │   ├── RateLimitedError              429 / resource exhausted; retry_after_s
    │   ├── StagingUnavailableError       the object store of staged files does not answer now (also ConnectionError)
    │   ├── MigrationLockedError          somebody else works on the migration
    │   └── DagsterUnavailableError       nobody answers where Dagster's webserver should (also ConnectionError)
    ├── StopError                         trying again cannot help; somebody must change something
    │   ├── CollectionNotFoundError                                             (also LookupError)
    │   ├── CollectionExistsError                                               (also ValueError)
    │   ├── AuthenticationError           wrong or missing credentials          (also PermissionError)
    │   ├── StoreLockedError              an embedded folder is in use by another process
    │   ├── StoreRequestError             the store refuses the request for good
    │   ├── ReadOnlyStoreError            a write through a source              (also PermissionError)
    │   ├── SpecError                     a setting, URL or filter is wrong     (also ValueError)
    │   ├── SchemaCompatibilityError      source and target do not fit          (also ValueError)
    │   ├── ConflictError                 ids of the plan are already in the target
    │   ├── SourceChangedError            the source is not what the manifest says
    │   ├── ManifestError                 state of another migration, or damaged (also ValueError)
    │   ├── StagingError                  staging or state cannot be written    (also OSError)
    │   └── DagsterRefusedError           Dagster's webserver refuses a request, or is none
    ├── MigrationInterruptedError         stopped on request; goes on with resume
    ├── RecordRejectedError               set this record aside; the rest can go on (also ValueError)
    └── ValidationError                   the target contradicts what the run claims; carries .report
"""

from typing import Any


class MigrationError(Exception):
    """Base of all errors of this project.

    Args:
        what: The sentence: what happened, where, expected against got. Never a secret, never a whole vector.
        todo: What the reader can do about it; appended to the sentence.
        **facts: Machine-readable facts, kept as attributes in ``facts``.
    """

    def __init__(self, what: str, *, todo: str = "", **facts: Any) -> None:
        self.what = what
        self.todo = todo
        self.facts = facts
        super().__init__(f"{what} {todo}".strip())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by keyword arguments, which the default protocol of exceptions cannot do."""
        return _rebuild, (type(self), self.what, self.todo, self.facts)


def _rebuild(cls: type[MigrationError], what: str, todo: str, facts: dict[str, Any]) -> MigrationError:
    return cls(what, todo=todo, **facts)


class TryAgainError(MigrationError):
    """The same call may succeed later: whoever owns the retries tries again."""


IS_INTERNAL = "is_internal"
"""Fact of a `StoreUnavailableError`: the store answered that it failed at the request (500, gRPC's INTERNAL)."""


class StoreUnavailableError(TryAgainError, ConnectionError):
    """The store cannot be reached, restarts, or answers 5xx."""

    @property
    def is_internal(self) -> bool:
        """Whether the store is there and failed at this request, for which a single record of it may be the reason."""
        return bool(self.facts.get(IS_INTERNAL, False))


class StoreTimeoutError(TryAgainError, TimeoutError):
    """The store did not answer in time."""


class RateLimitedError(TryAgainError):
    """The store asks for fewer requests (429, resource exhausted); ``facts['retry_after_s']`` may say when."""

    @property
    def retry_after_s(self) -> float | None:
        """Seconds the store asked us to wait, or None where it did not say."""
        value = self.facts.get("retry_after_s")
        return None if value is None else float(value)


class StagingUnavailableError(TryAgainError, ConnectionError):
    """The object store of the staged files does not answer in time, or asks for fewer requests."""


class MigrationLockedError(TryAgainError):
    """Somebody else works on the migration; ``facts['holders']`` says who, as text."""


class DagsterUnavailableError(TryAgainError, ConnectionError):
    """Nobody answers where Dagster's webserver should, or not in time."""


class StopError(MigrationError):
    """Trying again cannot help; somebody must change something first."""


class CollectionNotFoundError(StopError, LookupError):
    """The collection, or the embedded folder that should hold it, does not exist."""


class CollectionExistsError(StopError, ValueError):
    """A collection that should be created exists already."""


class AuthenticationError(StopError, PermissionError):
    """The store refuses the credentials, or asks for some."""


class StoreLockedError(StopError):
    """An embedded store's folder is in use; embedded folders have one user at a time."""


CONCERNS_ALL = "concerns_all"
"""Fact of a `StoreRequestError`: the reason is the store, the collection or the connection, never a single record."""


class StoreRequestError(StopError):
    """The store refuses the request for a reason that will not pass by itself."""

    @property
    def may_lie_in_a_record(self) -> bool:
        """Whether the same request without some of its records might be accepted."""
        return not self.facts.get(CONCERNS_ALL, False)


class ReadOnlyStoreError(StopError, PermissionError):
    """A write was tried through a store that was opened as a source."""


class SpecError(StopError, ValueError):
    """A setting, a URL or a filter is wrong."""


class SchemaCompatibilityError(StopError, ValueError):
    """Source and target do not fit: dimension, metric, id kind, vectors."""


class ConflictError(StopError):
    """Ids that the plan would write were in the target before the migration's first write."""


class SourceChangedError(StopError):
    """The source is not what the manifest recorded."""


class ManifestError(StopError, ValueError):
    """A manifest is missing, damaged, or belongs to another migration."""


class StagingError(StopError, OSError):
    """Staging or state cannot be written or read (disk full, permissions)."""

    def __str__(self) -> str:
        """Our sentence; OSError's own formatting would read the arguments as errno and strerror."""
        return f"{self.what} {self.todo}".strip()


class DagsterRefusedError(StopError):
    """Dagster's webserver refuses a request, has not what is asked for, or is none."""


class MigrationInterruptedError(MigrationError):
    """The migration was stopped on request, between two batches; what is done stays done, and a resumed run goes on."""


class RecordRejectedError(MigrationError, ValueError):
    """A record cannot be stored and is set aside by name; ``facts['rejections']`` lists them."""


class ValidationError(MigrationError):
    """The target contradicts what the run claims; ``report`` says how."""

    @property
    def report(self) -> Any:
        """The report whose findings contradict the claim, or None."""
        return self.facts.get("report")

    @property
    def result(self) -> Any:
        """What the Python API would have returned, a `models.MigrationResult`, or None."""
        return self.facts.get("result")
