"""The commands that are about a running Dagster instance: ``launch``, and ``status --dagster``.

Belongs here: submitting, waiting, what is printed. Does not belong here: requests (``dagster_client.py``), what events
mean (``following.py``), what is known of a migration (``instance_status.py``).
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from rag_migration_pipeline.cli.dagster_client import DagsterClient, Launchable
from rag_migration_pipeline.cli.exit_codes import ExitCode
from rag_migration_pipeline.cli.following import ENDED, Following
from rag_migration_pipeline.cli.instance_status import InstanceStatus, instance_status
from rag_migration_pipeline.cli.session import Session, session
from rag_migration_pipeline.cli.showing import SHOWN, Screen, pairs_table, rows_table
from rag_migration_pipeline.cli.signatures import Request
from rag_migration_pipeline.errors import DagsterUnavailableError, SpecError
from rag_migration_pipeline.orchestration.words import PAGE, Kind, run_key

POLL_S = 1.0
PATIENCE_S = 120.0
"""For so long a webserver may be away while a run is followed."""

TEXTS = ("validation", "conflict", "only", "max_rejected", "max_deletes")
"""Options of a launch that Dagster wants as texts, also where they look like numbers (`run_options.RunOptions`)."""


def launch(request: Request, *, url: str, job: str, options: Sequence[str], follow: bool) -> None:
    """Submit a job of a migration to Dagster, and follow it; the exit code says how it ended."""
    with session(request) as run:
        config = _options(options)
        client = DagsterClient(url)
        migration = client.workspace().chosen(request.given.get("name"))
        run_id = client.launch(migration, job, _run_config(migration, job, config))
        facts = {"migration": migration.name, "job": job, "run_id": run_id, "url": client.page_of(run_id)}
        if not follow:
            facts["status"] = client.run(run_id)["status"]
            run.result(facts, pairs_table(list(facts.items())))
            return
        run.screen.say(f"launched {migration.name}__{job}: {facts['url']}")
        following = Following()
        try:
            ended = _follow(run, client, migration.name, job, run_id, following)
        except KeyboardInterrupt:
            run.screen.warn(f"interrupted. The run goes on; stop it there with Terminate: {facts['url']}")
            run.result({**facts, "status": "FOLLOWED NO MORE", "exit_code": ExitCode.INTERRUPTED})
            run.end(ExitCode.INTERRUPTED)
        code = following.code(ended["status"])
        _tell(run.screen, following, ended)
        said = {**facts, **_facts(following, ended), "exit_code": code}
        run.result(said, pairs_table(_rows(said), f"{migration.name}__{job}"))
        run.end(code)


def _options(texts: Sequence[str]) -> dict[str, Any]:
    """Return the options of a launch by name.

    Raises:
        SpecError: One is not written as ``name=value``, or twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name.strip() and sign):
            raise SpecError(f"--set: expected name=value, got {text!r}.", todo="For example --set page_count=500.")
        if name.strip() in found:
            raise SpecError(f"--set: {name.strip()} is given twice.", todo="Give it once.")
        try:
            found[name.strip()] = value if name.strip() in TEXTS else yaml.safe_load(value)
        except yaml.YAMLError:
            raise SpecError(f"--set {name.strip()}: {value!r} is no value.", todo="Write a number or a word.") from None
    return found


def _run_config(migration: Launchable, job: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run configuration: options of the launch, and of ``verify`` its sample."""
    given = dict(options)
    config: dict[str, Any] = {}
    if job == "verify" and "sample" in given:
        config["ops"] = {job: {"config": {"sample": given.pop("sample")}}}
    if given:
        config["resources"] = {run_key(migration.name): {"config": given}}
    return config


def _follow(
    run: Session, client: DagsterClient, migration: str, job: str, run_id: str, following: Following
) -> dict[str, Any]:
    """Take in the events of a run until it has ended, and return what the instance says of it then.

    Raises:
        DagsterUnavailableError: Nobody answered for too long; the run goes on.
    """
    if job in set(Kind):
        parts = client.partitions(migration)
        following.green = len(parts.get("materialized", ()))
        following.ranges = sum(map(len, parts.values()))
    after: str | None = None
    last_answer_s = time.monotonic()
    with run.screen.range_progress(f"{migration}__{job}", is_shown=run.has_progress) as show:
        while True:
            try:
                found = client.run(run_id)  # before its events, so that none is missed
                for cursor, event in client.events(run_id, after):
                    after = cursor
                    following.take(event)
                last_answer_s = time.monotonic()
            except DagsterUnavailableError as error:
                if time.monotonic() - last_answer_s > PATIENCE_S:
                    said = f"{error.what} The run {run_id} goes on without being followed."
                    raise DagsterUnavailableError(said, todo=error.todo) from error
                found = {"status": "UNKNOWN"}
            if show is not None:
                show(following.done, following.ranges, found["status"])
            if found["status"] in ENDED:
                return found
            time.sleep(POLL_S)


def _facts(following: Following, ended: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a run ended, as JSON values."""
    begun, over = ended["startTime"], ended["endTime"]
    facts: dict[str, Any] = {
        "status": ended["status"],
        "duration_seconds": round(over - begun, 1) if begun and over else None,
        "ranges": following.ranges,
        "ranges_done": following.done,
        "ranges_carried": len(following.carried),
        "errors": [error.to_dict() for error in following.failures.values()],
    }
    if following.proof:
        names = {"proven": "proven", "records": "records written", "rejected": "rejected", "filtered": "filtered out"}
        names |= {"skipped": "skipped", "report_page": PAGE}
        facts |= {name: following.proof.get(label) for name, label in names.items()}
    if following.looked or following.dry:
        facts["found"] = {**following.looked, **following.dry}
    return facts


def _rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how a run ended, for people."""
    rows = [("status", facts["status"].lower()), ("run", facts["url"])]
    if facts["job"] in set(Kind):
        carried = f", {facts['ranges_carried']} of them carried by this run"
        rows.append(("ranges", f"{facts['ranges_done']} of {facts['ranges']}{carried}"))
    if "proven" in facts:
        rows.append(("records", str(facts["records"])))
        rows.append(("proven", "yes" if facts["proven"] else "no"))
        rows.append(("set aside", f"{facts['rejected']} records"))
        rows.append(("integrity report", str(facts["report_page"] or "")))
    rows += [(name, str(value)) for name, value in facts.get("found", {}).items() if name != "seconds"]
    if facts["duration_seconds"] is not None:
        rows.append(("seconds", str(facts["duration_seconds"])))
    return rows


def _tell(screen: Screen, following: Following, ended: Mapping[str, Any]) -> None:
    """Tell why a run did not succeed."""
    failures = list(following.failures.values()) if ended["status"] != "SUCCESS" else []
    for error in failures[:SHOWN]:
        screen.error(f"{error.step}: {error.kind}", f"{error.message} {error.todo}".strip())
    if len(failures) > SHOWN:
        screen.warn(f"{len(failures) - SHOWN} more steps failed: --output json")
    if ended["status"] != "SUCCESS" and not failures:
        what = "the run was stopped" if ended["status"] == "CANCELED" else "the run failed before any of its steps"
        screen.error("Dagster", f"{what}. {following.cause}".strip())


def status(request: Request, *, url: str) -> None:
    """Print how far migrations are, as a Dagster instance knows them."""
    with session(request) as run:
        if wrong := {"source", "target"} & set(request.given):
            flags = ", ".join(f"--{name}" for name in sorted(wrong))
            raise SpecError(f"--dagster with {flags}: Dagster knows migrations by name.", todo="Use --name.")
        client = DagsterClient(url)
        workspace = client.workspace()
        name = request.given.get("name")
        chosen = [workspace.chosen(name)] if name is not None else list(workspace.migrations.values())
        for location, reason in workspace.broken.items():
            run.screen.warn(f"code location {location} is not loaded: {reason}")
        found = [instance_status(client, item) for item in chosen]
        run.result([item.to_dict() for item in found], _status_table(found))
        if not found:
            run.screen.say(f"there is no migration at {client.url}.")
        run.end(ExitCode.FAILED if workspace.broken and not found else ExitCode.DONE)


def _status_table(found: list[InstanceStatus]) -> Any:
    columns = ("migration", "ranges", "failed", "missing", "in progress", "records", "last proof", "last run")
    rows = [
        (
            item.name,
            f"{item.done} of {item.ranges}",
            item.failed,
            item.missing,
            item.in_progress,
            item.records,
            item.proof_text(),
            item.run_text(),
        )
        for item in found
    ]
    return rows_table(columns, rows)
