"""Running a migration's job in this process on an instance, and closing runs whose process was killed.

Belongs here: what a command needs around a job. Does not belong here: the job (`jobs`).
"""

import os

import dagster as dg
import psutil

PROCESS_TAG = "rag_migration_pipeline/process"
"""Tag of a run that this module started: boot time, process id and start time, which no two processes share."""

_OPEN = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def run_job(
    job: dg.JobDefinition, instance: dg.DagsterInstance, *, console_level: str = "CRITICAL"
) -> dg.ExecuteInProcessResult:
    """Run a job in this process; a failure is in the result, not raised.

    Args:
        job: The job.
        instance: Where its events go, all of them.
        console_level: What Dagster prints of them on the console; a caller with a progress bar wants nothing.
    """
    return job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": console_level}}}},
        tags={PROCESS_TAG: _process_mark(os.getpid()) or ""},
    )


def close_killed_runs(instance: dg.DagsterInstance, job_name: str) -> list[str]:
    """Mark as failed the runs of a job that a killed process left open; returns their ids.

    Only runs that `run_job` started on this machine are looked at; those of living processes are left alone.
    """
    closed = []
    for run in instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=_OPEN)):
        mark = run.tags.get(PROCESS_TAG)
        if not mark or mark == _process_mark(int(mark.split(":")[1])):
            continue
        instance.report_run_failed(run, "The process of this run was killed; finished ranges are kept.")
        closed.append(run.run_id)
    return closed


def _process_mark(process_id: int) -> str | None:
    """Return a mark that only this life of a process has, or None where there is no such process."""
    try:
        return f"{psutil.boot_time():.0f}:{process_id}:{psutil.Process(process_id).create_time():.2f}"
    except psutil.NoSuchProcess:
        return None
