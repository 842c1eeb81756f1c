"""The services of docker/compose.yaml as plain processes, with their commands, environments and health checks.

Belongs here: translating what the compose file says of containers (hosts, ports, folders) to one machine's loopback and
a temporary folder. Does not belong here: what is expected of the running services (``test_processes.py``).
"""

import contextlib
import json
import os
import re
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from rag_migration_pipeline_tests.contract.elsewhere import ROOT
from rag_migration_pipeline_tests.servers.postgres import Postgres, run_check
from rag_migration_pipeline_tests.servers.process import ReservedPort, ServerError, ServerProcess

DOCKER = ROOT / "docker"
OURS = ("code", "webserver", "daemon")
PASSWORD = "p@ss:w/rd"
START_TIMEOUT_S = 180.0
"""Importing Dagster and the clients takes seconds per process, and a busy machine many."""
STOP_TIMEOUT_S = 60.0
CHECK_TIMEOUT_S = 60.0
POLL_S = 0.2


class Stack:
    """PostgreSQL, code server, webserver and daemon, wired as in the compose file."""

    def __init__(self, folder: Path, migrations: str, programs: Path) -> None:
        """Lay out the containers' folders; nothing runs before ``with``.

        Args:
            folder: Where all files go.
            migrations: The content of migrations.yaml.
            programs: PostgreSQL's programs.
        """
        self.folder, self.home = folder, folder / "home"
        self._ports = {"4000": ReservedPort(), "3000": ReservedPort()}
        self.web = f"http://127.0.0.1:{self._ports['3000'].number}"
        text = (DOCKER / "compose.yaml").read_text()
        self._services = yaml.safe_load(re.sub(r"\$\{POSTGRES_PASSWORD:[^}]*\}", f"'{PASSWORD}'", text))["services"]
        for name in ("home", "storage", "config", "state"):
            (folder / name).mkdir()
        (folder / "config" / "migrations.yaml").write_text(migrations)
        for name in ("dagster.yaml", "close_lost_runs.py"):
            shutil.copy(DOCKER / name, self.home)
        workspace = (DOCKER / "workspace.yaml").read_text().replace("host: code", "host: 127.0.0.1")
        (self.home / "workspace.yaml").write_text(self._local(workspace))
        server = self._services["postgres"]
        self.postgres = Postgres(programs, server["environment"], unescaped(server["healthcheck"]["test"]))
        self.processes = {name: self._describe(name) for name in OURS}

    def _local(self, text: str) -> str:
        """Return a text with loopback and free ports in the place of the containers'."""
        for port, reserved in self._ports.items():
            text = re.sub(rf"\b{port}\b", str(reserved.number), text)
        return text.replace("0.0.0.0", "127.0.0.1")

    def _environment(self, name: str) -> dict[str, str]:
        given = {key: value for key, value in self._services[name]["environment"].items() if value is not None}
        return {
            **given,
            "DAGSTER_POSTGRES_HOST": "127.0.0.1",
            "DAGSTER_POSTGRES_PORT": str(self.postgres.port.number),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_STORAGE": str(self.folder / "storage"),
            "RAG_MIGRATE_CONFIG": str(self.folder / "config" / "migrations.yaml"),
            "RAG_MIGRATE_STATE_DIR": str(self.folder / "state"),
        }

    def _describe(self, name: str) -> ServerProcess:
        return ServerProcess(
            name,
            [self._local(str(word)) for word in self._services[name]["command"]],
            self.folder / f"{name}.log",
            env=self._environment(name),
            cwd=self.home,
            stop_timeout_s=STOP_TIMEOUT_S,
        )

    def is_healthy(self, name: str) -> bool:
        """Run the health check of a service once."""
        words = [self._local(word) for word in unescaped(self._services[name]["healthcheck"]["test"])]
        return run_check(words, self._environment(name), self.home)

    def start(self, name: str) -> None:
        """Start a service, and wait until it is healthy."""
        self.processes[name].start()
        self.processes[name].wait_until(lambda: self.is_healthy(name), START_TIMEOUT_S)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the data of an answer of the webserver's GraphQL."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.web}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=CHECK_TIMEOUT_S) as answer:
            content = json.load(answer)
        assert "errors" not in content, content["errors"]
        data: dict[str, Any] = content["data"]
        return data

    def wait_for(self, what: Callable[[], Any], timeout_s: float = START_TIMEOUT_S) -> Any:
        """Ask until there is an answer that is true, and return it."""
        deadline = time.monotonic() + timeout_s
        while not (found := what()):
            if time.monotonic() > deadline:
                logs = [f"{name}:\n{process.log_tail()}" for name, process in self.processes.items()]
                raise ServerError("\n".join(["waited in vain", *logs]))
            time.sleep(POLL_S)
        return found

    def __enter__(self) -> Self:
        """Start all, in the order of ``depends_on``."""
        try:
            self.postgres.start()
            for name in OURS:
                self.start(name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all, the last one first."""
        self.stop()

    def stop(self) -> None:
        """Stop all, the last one first."""
        with contextlib.ExitStack() as stack:
            for port in self._ports.values():
                stack.callback(port.close)
            stack.callback(self.postgres.close)
            for name in OURS:
                stack.callback(self.processes[name].stop)


def unescaped(words: list[str]) -> list[str]:
    """Return words of the compose file with its ``$$`` as the ``$`` that the container sees."""
    return [word.replace("$$", "$") for word in words]
