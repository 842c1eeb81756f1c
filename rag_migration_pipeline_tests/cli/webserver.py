"""A stand-in for Dagster's webserver, which answers what Dagster 1.13.27 answered, shortened.

Belongs here: the answers, and the server that gives them. Does not belong here: what the command makes of them; that
the answers are still Dagster's is shown by the test against the real one (``test_launch_for_real.py``).
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RUN_ID = "d380c501-b5da-4bd5-808a-8afef15d72bc"
TAG = "rag_migration_pipeline/migration"


def job(migration: str, name: str) -> dict[str, Any]:
    return {"name": f"{migration}__{name}", "tags": [{"key": TAG, "value": migration}]}


def location(*migrations: str) -> dict[str, Any]:
    jobs = [{"name": "__ASSET_JOB", "tags": []}]
    jobs += [job(name, kind) for name in migrations for kind in ("migrate", "sync", "verify")]
    loaded = {"__typename": "RepositoryLocation", "repositories": [{"name": "__repository__", "jobs": jobs}]}
    return {"name": "rag_migration_pipeline", "loadStatus": "LOADED", "locationOrLoadError": loaded}


BROKEN = {
    "name": "other_location",
    "loadStatus": "LOADED",
    "locationOrLoadError": {"__typename": "PythonError", "message": "SpecError: migrations.yaml:3: unknown key\n"},
}


def workspace(*entries: Any) -> dict[str, Any]:
    return {"workspaceOrError": {"__typename": "Workspace", "locationEntries": list(entries)}}


def launched() -> dict[str, Any]:
    return {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": RUN_ID, "status": "QUEUED"}}}


def run(status: str) -> dict[str, Any]:
    times = {"creationTime": 1796037615.4, "startTime": 1796037618.1, "endTime": 1796037620.6}
    return {"runOrError": {"__typename": "Run", "runId": RUN_ID, "jobName": "docs__sync", "status": status, **times}}


def events(*found: Any) -> dict[str, Any]:
    return {"logsForRun": {"__typename": "EventConnection", "cursor": "c", "hasMore": False, "events": list(found)}}


def entries(**facts: Any) -> list[dict[str, Any]]:
    kinds = {bool: "boolValue", int: "intRepr", str: "text"}
    return [
        {"label": label.replace("_", " "), kinds[type(value)]: str(value) if type(value) is int else value}
        for label, value in facts.items()
    ]


def materialized(asset: str, step: str, partition: str | None = None, **facts: Any) -> dict[str, Any]:
    head = {"__typename": "MaterializationEvent", "eventType": "ASSET_MATERIALIZATION", "stepKey": step}
    where = {"assetKey": {"path": ["docs", asset]}, "partition": partition}
    return {**head, "message": f"Materialized value docs {asset}.", **where, "metadataEntries": entries(**facts)}


def planned(*keys: str, ranges: int) -> list[dict[str, Any]]:
    outputs = [
        {
            "__typename": "ExecutionStepOutputEvent",
            "stepKey": "plan_changes",
            "outputName": "ranges",
            "message": f'Yielded output "ranges" mapping key "{key}" of type "String". (Type check passed).',
            "metadataEntries": [],
        }
        for key in keys
    ]
    return [materialized("source_manifest", "plan_changes", ranges=ranges), *outputs]


def proven(**facts: Any) -> dict[str, Any]:
    return materialized("target_collection", "prove_collection", proven=True, records_written=40, **facts)


def failed(kind: str, step: str = "plan_changes") -> dict[str, Any]:
    facts = entries(error=kind, what="it went wrong.", what_to_do="Put it right.")
    return {
        "__typename": "ExecutionStepFailureEvent",
        "stepKey": step,
        "message": f'Execution of step "{step}" failed.',
        "error": {"message": "dagster._core.definitions.events.Failure: it went wrong. Put it right.\n"},
        "failureMetadata": {"metadataEntries": facts},
    }


NO_PARTITIONS = {"assetNodeOrError": {"__typename": "AssetNode", "assetPartitionStatuses": {}}}


class Webserver:
    """Answers GraphQL queries by the field that they ask for.

    Attributes:
        answers: Field -> data, or a function from the query to them, or status code and body.
        asked: Every query's variables, by field.
        port: Where it listens.
    """

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = {"assetNodeOrError": NO_PARTITIONS, **answers}
        self.asked: dict[str, list[Any]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = outer.answer(body["query"], body["variables"])
                data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Nothing is logged."""

        return Handler

    def answer(self, query: str, variables: Any) -> tuple[int, Any]:
        field = next((name for name in self.answers if f"{name}(" in query or f"{name} {{" in query), None)
        if field is None:
            return 400, {"errors": [{"message": "the stand-in has no answer to this"}]}
        self.asked.setdefault(field, []).append(variables)
        found: Any = self.answers[field]
        found = found(query) if callable(found) else found
        return found if isinstance(found, tuple) else (200, {"data": found})

    @contextmanager
    def running(self) -> Iterator["Webserver"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def dagster_with(*found: Any, status: str = "SUCCESS", **answers: Any) -> Webserver:
    """Return a webserver with one migration, docs, whose run has these events and this end."""
    return Webserver(
        {
            "workspaceOrError": workspace(location("docs")),
            "launchRun": launched(),
            "runOrError": run(status),
            "logsForRun": events(*found),
            **answers,
        }
    )
