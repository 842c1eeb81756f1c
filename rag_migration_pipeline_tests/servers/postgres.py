"""A real PostgreSQL for tests and benchmarks, on a free loopback port and in a temporary folder: Debian's programs.

Belongs here: finding them, starting and stopping a server, making databases. Does not belong here: what is kept in it
(``docker/stack.py``, ``benchmarks/storage.py``). Plain classes without pytest, so that benchmarks use them as well.
"""

import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rag_migration_pipeline_tests.servers.process import ReservedPort, ServerError, ServerProcess

START_TIMEOUT_S = 180.0
CHECK_TIMEOUT_S = 60.0
IS_READY = ("CMD", "pg_isready", "-h", "127.0.0.1", "-q")


def find_postgres() -> Path | None:
    """Return the folder of PostgreSQL's programs: Debian keeps them out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    program = shutil.which("initdb")
    return Path(program).resolve().parent if program else None


class Postgres:
    """A server with the user, password and database that the image ``postgres`` makes of its environment."""

    def __init__(
        self,
        programs: Path,
        environment: Mapping[str, str],
        check: Sequence[str] = IS_READY,
        *,
        is_durable: bool = False,
    ) -> None:
        """Make its folder; nothing runs before ``start`` or ``with``.

        Args:
            programs: PostgreSQL's programs, see `find_postgres`.
            environment: ``POSTGRES_USER``, ``POSTGRES_PASSWORD``, ``POSTGRES_DB``.
            check: The health check, in the compose file's words.
            is_durable: Whether commits wait for the disk, as they do in production; tests need not.
        """
        self.port = ReservedPort()
        # PostgreSQL's user must be able to enter its folder, and pytest's are closed to others.
        self._folder = Path(tempfile.mkdtemp(prefix="rag_postgres_"))
        self._programs, self._check = programs, list(check)
        self._environment = {
            **environment,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PGPORT": str(self.port.number),
            "PGPASSWORD": environment["POSTGRES_PASSWORD"],
        }
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        words = ["-D", str(self._folder / "data"), "-h", "127.0.0.1", "-k", str(self._folder)]
        words += ["-p", str(self.port.number), *(() if is_durable else ("-c", "fsync=off"))]
        prefix = (
            ["setpriv", "--pdeathsig=KILL", "--reuid=postgres", "--regid=postgres", "--init-groups"]
            if self._user
            else []
        )
        self._process = ServerProcess(
            "PostgreSQL",
            [*prefix, str(programs / "postgres"), *words],
            self._folder / "postgres.log",
            cwd=self._folder,
        )

    @property
    def pid(self) -> int:
        """The process id of the server's first process, the parent of all its others."""
        return self._process.pid

    def start(self) -> None:
        """Make the database and start the server."""
        if self._user:
            user = pwd.getpwnam(self._user)
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        name = self._environment["POSTGRES_USER"]
        secret = self._folder / "password"
        secret.write_text(self._environment["POSTGRES_PASSWORD"])
        secret.chmod(0o644)  # of a server that lives for a test
        made = ["initdb", "-D", str(self._folder / "data"), "-U", name, f"--pwfile={secret}", "-A", "scram-sha-256"]
        self._run([*made, "--no-sync"], user=self._user)
        self._process.start()
        self._process.wait_until(self._is_ready, START_TIMEOUT_S)
        self.create(self._environment["POSTGRES_DB"])

    def create(self, database: str) -> None:
        """Make another database."""
        self._run(["createdb", "-h", "127.0.0.1", "-U", self._environment["POSTGRES_USER"], database])

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self._process.stop()
        self.port.close()
        shutil.rmtree(self._folder)

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it for good."""
        self.close()

    def _is_ready(self) -> bool:
        return run_check(self._check, self._environment, self._folder)

    def _run(self, words: list[str], user: str | None = None) -> None:
        command = [str(self._programs / words[0]), *words[1:]]
        environment = {**os.environ, **self._environment}
        done = subprocess.run(
            command, capture_output=True, check=False, cwd=self._folder, env=environment, text=True, user=user
        )
        if done.returncode:
            raise ServerError(f"{shlex.join(words)} ended with {done.returncode}: {done.stderr}")


def run_check(words: list[str], environment: Mapping[str, str], folder: Path) -> bool:
    """Run the command of a health check as the container would, and tell whether it is content."""
    command = ["/bin/sh", "-c", words[1]] if words[0] == "CMD-SHELL" else words[1:]
    done = subprocess.run(
        command,
        capture_output=True,
        check=False,
        cwd=folder,
        env={**os.environ, **environment},
        timeout=CHECK_TIMEOUT_S,
    )
    return done.returncode == 0
