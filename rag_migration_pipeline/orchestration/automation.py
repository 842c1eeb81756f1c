"""What starts runs and what follows from failed ones: a migration's schedule, the sensor that tells of failures.

Belongs here: their definitions. Does not belong here: the sensor that looks for changes (`watching`), the ways of
telling (``notifying.py``).
"""

import os
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster._utils.schedules import is_valid_cron_schedule

from rag_migration_pipeline.notifying import Message, tell_all, teller_of
from rag_migration_pipeline.orchestration.declaration import MigrationDeclaration
from rag_migration_pipeline.orchestration.words import MIGRATION_TAG
from rag_migration_pipeline.problems import Problem

WEBSERVER_VARIABLE = "DAGSTER_WEBSERVER_URL"
"""Environment variable: where the pages of the UI are, for links in notifications."""


def schedule_problem(schedule: str | None) -> Problem | None:
    """Return what is wrong with a schedule that has five fields, or None."""
    if schedule is None or is_valid_cron_schedule(schedule):
        return None
    return Problem(("schedule",), f"cron has no such time: {schedule!r}")


def build_schedules(declaration: MigrationDeclaration, jobs: Sequence[dg.JobDefinition]) -> list[dg.ScheduleDefinition]:
    """Return the migration's schedule, if it has one: it syncs, the first time everything."""
    options = declaration.options
    if options.schedule is None or options.declarative:
        return []
    return [
        dg.ScheduleDefinition(
            name=f"{declaration.name}__schedule",
            job=next(job for job in jobs if job.name == f"{declaration.name}__sync"),
            cron_schedule=options.schedule,
            execution_timezone=options.timezone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Carries what changed in the source since the last time, and proves it.",
        )
    ]


def condition_of(declaration: MigrationDeclaration, asset: str) -> "dg.AutomationCondition[Any] | None":
    """Return when an asset is materialized by itself, where the migration's schedule is declarative."""
    options = declaration.options
    if not options.declarative or options.schedule is None:
        return None
    if asset == "source_manifest":
        return dg.AutomationCondition.on_cron(options.schedule, options.timezone)
    if asset == "loaded_ranges":
        return dg.AutomationCondition.on_missing()
    conditions = dg.AutomationCondition
    is_due = conditions.any_deps_updated().since_last_handled()
    return is_due & ~conditions.any_deps_missing() & ~conditions.any_deps_in_progress() & ~conditions.in_progress()


def build_automation_sensors(declaration: MigrationDeclaration) -> list[dg.SensorDefinition]:
    """Return what evaluates the conditions of a migration's assets, if they have any; running from the start."""
    if not declaration.options.declarative:
        return []
    return [
        dg.AutomationConditionSensorDefinition(
            name=f"{declaration.name}__automation",
            target=dg.AssetSelection.groups(declaration.name),
            default_status=dg.DefaultSensorStatus.RUNNING,
            description="Makes the manifest at its time, loads ranges that are missing, and proves the whole.",
        )
    ]


def freshness_of(declaration: MigrationDeclaration) -> dg.FreshnessPolicy | None:
    """Return the policy of the target collection: how old its proof may be."""
    seconds = declaration.options.max_lag_s
    return None if seconds is None else dg.FreshnessPolicy.time_window(fail_window=timedelta(seconds=seconds))


def build_failure_sensors(declaration: MigrationDeclaration) -> list[dg.SensorDefinition]:
    """Return the sensor that tells of a migration's failed runs, if somebody is to be told.

    Raises:
        SpecError: A way of telling cannot be used: a secret is missing, or a package, or a function.
    """
    tellers = [teller_of(notifier) for notifier in declaration.options.notify]
    if not tellers:
        return []

    @dg.run_failure_sensor(
        name=f"{declaration.name}__failures",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells those whom the migration's `notify` names that one of its runs failed.",
    )
    def failures(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        if migration_of(context.dagster_run) != declaration.name:
            return dg.SkipReason(f"{context.dagster_run.job_name} is not of migration {declaration.name}")
        for error in tell_all(tellers, message_of(context, declaration.name)):
            context.log.warning("could not tell: %s", error)
        return None

    return [failures]


def migration_of(run: dg.DagsterRun) -> str:
    """Return the name of the migration whose run it is; empty for other runs."""
    if MIGRATION_TAG in run.tags:
        return run.tags[MIGRATION_TAG]
    keys = sorted(run.asset_selection or (), key=lambda key: key.path)
    return keys[0].path[0] if keys and len(keys[0].path) == 2 else run.job_name.rpartition("__")[0]


def message_of(context: dg.RunFailureSensorContext, name: str) -> Message:
    """Return what is to be told of a failed run."""
    run = context.dagster_run
    base = os.environ.get(WEBSERVER_VARIABLE, "").rstrip("/")
    return Message(
        migration=name,
        job=run.job_name,
        run_id=run.run_id,
        errors=tuple(_errors(context)),
        url=f"{base}/runs/{run.run_id}" if base else "",
        time=time.time(),
    )


def _errors(context: dg.RunFailureSensorContext) -> list[str]:
    said = []
    for event in context.get_step_failure_events():
        failure = event.step_failure_data.user_failure_data
        error = event.step_failure_data.error
        text = failure.description if failure is not None else (error.message if error is not None else None)
        said.append(f"{event.step_key}: {(text or 'unknown error').strip()}")
    return said or [context.failure_event.message or "the run failed before a step began"]
