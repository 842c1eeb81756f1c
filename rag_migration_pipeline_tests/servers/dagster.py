"""Dagster's own processes as they run in production: daemon and webserver, each with its code server, on SQLite.

What belongs here: starting and stopping them on an instance of their own, and asking the webserver through GraphQL.
What does not: which migrations there are (a file or folder that the test writes).
"""

import http.client
import json
import re
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

import rag_migration_pipeline
from rag_migration_pipeline_tests.servers.process import ReservedPort, ServerProcess

READY_TIMEOUT_S = 180.0
ROOT = Path(rag_migration_pipeline.__file__).parents[1]
SHIPPED = Path(rag_migration_pipeline.__file__).parent / "orchestration" / "dagster.yaml"


class DagsterProcesses:
    """A daemon, and on request a webserver, over the project's ``workspace.yaml``.

    Attributes:
        home: ``DAGSTER_HOME``.
        state_dir: The folder of the migrations' state.
    """

    def __init__(self, folder: Path, *, has_webserver: bool = False, **environment: str) -> None:
        """Describe them; nothing runs before ``with``.

        Args:
            folder: An empty folder for instance, state and logs.
            has_webserver: Whether there is a webserver too.
            **environment: Variables that say which migrations there are.
        """
        self.home = folder / "home"
        self.state_dir = folder / "state"
        self.home.mkdir(parents=True)
        (self.home / "dagster.yaml").write_text(SHIPPED.read_text())
        self._port = ReservedPort()
        variables = {
            "DAGSTER_HOME": str(self.home),
            "RAG_MIGRATE_STATE_DIR": str(self.state_dir),
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        workspace = str(ROOT / "workspace.yaml")

        def process(name: str, *command: str) -> ServerProcess:
            log = folder / f"{name}.log"
            arguments = [sys.executable, "-m", *command]
            return ServerProcess(name, arguments, log, env=variables, cwd=ROOT, stop_timeout_s=30.0)

        self.daemon = process("daemon", "dagster._daemon", "run", "-w", workspace)
        address = ("-h", "127.0.0.1", "-p", str(self._port.number))
        self.webserver = process("webserver", "dagster_webserver", "-w", workspace, *address) if has_webserver else None

    def __enter__(self) -> "DagsterProcesses":
        """Start them; the webserver answers when this returns."""
        with self.instance():
            pass  # makes the tables: two processes that begin at once get into each other's way (SQLite, 1.13.27)
        if self.webserver is not None:
            self.webserver.start()
            self.webserver.wait_until(self._answers, READY_TIMEOUT_S)
        self.daemon.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop them, and everything that they started."""
        for started in (self.daemon, self.webserver):
            if started is not None:
                started.stop()
        self._port.close()

    @property
    def url(self) -> str:
        """The address of the webserver."""
        return f"http://127.0.0.1:{self._port.number}"

    def instance(self) -> dg.DagsterInstance:
        """Return the instance, to look at; the caller disposes of it."""
        return dg.DagsterInstance.from_config(str(self.home))

    def query(self, text: str, **variables: Any) -> Any:
        """Ask the webserver through GraphQL, and return its data.

        Raises:
            AssertionError: It answered with errors.
        """
        body = json.dumps({"query": text, "variables": variables}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/graphql", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode("utf-8", "replace")[:2_000]) from None
        assert "errors" not in found, found["errors"]
        return found["data"]

    def worker_of(self, instance: dg.DagsterInstance, run_id: str) -> psutil.Process | None:
        """Return the process that executes a run, as the run itself says, if there is one."""
        for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            found = re.search(r"process for run \(pid: (\d+)\)", entry.message)
            if found is not None:
                with suppress(psutil.NoSuchProcess):
                    return psutil.Process(int(found[1]))
        return None

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port.number, timeout=5)
        try:
            connection.request("GET", "/server_info")
            return connection.getresponse().status == http.client.OK
        except http.client.HTTPException:
            return False
        finally:
            connection.close()
