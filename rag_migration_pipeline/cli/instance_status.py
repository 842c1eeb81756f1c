"""How far a migration is, as a Dagster instance knows it: partitions, proof, runs.

Belongs here: putting together what the instance says in several places. Does not belong here: asking for it
(``dagster_client.py``), printing it (``launching.py``), the ledger of runs without Dagster (``upkeep.py``).
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from rag_migration_pipeline.cli.dagster_client import DagsterClient, Launchable, metadata_of
from rag_migration_pipeline.orchestration.words import COLLECTION_CHECK, Kind

RUNS = 5
"""So many of the latest runs are told."""

_LOOKED_AT = 50


@dataclass(frozen=True)
class InstanceStatus:
    """How far a migration is.

    Attributes:
        done: Ranges that are green, and were neither attempted in vain nor contradicted since.
        missing: Ranges that are neither done nor failed nor in progress.
        records: Records of all ranges, as the last plan has them.
        proof: The last proof of the whole: whether it held, when, how many records; None where there was none.
        runs: The latest runs, newest first.
    """

    name: str
    location: str
    ranges: int
    done: int
    failed: int
    missing: int
    in_progress: int
    records: int
    failed_ranges: tuple[str, ...]
    proof: dict[str, Any] | None
    runs: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self)

    def proof_text(self) -> str:
        """The last proof for people."""
        if self.proof is None:
            return "none"
        held = "proven" if self.proof["proven"] else "NOT proven"
        aside = f", {self.proof['rejected']} set aside" if self.proof["rejected"] else ""
        return f"{held} {self.proof['at'][:19].replace('T', ' ')}{aside}"

    def run_text(self) -> str:
        """The last run for people."""
        if not self.runs:
            return "none"
        last = self.runs[0]
        return f"{last['job']} {last['status'].lower()} {last['at'][:19].replace('T', ' ')}"


def instance_status(client: DagsterClient, migration: Launchable) -> InstanceStatus:
    """Return how far a migration is.

    Raises:
        DagsterUnavailableError: Nobody answers.
        DagsterRefusedError: The instance does not answer what was asked.
    """
    name = migration.name
    parts = {kind: set(keys) for kind, keys in client.partitions(name).items()}
    every: set[str] = set().union(*parts.values()) if parts else set()
    runs = client.runs(name, _LOOKED_AT)
    failed, running = _of_last_round(client, name, runs, every)
    running |= parts.get("materializing", set())
    failed = (failed | parts.get("failed", set()) | _contradicted(client, name) & every) - running
    done = parts.get("materialized", set()) - failed - running
    planned = next(iter(client.latest(name, "source_manifest").get("assetMaterializations", ())), None)
    return InstanceStatus(
        name=name,
        location=migration.location,
        ranges=len(every),
        done=len(done),
        failed=len(failed),
        missing=len(every - done - failed - running),
        in_progress=len(running),
        records=metadata_of(planned).get("dagster/row_count", 0),
        failed_ranges=tuple(sorted(failed)),
        proof=_proof(client.latest(name, "target_collection")),
        runs=tuple(_run(name, item) for item in runs[:RUNS]),
    )


def _of_last_round(
    client: DagsterClient, name: str, runs: list[dict[str, Any]], every: set[str]
) -> tuple[set[str], set[str]]:
    """Return the ranges that failed, and those that are in progress, in the last run of a job that carries ranges.

    Dagster (1.13.27) counts partitions as failed or in progress only in runs of assets, not of other jobs. A range that
    was carried after it failed is not failed any more.
    """
    jobs = {f"{name}__{job}" for job in Kind}
    last = next((item for item in runs if item["jobName"] in jobs and item["startTime"] is not None), None)
    if last is None:
        return set(), set()
    states: dict[str, set[str]] = {}
    for step, status in client.steps(last["runId"]).items():
        if found := re.search(r"\[(.+)\]$", step):
            states.setdefault(found[1], set()).add(f"{step.partition('[')[0]} {status}")
    failed = {key for key, told in states.items() if any(text.endswith(" FAILURE") for text in told)} & every
    carried = client.carried_at(name, sorted(failed))
    failed = {key for key in failed if carried.get(key, 0.0) < last["startTime"]}
    if last["endTime"] is not None:
        return failed, set()
    return failed, {key for key, told in states.items() if "validate_range SUCCESS" not in told} & every - failed


def _contradicted(client: DagsterClient, name: str) -> set[str]:
    """Return the ranges that a proof contradicted, and that were not carried since; checks are timed in seconds."""
    found = client.contradicted(name)
    carried = client.carried_at(name, sorted(found))
    return {key for key, at in found.items() if carried.get(key, 0.0) < at + 1}


def _proof(latest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the last proof: that of the latest materialization, or a later one that failed."""
    made = next(iter(latest.get("assetMaterializations", ())), None)
    checks = (latest.get("assetChecksOrError") or {}).get("checks", ())
    check = next(
        (item["executionForLatestMaterialization"] for item in checks if item["name"] == COLLECTION_CHECK), None
    )
    made_at = float(made["timestamp"]) / 1_000 if made is not None else 0.0
    if check is not None and check["status"] == "FAILED" and check["timestamp"] > made_at:
        told = check["evaluation"] or {}
        if told.get("severity") != "WARN":
            facts = {"proven": False, "at": _time(check["timestamp"]), "records": None, "rejected": None}
            return {**facts, "run_id": check["runId"], "what": told.get("description")}
    if made is None:
        return None
    facts = metadata_of(made)
    return {
        "proven": bool(facts.get("proven", False)),
        "at": _time(made_at),
        "records": facts.get("records written"),
        "rejected": facts.get("rejected"),
        "run_id": made["runId"],
        "what": None,
    }


def _run(name: str, run: Mapping[str, Any]) -> dict[str, Any]:
    begun, over = run["startTime"], run["endTime"]
    return {
        "run_id": run["runId"],
        "job": run["jobName"].removeprefix(f"{name}__"),
        "status": run["status"],
        "at": _time(begun or run["creationTime"]),
        "duration_seconds": round(over - begun, 1) if begun and over else None,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
