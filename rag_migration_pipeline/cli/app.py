"""The commands of ``rag-migrate``, their own options, and what is imported when one of them runs.

Belongs here: names and help texts of commands. Does not belong here: the options of a migration (``table.py``), what
the commands do (``commands.py``), exit codes (``exit_codes.py``).

Everything that costs time is imported inside commands, so that ``--help`` is quick.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rag_migration_pipeline.cli.exit_codes import EPILOG
from rag_migration_pipeline.cli.signatures import COMMON, SHARED_FLAGS, Request, with_name, with_request
from rag_migration_pipeline.cli.table import TABLE

app = typer.Typer(
    name="rag-migrate",
    epilog=EPILOG,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Url = Annotated[
    str,
    typer.Option(
        "--url",
        metavar="URL",
        envvar="DAGSTER_WEBSERVER_URL",
        show_envvar=False,
        help="Dagster's webserver, http://localhost:3000 by default; also DAGSTER_WEBSERVER_URL.",
        show_default=False,
    ),
]
URL = "http://localhost:3000"

Purge = Annotated[bool, typer.Option("--purge", help="Remove the state of what succeeded.", show_default=False)]


@app.callback(invoke_without_command=True)
@with_request
def without_command(
    request: Request,
    context: typer.Context,
    purge: Purge = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """Copy vector collections between Chroma, Qdrant and Milvus, and prove that nothing was lost.

    Without a command it migrates: rag-migrate --source URL --target URL. Every option of a migration is also a key of
    a migration file and an environment variable: RAG_MIGRATE_ and the key.
    """
    if version:
        from rag_migration_pipeline import __version__

        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        _migrate(request, purge=purge)
    else:
        _refuse_before_command(context)


def _refuse_before_command(context: typer.Context) -> None:
    """Refuse options in front of a command, which would be dropped without a word."""
    flags = {entry.key: entry.flags[0] for entry in TABLE} | {"purge": "--purge"}
    flags |= {name: SHARED_FLAGS.get(name, f"--{name.replace('_', '-')}") for name in COMMON}
    found = [
        flag for key, flag in flags.items() if getattr(context.get_parameter_source(key), "name", "") == "COMMANDLINE"
    ]
    if found:
        command = context.invoked_subcommand
        raise typer.BadParameter(f"{', '.join(found)} must stand behind the command: rag-migrate {command} ...")


@app.command("migrate")
@with_request
def migrate(request: Request, purge: Purge = False) -> None:
    """Migrate; the same as without a command."""
    _migrate(request, purge=purge)


def _migrate(request: Request, *, purge: bool) -> None:
    from rag_migration_pipeline.cli.commands import migrate as run

    run(request, purge=purge)


@app.command("plan")
@with_request
def plan(
    request: Request,
    probe_target: Annotated[
        bool, typer.Option("--probe-target", help="Time writes too, into a collection that is made and removed.")
    ] = False,
) -> None:
    """Show what a migration would do: a verdict on every field, counts, bytes, time. Writes nothing."""
    from rag_migration_pipeline.cli.commands import plan as run

    run(request, probe_target=probe_target)


@app.command("verify")
@with_request
def verify(
    request: Request,
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, help="Compare about that many records, spread evenly.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Also write the whole result as JSON.")
    ] = None,
) -> None:
    """Compare two collections record by record, whoever copied them. Both are only read."""
    from rag_migration_pipeline.cli.commands import verify as run

    run(request, sample=sample, report=report)


@app.command("status")
@with_request
def status(
    request: Request,
    context: typer.Context,
    dagster: Annotated[
        bool, typer.Option("--dagster", help="Ask a running Dagster instance; --name for one migration.")
    ] = False,
    url: Url = URL,
) -> None:
    """Show how far migrations are: ranges done, failed, missing, and rates. Of one, or of all in the state folder."""
    if dagster:
        from rag_migration_pipeline.cli.launching import status as of_dagster

        of_dagster(request, url=url)
        return
    if getattr(context.get_parameter_source("url"), "name", "") == "COMMANDLINE":
        raise typer.BadParameter("--url is about a running Dagster: rag-migrate status --dagster --url ...")
    from rag_migration_pipeline.cli.commands import status as run

    run(request)


@app.command("launch")
@with_name
def launch(
    request: Request,
    job: Annotated[
        Literal["migrate", "sync", "retry_failed", "plan", "detect", "verify"],
        typer.Option("--job", help="Which of the migration's jobs; sync by default.", show_default=False),
    ] = "sync",
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="What this run does otherwise, several times: page_count=500, dry_run=true; sample=100 with verify.",
            show_default=False,
        ),
    ] = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="Return at once with the id of the run.")] = False,
    url: Url = URL,
) -> None:
    """Launch a job of a migration in a running Dagster instance, and follow it to its end."""
    from rag_migration_pipeline.cli.launching import launch as run

    run(request, url=url, job=job, options=options or [], follow=not no_follow)


@app.command("replay")
@with_request
def replay(
    request: Request,
    file: Annotated[Path, typer.Argument(help="A repaired quarantine file (docs/quarantine.md).")],
) -> None:
    """Load repaired records that a migration set aside; run it with --resume afterwards for the proof."""
    from rag_migration_pipeline.cli.commands import replay as run

    run(request, file)


@app.command("rollback")
@with_request
def rollback(
    request: Request,
    force: Annotated[bool, typer.Option("--force", help="Also where records of others would be lost.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Make the target what it was before a migration's first write, and forget the migration."""
    from rag_migration_pipeline.cli.commands import rollback as run

    run(request, force=force, yes=yes)


@app.command("purge")
@with_request
def purge(
    request: Request,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="All completed migrations of that age: 30d, 12h.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also that of one that is not finished.")] = False,
) -> None:
    """Remove the state of a completed migration; its target stays. The next incremental run starts afresh."""
    from rag_migration_pipeline.cli.commands import purge as run

    run(request, older_than=older_than, force=force)


@app.command("stores")
@with_request
def stores(
    request: Request,
    urls: Annotated[list[str] | None, typer.Argument(help="Stores to reach, e.g. qdrant://localhost:6333.")] = None,
) -> None:
    """Show which stores are installed, and which are reachable: those named, of the file, or at the usual ports."""
    from rag_migration_pipeline.cli.commands import stores as run

    run(request, urls or [])


@app.command("collections")
@with_request
def collections(
    request: Request,
    url: Annotated[str, typer.Argument(help="A store, e.g. milvus://localhost:19530.")],
) -> None:
    """List the collections of a store, with counts, dimensions and metrics."""
    from rag_migration_pipeline.cli.commands import collections as run

    run(request, url)


@app.command("init")
@with_request
def init(
    request: Request,
    file: Annotated[
        Path | None,
        typer.Argument(help="By default migration.yaml; with --dagster a folder.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    dagster: Annotated[
        bool,
        typer.Option("--dagster", help="Write a defs.yaml that Dagster loads: into its folder of declared migrations."),
    ] = False,
) -> None:
    """Write a migration file with every option and what it means."""
    from rag_migration_pipeline.cli.commands import init as run

    run(request, file, force=force, dagster=dagster)


def main() -> None:
    """Run the command; the process ends with an exit code of `exit_codes.ExitCode`."""
    app(prog_name="rag-migrate")
