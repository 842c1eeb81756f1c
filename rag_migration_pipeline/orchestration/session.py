"""From an op's context to a migration's: stores opened once per run, errors said in Dagster's terms.

Belongs here: what every op does first and last. Does not belong here: what an op does in between (`ops`).
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from functools import partial
from typing import Any

import dagster as dg

from rag_migration_pipeline.collector import heap_set_aside
from rag_migration_pipeline.errors import MigrationError, StoreLockedError, TryAgainError
from rag_migration_pipeline.events import (
    BothSidesChanged,
    Event,
    FieldsDeprecated,
    ManifestMade,
    RangeProven,
    RecordsGone,
    RecordsRejected,
    RecordsSkipped,
    publish,
)
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.evaluations import log_what_failed
from rag_migration_pipeline.orchestration.facts import page_metadata
from rag_migration_pipeline.records import id_text
from rag_migration_pipeline.steps.context import MigrationContext, context_of, take_up
from rag_migration_pipeline.steps.manifest import open_manifest
from rag_migration_pipeline.steps.planning import make_manifest


class Planning(StrEnum):
    """Whether a step may make the manifest.

    Attributes:
        NEVER: There must be one.
        ONCE: Where there is none.
        IF_CHANGED: There as well, and where a finished migration's source has other ids now (`make_manifest`).
    """

    NEVER = "never"
    ONCE = "once"
    IF_CHANGED = "if changed"


ExecutionContext = dg.OpExecutionContext | dg.AssetExecutionContext | dg.AssetCheckExecutionContext


@contextmanager
def migration_context(
    context: ExecutionContext,
    declaration: MigrationDeclaration,
    *,
    plan: Planning = Planning.NEVER,
    alone: bool = False,
    as_found: bool = False,
) -> Iterator[MigrationContext]:
    """Give the migration's context for one op; errors of ours leave as Dagster failures.

    Args:
        context: The op's, asset's or check's execution context.
        declaration: The migration.
        plan: Whether a manifest may be made.
        alone: The step inside sees to it that nobody else works on the migration; other ops may run beside each other.
        as_found: Take both sides as they are, without comparing them with the plan: for whoever looks at that.
    """
    with dagster_failures(context, declaration), heap_set_aside():
        migration = _open(context, declaration, plan, as_found=as_found)
        with nullcontext() if alone else migration.state.in_use():
            yield migration


def _open(
    context: ExecutionContext, declaration: MigrationDeclaration, plan: Planning, *, as_found: bool
) -> MigrationContext:
    resources: Any = context.resources
    migration = declaration.migration(resources)
    state = declaration.state_folder(resources)
    is_planned = plan is Planning.IF_CHANGED or (plan is Planning.ONCE and not state.manifest.exists())
    if not is_planned:
        open_manifest(state, migration)  # before any store is touched
    source = getattr(resources, declaration.source).open_source()
    source.begin_reading()
    source.spec(migration.source_collection)  # a missing source is told before a target folder is made
    target = getattr(resources, declaration.target).open_target()
    emit = partial(_emit, context.log)
    manifest = make_manifest(migration, source, target, state, emit) if is_planned else open_manifest(state, migration)
    if not as_found:
        take_up(manifest, migration, source, target, state)
    return context_of(migration, manifest, state, source, target, emit)


def _emit(log: Any, event: Event) -> None:
    """Log what a person wants to read in a run, and publish everything.

    `BatchDone` is not logged: Dagster stores every message, which takes 12 ms on SQLite (1.13.27), and a range's
    metadata tell the seconds of its steps.
    """
    if isinstance(event, RecordsRejected):
        for rejection in event.rejections[:20]:
            log.error("rejected %r: %s", rejection.record_id, rejection.reason)
    elif isinstance(event, FieldsDeprecated):
        log.warning("deprecated fields, each with the records of a batch that have it: %s", dict(event.fields))
    elif isinstance(event, BothSidesChanged):
        shown = ", ".join(map(id_text, event.ids[:100]))
        log.warning("%d records changed on both sides; what is so in the source is taken: %s", len(event.ids), shown)
    elif isinstance(event, RecordsGone):
        shown = ", ".join(map(id_text, event.ids[:100]))
        log.warning("%d planned records are gone from the source, and left out: %s", len(event.ids), shown)
    elif isinstance(event, RecordsSkipped):
        log.info("%d records stay as the target had them", len(event.ids))
    elif isinstance(event, RangeProven | ManifestMade):
        log.info("%s", event)
    publish(event)


@contextmanager
def dagster_failures(context: ExecutionContext, declaration: MigrationDeclaration) -> Iterator[None]:
    """Turn our errors into Dagster failures with metadata; those that may pass are tried again, as the options say.

    The options of the launch count (`run_options.RunOptions`), which a policy on an op could not know.
    """
    try:
        yield
    except MigrationError as error:
        log_what_failed(context, declaration, error)
        failure = dg.Failure(str(error), failure_metadata(error), allow_retries=False)
        # A folder in use: the pools keep runs apart, but for the first two that ever meet (dagster 1.13.27).
        if isinstance(error, TryAgainError | StoreLockedError):
            failure.__cause__ = error
            policy = declaration.options_in(context.resources).retry_policy
            attempt = getattr(context, "op_execution_context", context).retry_number + 1
            wait_s = policy.wait_s(attempt, error)
            # From the failure: after the last attempt Dagster shows the metadata of the cause, if that is a Failure.
            raise dg.RetryRequested(max_retries=policy.max_attempts - 1, seconds_to_wait=wait_s) from failure
        raise failure from error
    except (dg.Failure, dg.RetryRequested):
        raise
    except Exception as error:
        # A mistake of ours or of the machine: trying again would only delay the message.
        what = f"unexpected {type(error).__name__}: {error}"
        raise dg.Failure(what, {"error": type(error).__name__, "what": what}, allow_retries=False) from error


def failure_metadata(error: MigrationError) -> dict[str, dg.MetadataValue]:
    """Return what the UI shows of an error: kind, what happened, what to do, facts."""
    metadata: dict[str, dg.MetadataValue] = {
        "error": dg.MetadataValue.text(type(error).__name__),
        "what": dg.MetadataValue.text(error.what),
    }
    if error.todo:
        metadata["what to do"] = dg.MetadataValue.text(error.todo)
    for name, value in error.facts.items():
        if name == "report_page":
            metadata |= page_metadata(value)
        else:
            metadata[name] = dg.MetadataValue.text(str(value)[:2_000])
    return metadata
