"""Running a migration's job in this process on an instance, and closing runs whose process was killed.

Belongs here: what a command needs around a job. Does not belong here: the job (`jobs`).
"""

import os
import socket
from collections.abc import Mapping
from typing import Any

import dagster as dg
import psutil

PROCESS_TAG = "rag_migration_pipeline/process"
"""Tag of a run that `run_job` started: host, process id and start time, which no two processes share."""

_OPEN = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_CLOCK_STEP_S = 60.0
"""How far a process's start time may move: Linux counts it from the boot, whose time follows the adjusted clock."""


def run_job(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    *,
    console_level: str = "CRITICAL",
    resources: Mapping[str, Any] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run a job in this process; a failure is in the result, not raised.

    Args:
        job: The job.
        instance: Where its events go, all of them.
        console_level: What Dagster prints of them on the console; a caller with a progress bar wants nothing.
        resources: Run configuration of resources, such as a launch's options (`run_options.RunOptions`).
    """
    return job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={
            "loggers": {"console": {"config": {"log_level": console_level}}},
            **({"resources": dict(resources)} if resources else {}),
        },
        tags={PROCESS_TAG: _process_mark()},
    )


def close_killed_runs(instance: dg.DagsterInstance, job_name: str) -> list[str]:
    """Mark as failed the runs of a job that a killed process left open; returns their ids.

    Only runs that `run_job` started on this host are looked at; those of living processes are left alone.
    """
    closed = []
    for run in instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=_OPEN)):
        if _is_dead(run.tags.get(PROCESS_TAG, "")):
            instance.report_run_failed(run, "The process of this run was killed; finished ranges are kept.")
            closed.append(run.run_id)
    return closed


def _process_mark() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def _is_dead(mark: str) -> bool:
    """Return whether a mark is of a process of this host that is no more; of another host's nothing can be said."""
    host, _, rest = mark.partition(":")
    process_id, _, started_s = rest.partition(":")
    if host != socket.gethostname() or not process_id.isdigit():
        return False
    try:
        return abs(psutil.Process(int(process_id)).create_time() - float(started_s)) > _CLOCK_STEP_S
    except psutil.NoSuchProcess:
        return True
