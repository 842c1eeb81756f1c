"""What the commands do.

Belongs here: a function per command, from what was asked for to what is printed and the exit code. Does not belong
here: options and help (``app.py``), work on stores and state (``running.py``, ``steps/``, ``upkeep.py``).
"""

import json
from pathlib import Path
from typing import Any

import typer
import yaml

from rag_migration_pipeline.cli.exit_codes import ExitCode, worst_of
from rag_migration_pipeline.cli.merging import Asked
from rag_migration_pipeline.cli.session import Session, exit_code_of, session
from rag_migration_pipeline.cli.showing import SHOWN, pairs_table, result_table, rows_table
from rag_migration_pipeline.cli.signatures import Request
from rag_migration_pipeline.cli.template import component_template, template
from rag_migration_pipeline.config_files import defs_folder
from rag_migration_pipeline.errors import MigrationError, MigrationInterruptedError, SpecError
from rag_migration_pipeline.locators import has_secret, mask_url
from rag_migration_pipeline.records import id_text
from rag_migration_pipeline.running import (
    estimate_of_migration,
    replay_migration,
    rollback_migration,
    run_migration,
    verify_migration,
)
from rag_migration_pipeline.services import store_at
from rag_migration_pipeline.upkeep import (
    MigrationStatus,
    age_of,
    purge_completed,
    purge_state,
    status_of,
    statuses,
    stores_at,
)


def migrate(request: Request, *, purge: bool) -> None:
    """Migrate one collection or several, one after the other; what happened to each is the result."""
    with session(request) as run:
        done = [_migrate_one(run, item, purge=purge) for item in run.asked()]
        run.results([facts for facts, _ in done])
        run.end(worst_of(code for _, code in done))


def _migrate_one(run: Session, item: Asked, *, purge: bool) -> tuple[dict[str, Any], ExitCode]:
    """Run one migration; an error of one of several is kept, and the others go on, but not after an interruption."""
    try:
        with run.screen.progress(item.spec.name, is_shown=run.has_progress) as on_progress:
            result = run_migration(item.migration, run.state_dir, on_progress=on_progress, is_command=True)
    except MigrationError as error:
        if run.is_single or isinstance(error, MigrationInterruptedError):
            raise
        code = exit_code_of(error)
        return {"migration": item.spec.name, **run.tell(error, code, item.spec.name)}, code
    run.show(result_table(result, item.spec.name))
    is_clean = result.success and not result.vectors_failed
    if purge and is_clean and not item.migration.options.dry_run:
        purge_state(item.migration, run.state_dir)
    facts = {"migration": item.spec.name, **result.to_dict()}
    return facts, ExitCode.DONE if is_clean else ExitCode.PARTLY


def plan(request: Request, *, probe_target: bool) -> None:
    """Print the plan with its estimate; the exit code says whether it can be applied."""
    with session(request) as run:
        found, code = [], ExitCode.DONE
        for item in run.asked():
            said = estimate_of_migration(item.migration, run.state_dir, probe_target=probe_target)
            found.append({"migration": item.spec.name, **said.to_dict()})
            code = code if said.compatible else ExitCode.INCOMPATIBLE
            timed = "reads and writes" if probe_target else "reads alone"
            rows = [
                ("records to carry", f"{said.total_vectors} in {said.estimated_batches} batches"),
                ("bytes", f"{said.size_bytes:,}"),
                ("seconds", f"{said.estimated_duration_seconds:.1f} ({timed} timed)"),
                ("can be applied", "yes" if said.compatible else "NO"),
            ]
            run.show(said.plan.to_text(run.width), pairs_table(rows))
        run.results(found)
        run.end(code)


def verify(request: Request, *, sample: int | None, report: Path | None) -> None:
    """Print how two collections compare; the exit code says whether they are the same."""
    with session(request) as run:
        item = run.one()
        found = verify_migration(item.migration, sample=sample)
        facts = found.to_dict()
        if report is not None:
            try:
                report.write_text(json.dumps(facts, indent=2, ensure_ascii=False), encoding="utf-8")
            except OSError as error:
                raise SpecError(f"--report: cannot write {report}: {error.strerror}.") from error
        rows = found.rows()
        table = rows_table(("id", "finding", "detail"), rows[:SHOWN])
        more = [f"{len(rows) - SHOWN} more: --output json or --report FILE"] if len(rows) > SHOWN else []
        run.result(facts, found.summary(), *([table] if rows else []), *more)
        run.end(ExitCode.DONE if found.is_identical else ExitCode.CONTRADICTED)


def status(request: Request) -> None:
    """Print how far migrations are."""
    with session(request) as run:
        named = bool(request.config or {"source", "target"} & set(request.given))
        chosen = run.asked() if named else []
        found = [status_of(item.migration, run.state_dir) for item in chosen] if named else statuses(run.state_dir)
        run.result([item.to_dict() for item in found], _status_table(found))
        if not found:
            run.screen.say(f"there is no migration in {run.state_dir}.")


def _status_table(found: list[MigrationStatus]) -> Any:
    columns = ("migration", "state", "ranges", "failed", "missing", "records", "written", "records/s", "identity")
    rows = [
        (
            item.name,
            item.state,
            f"{item.done} of {item.ranges}",
            item.failed,
            item.missing,
            item.records,
            item.written,
            f"{item.records_per_s:,.0f}" if item.records_per_s else "",
            item.identity[:8],
        )
        for item in found
    ]
    return rows_table(columns, rows)


def replay(request: Request, file: Path) -> None:
    """Load a repaired quarantine file."""
    with session(request) as run:
        item = run.one()
        found = replay_migration(item.migration, run.state_dir, file)
        facts = {"loaded": found.loaded, "ranges": list(found.range_keys), "still_set_aside": len(found.rejections)}
        run.result(facts, found.summary())
        run.end(ExitCode.PARTLY if found.rejections else ExitCode.DONE)


def rollback(request: Request, *, force: bool, yes: bool) -> None:
    """Take away what a migration made, after asking."""
    with session(request) as run:
        item = run.one()
        where = f"{item.migration.target.address}, collection {item.migration.target_collection!r}"
        if not yes and not typer.confirm(f"Take away what migration {item.spec.name} wrote into {where}?", err=True):
            run.end(ExitCode.FAILED)
        found = rollback_migration(item.migration, run.state_dir, force=force)
        facts = {
            "dropped": found.dropped,
            "deleted": found.deleted,
            "restored": found.restored,
            "lost": list(map(id_text, found.lost)),
        }
        run.result(facts, pairs_table([(name, str(value)) for name, value in facts.items()]))


def purge(request: Request, *, older_than: str | None, force: bool) -> None:
    """Remove the state of completed migrations."""
    with session(request) as run:
        if older_than is not None and force:
            raise SpecError(
                "--force and --older-than exclude each other: those of a certain age are the completed ones.",
                todo="Leave one of them out; --force takes one migration, named by its source and target.",
            )
        if older_than is not None:
            removed = purge_completed(run.state_dir, age_of(older_than))
        else:
            removed = [purge_state(item.migration, run.state_dir, force=force) for item in run.asked()]
        facts = [str(path) for path in removed]
        run.result({"removed": facts}, *facts, f"{len(facts)} removed")


def stores(request: Request, urls: list[str]) -> None:
    """Print what is installed, and what answers."""
    with session(request) as run:
        named = list(urls)
        if not named and (request.config or {"source", "target"} & set(request.given)):
            named = [url for item in run.asked() for url in (item.spec.source, item.spec.target)]
        found = stores_at(named)
        rows = [(item.store, item.packages, item.url, item.answer) for item in found]
        run.result([item.to_dict() for item in found], rows_table(("store", "installed", "URL", "answer"), rows))
        is_away = named and not all(item.is_reachable for item in found)
        run.end(ExitCode.FAILED if is_away else ExitCode.DONE)


def collections(request: Request, url: str) -> None:
    """Print the collections of a store."""
    with session(request) as run, store_at(url) as service:
        run.keep_secret(service.settings)
        found: list[dict[str, Any]] = []
        for name in service.list_collections():
            info = service.store.describe(name)
            vectors = [
                {"name": v.name, "kind": str(v.kind), "dimension": v.dimension, "metric": str(v.metric)}
                for v in info.spec.vectors
            ]
            found.append({"name": name, "count": info.count, "vectors": vectors})
        rows = [
            (item["name"], item["count"], "; ".join(_vector(vector) for vector in item["vectors"])) for item in found
        ]
        run.result(found, rows_table(("collection", "records", "vectors"), rows, mask_url(url)))


def _vector(facts: dict[str, Any]) -> str:
    size = "" if facts["dimension"] is None else f" {facts['dimension']}"
    return f"{facts['name'] or '(unnamed)'}: {facts['kind']}{size}, {facts['metric']}"


def init(request: Request, place: Path | None, *, force: bool, dagster: bool) -> None:
    """Write a commented migration file, or the ``defs.yaml`` of a Dagster component."""
    with session(request) as run:
        text = template(request.given)
        values = yaml.safe_load(text)
        run.check(values)
        if dagster:
            secret = [role for role in ("source", "target") if has_secret(values[role])]
            if secret:
                said = f"the URL of {' and '.join(secret)} carries a secret, which Dagster's UI would show."
                raise SpecError(said, todo="Put it into the environment instead (docs/migrations.md).")
            file = (place or defs_folder() / values["name"]) / "defs.yaml"
            text = component_template(text)
        else:
            file = place or Path("migration.yaml")
        if file.exists() and not force:
            raise SpecError(f"{file} is there already.", todo="Name another place, or use --force.")
        try:
            if dagster:
                file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SpecError(f"cannot write {file}: {error.strerror}.", todo="Name another place.") from error
        run.result({"written": str(file)}, f"wrote {file}")
