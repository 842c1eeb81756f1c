"""Mark runs as failed that died with the code server's container.

Belongs here: what must be put right when the code server starts. Does not belong here: anything while it runs.

    python close_lost_runs.py 127.0.0.1:4000    before the server: finds the runs, and leaves a process that marks them

Dagster's run monitoring cannot ask the DefaultRunLauncher whether a run's process is alive
(``supports_check_run_worker_health`` is False, dagster 1.13.27), and the server that would have noticed is gone too.
Such a run would be "started" for ever and keep its target's pool, so that no other run of that target begins. All
runs that were launched are processes of this one container: when it starts, none of them can be alive. Runs that were
only starting or being cancelled need nothing: run monitoring ends those by its timeouts.

The daemon then launches the lost runs again (``run_retries`` in dagster.yaml): with all their ops, because from the
failed ones on, ranges that had not begun would be left out; and only when the server answers, because a daemon that
does not reach it when a run fails never tries again (both: dagster 1.13.27).
"""

import subprocess
import sys
import time
from collections.abc import Sequence

import dagster as dg
import grpc
from dagster._core.storage.tags import GRPC_INFO_TAG, RETRY_STRATEGY_TAG

REASON = (
    "The container of the code server stopped while this run was in it. It is launched again by itself (run_retries in "
    "dagster.yaml); where it is not, run it again: finished ranges are kept."
)
SERVER_TIMEOUT_S = 300.0
"""After this long without a server, runs are marked all the same: their pools are worth more than the retry."""
SETTLE_S = 5.0
"""The daemon looks every second whether a server that it lost is back."""


def find_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Return the ids of started runs that a code server launched; call it before the server starts.

    Runs of ``dagster job execute`` do not carry the tag and may be in another container: they are left alone.
    """
    started = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    return [run.run_id for run in started if GRPC_INFO_TAG in run.tags]


def close_lost_runs(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> list[str]:
    """Mark those of the runs as failed that are still "started", and return their ids."""
    if not run_ids:
        return []
    lost = instance.get_runs(dg.RunsFilter(run_ids=list(run_ids), statuses=[dg.DagsterRunStatus.STARTED]))
    for run in lost:
        instance.add_run_tags(run.run_id, {RETRY_STRATEGY_TAG: "ALL_STEPS"})
        instance.report_run_failed(run, REASON)
    return [run.run_id for run in lost]


def wait_for_server(address: str, timeout_s: float = SERVER_TIMEOUT_S) -> bool:
    """Wait until a gRPC server answers at ``host:port``, and tell whether one did."""
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=timeout_s)
        except grpc.FutureTimeoutError:
            return False
    return True


def main(address: str, run_ids: Sequence[str]) -> None:
    """Find the runs and leave a process that goes on; in that one, wait for the server and mark them."""
    if not run_ids:
        with dg.DagsterInstance.get() as instance:
            lost = find_lost_runs(instance)
        if lost:
            subprocess.Popen([sys.executable, __file__, address, *lost])  # noqa: S603 - this file, ids of runs
        return
    if wait_for_server(address):
        time.sleep(SETTLE_S)
    with dg.DagsterInstance.get() as instance:
        for run_id in close_lost_runs(instance, run_ids):
            sys.stderr.write(f"run {run_id} was lost with its container and is marked as failed\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
