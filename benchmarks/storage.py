"""Where a measured Dagster instance keeps its events: SQLite files in its home, or a database of a real PostgreSQL.

Belongs here: the instance's settings, fresh databases, what is held in either. Does not belong here: what is run on the
instance (``scale_runs``), starting a PostgreSQL (``rag_migration_pipeline_tests/servers/postgres.py``).
"""

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

SQLITE, POSTGRESQL = "sqlite", "postgresql"
NAMES = {SQLITE: "SQLite", POSTGRESQL: "PostgreSQL"}
_QUESTIONS = (
    "select count(*) from event_logs where run_id <> ''",
    "select pg_database_size(current_database())",
    "select sessions from pg_stat_database where datname = current_database()",
)
_USER = {"POSTGRES_USER": "dagster", "POSTGRES_PASSWORD": "benchmark", "POSTGRES_DB": "dagster"}


@dataclass(frozen=True)
class Database:
    """A database of its own for one measured run.

    Attributes:
        url: As SQLAlchemy takes it.
        pid: Of the server's first process, the parent of the others.
    """

    url: str
    pid: int


@dataclass(frozen=True)
class Held:
    """What an instance holds.

    Attributes:
        event_rows: Events of runs.
        instance_bytes: Of the home folder and, beside it, the database; without PostgreSQL's write-ahead log.
        server_cpu_s: CPU seconds that the server's processes have taken so far; 0 without one.
        connections: How often the database was connected to so far; 0 without one.
    """

    event_rows: int
    instance_bytes: int
    server_cpu_s: float = 0.0
    connections: int = 0


@contextmanager
def opened_postgres() -> Iterator[Callable[[], Database]]:
    """Start a PostgreSQL whose commits wait for the disk, and give what makes an empty database in it.

    Raises:
        RuntimeError: It is not installed.
    """
    from rag_migration_pipeline_tests.servers.postgres import Postgres, find_postgres

    programs = find_postgres()
    if programs is None:
        raise RuntimeError("there is no PostgreSQL here: apt-get install postgresql")
    numbers = itertools.count(1)
    with Postgres(programs, _USER, is_durable=True) as server:

        def fresh() -> Database:
            name = f"run_{next(numbers)}"
            server.create(name)
            user, password = _USER["POSTGRES_USER"], _USER["POSTGRES_PASSWORD"]
            # SQLAlchemy 2.1 takes a plain postgresql:// for psycopg 3, and dagster-postgres brings psycopg2.
            url = f"postgresql+psycopg2://{user}:{password}@127.0.0.1:{server.port.number}/{name}"
            return Database(url, server.pid)

        yield fresh


def write_settings(home: Path, database: Database | None = None) -> None:
    """Make a folder the home of this process's Dagster instance."""
    os.environ["DAGSTER_HOME"] = str(home)
    storage = "" if database is None else f"storage:\n  postgres:\n    postgres_url: {database.url}\n"
    (home / "dagster.yaml").write_text(f"telemetry:\n  enabled: false\n{storage}")


def held(home: Path, database: Database | None = None) -> Held:
    """Return what an instance holds."""
    if database is None:
        return Held(_sqlite_rows(home), bytes_in(home))
    rows, size, connections = (_asked(database, question) for question in _QUESTIONS)
    return Held(rows, size + bytes_in(home), _server_cpu_s(database.pid), connections)


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _sqlite_rows(home: Path) -> int:
    rows = 0
    for path in (home / "history" / "runs").glob("*.db"):
        with closing(sqlite3.connect(path)) as database:
            (count,) = database.execute("select count(*) from event_logs").fetchone()
            rows += 0 if path.stem == "index" else int(count)
    return rows


def _asked(database: Database, question: str) -> int:
    """Return the number that a question to a database has for an answer."""
    import sqlalchemy as sa

    engine = sa.create_engine(database.url)
    try:
        with engine.connect() as connection:
            return int(connection.execute(sa.text(question)).scalar_one())
    finally:
        engine.dispose()


def _server_cpu_s(pid: int) -> float:
    """Return the CPU seconds of a server's processes, those that ended included."""
    import psutil

    first = psutil.Process(pid)
    own = first.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for process in first.children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # its seconds are the parent's now, and were read too early: a few milliseconds
        total += times.user + times.system
    return float(total)
