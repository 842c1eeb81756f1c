"""Mark runs as failed that died with the code server's container.

Belongs here: what must be put right before the code server starts. Does not belong here: anything while it runs.

Dagster's run monitoring cannot ask the DefaultRunLauncher whether a run's process is alive
(``supports_check_run_worker_health`` is False, dagster 1.13.27), and the server that would have noticed is gone too.
Such a run would be "started" for ever and keep its target's pool, so that no other run of that target begins. All
runs that were launched are processes of this one container: when it starts, none of them can be alive. Runs that were
only starting or being cancelled need nothing: run monitoring ends those by its timeouts.
"""

import sys

import dagster as dg
from dagster._core.storage.tags import GRPC_INFO_TAG

REASON = (
    "The container of the code server stopped while this run was in it. It is launched again by itself (run_retries in "
    "dagster.yaml); where it is not, run it again: finished ranges are kept."
)


def close_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark every started run as failed that a code server launched, and return their ids.

    Runs of ``dagster job execute`` do not carry the tag and may be in another container: they are left alone.
    """
    started = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    lost = [run for run in started if GRPC_INFO_TAG in run.tags]
    for run in lost:
        instance.report_run_failed(run, REASON)
    return [run.run_id for run in lost]


if __name__ == "__main__":
    with dg.DagsterInstance.get() as opened:
        for run_id in close_lost_runs(opened):
            sys.stderr.write(f"run {run_id} was lost with its container and is marked as failed\n")
