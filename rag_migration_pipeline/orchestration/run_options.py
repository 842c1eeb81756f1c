"""Options of a launch: what one run does otherwise than the migration says, typed and described in the launchpad.

Belongs here: the options that may differ from run to run. Does not belong here: those that make another migration
(filter, mapping), which have state of their own (``spec.py``), what a narrowed run leaves (``steps/launching.py``).

The conflict policy belongs to a migration's identity and may differ all the same (docs/decisions/010): a launch with
another one works on the migration's own state.

They are a resource, because a resource's configuration reaches every op of a run, of a job as of an asset:

    resources: {docs_run: {config: {page_count: 500, max_attempts: 8}}}
"""

from typing import Any

import dagster as dg
from pydantic import Field, ValidationError

from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.filters import Filter, parse_filter
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.problems import spec_error


class RunOptions(dg.ConfigurableResource[Any]):
    """What this run does otherwise; what is left out stays as the migration says."""

    page_count: int | None = Field(default=None, description="Records per batch.")
    batch_bytes: int | None = Field(default=None, description="Largest batch, in bytes.")
    validation: str | None = Field(
        default=None, description="full (read every record back), counts, or none; only full proves anything."
    )
    max_rejected: str | None = Field(
        default=None, description="Records that may be set aside: a count such as 10, or a share such as 0.01."
    )
    max_deletes: str | None = Field(
        default=None, description="Records that a sync may delete: a count such as 10, or a share such as 0.5."
    )
    conflict: str | None = Field(
        default=None,
        description="overwrite, skip or fail: what becomes of ids that were in the target before the first write.",
    )
    only: str | None = Field(
        default=None,
        description="A filter such as year>=2024: this run carries only what it takes. The rest stays pending, and its "
        "ranges and the whole are not proven before a later run has carried it.",
    )
    max_attempts: int | None = Field(default=None, description="Attempts per step, the first included.")
    retry_delay_s: float | None = Field(default=None, description="Seconds before the second attempt.")
    retry_backoff: float | None = Field(default=None, description="By what the wait grows from attempt to attempt.")
    keep_staging: bool | None = Field(default=None, description="Keep staged files after their range is proven.")
    dry_run: bool = Field(
        default=False, description="Read, filter, map and check every record, write nothing, and say what would happen."
    )

    def applied_to(self, options: MigrationOptions) -> MigrationOptions:
        """Return the migration's options with those of this launch.

        Raises:
            SpecError: A value makes no sense; names it.
        """
        given = {name: getattr(self, name) for name in _SAME if getattr(self, name) is not None}
        given |= {name: _number(getattr(self, name)) for name in _BUDGETS if getattr(self, name) is not None}
        if self.validation is not None:
            given["validate_target"] = self.validation
        if not given and not self.dry_run:
            return options
        try:
            changed = MigrationOptions.model_validate({**given, "dry_run": self.dry_run})
        except ValidationError as error:
            raise spec_error(
                error, given, "the options of this launch are wrong", "Correct the run configuration."
            ) from error
        return options.model_copy(update={name: getattr(changed, name) for name in (*given, "dry_run")})

    def narrowing(self) -> Filter:
        """Return what this launch takes of the records to be carried; everything where it does not say.

        Raises:
            SpecError: The filter is wrong.
        """
        try:
            return parse_filter(self.only)
        except SpecError as error:
            raise SpecError(
                f"the option only of this launch is wrong: {error.what}",
                todo=error.todo or "See docs/filters.md for what a filter may say.",
            ) from error


_SAME = ("conflict", "page_count", "batch_bytes", "max_attempts", "retry_delay_s", "retry_backoff", "keep_staging")
_BUDGETS = ("max_rejected", "max_deletes")


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise SpecError(
            f"the options of this launch are wrong: expected a count or a share, got {text!r}.",
            todo="Write 10, or 0.01.",
        ) from None
