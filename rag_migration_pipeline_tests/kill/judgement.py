"""What must hold after a killed run was taken up again.

Belongs here: the questions asked of the instance, the state folder and the stores. Does not belong here: killing.
"""

import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg

from rag_migration_pipeline_tests.kill.vendor import READ, differences, make_records
from rag_migration_pipeline_tests.kill.worker import Leg, declaration_of, run

KILLED = -signal.SIGKILL
RANGE_STEP = re.compile(r"(\w+)\[(.+)\]")


def receipts(root: Path) -> dict[str, tuple[int, int]]:
    """Return the ranges that have a receipt, each with what would change if it were written again."""
    found = root.glob("state/*/receipts/**/*.arrow")
    return {path.stem: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def take_up(leg: Leg, root: Path, count: int) -> None:
    """Run a killed leg again, and check that nothing is lost, doubled or done twice."""
    finished = receipts(root)
    assert run(leg, root) == 0
    after = receipts(root)
    assert {key: after.get(key) for key in finished} == finished
    expected = make_records(count)
    assert differences(expected, READ[leg.target](root / "target")) == []
    assert differences(expected, READ[leg.source](root / "source")) == []
    assert_state_is_whole(leg, root, finished)


def assert_state_is_whole(leg: Leg, root: Path, finished: dict[str, Any]) -> None:
    """Check runs, partitions, proof and staging; the last run began those that were not finished, and no others."""
    declaration = declaration_of(leg)
    with dg.DagsterInstance.from_config(str(root / "home")) as instance:
        keys = set(instance.get_dynamic_partitions(f"{leg.name}_ranges"))
        assert keys == set(receipts(root))
        assert instance.get_materialized_partitions(declaration.key("loaded_ranges")) == keys
        proof = instance.get_latest_materialization_event(declaration.key("target_collection"))
        assert proof is not None
        assert proof.asset_materialization is not None
        assert proof.asset_materialization.metadata["proven"].value is True
        runs = sorted(instance.get_run_records(), key=lambda record: record.create_timestamp)
        statuses = [record.dagster_run.status for record in runs]
        assert statuses[-1] is dg.DagsterRunStatus.SUCCESS
        # A kill that came too late finds a success; a run that was killed is closed, not left open.
        assert set(statuses) <= {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS}
        begun = _begun(instance, runs[-1].dagster_run.run_id)
    for key in finished:
        assert begun["extract_range", key] == begun["load_range", key] == 0, key
    for key in keys - finished.keys():
        assert begun["load_range", key] == begun["validate_range", key] == 1, key
    assert list(root.glob("state/*/staging/*")) == []


def _begun(instance: dg.DagsterInstance, run_id: str) -> Counter[tuple[str, str]]:
    """Count how often each step of each range began in a run."""
    begun: Counter[tuple[str, str]] = Counter()
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START):
        match = RANGE_STEP.fullmatch(entry.step_key or "")
        if match:
            begun[match.group(1), match.group(2)] += 1
    return begun
