"""Dagster's webserver, asked through GraphQL.

Belongs here: requests, the queries' texts, what may be wrong with an answer. Does not belong here: what a run's events
mean (``following.py``), what is printed (``launching.py``).

The queries were checked against the schema of Dagster 1.13.27. Dagster itself is not imported: it takes seconds.
"""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from rag_migration_pipeline.errors import DagsterRefusedError, DagsterUnavailableError, SpecError
from rag_migration_pipeline.orchestration.words import MIGRATION_TAG, RANGE_CHECK

DEFAULT_URL = "http://localhost:3000"
TIMEOUT_S = 60.0
PAGE_COUNT = 1_000
_WORKSPACE = """
query { workspaceOrError { __typename
  ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename
    ... on RepositoryLocation { repositories { name jobs { name tags { key value } } } }
    ... on PythonError { message } } } }
  ... on PythonError { message } } }
"""
_LAUNCH = """
mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId status } }
  ... on RunConfigValidationInvalid { errors { message } }
  ... on PipelineNotFoundError { message }
  ... on UnauthorizedError { message }
  ... on InvalidSubsetError { message }
  ... on PythonError { message } } }
"""
_RUN = """
query($run: ID!) { runOrError(runId: $run) { __typename
  ... on Run { runId jobName status creationTime startTime endTime }
  ... on RunNotFoundError { message }
  ... on PythonError { message } } }
"""
_METADATA = """
metadataEntries { label
  ... on IntMetadataEntry { intRepr }
  ... on FloatMetadataEntry { floatValue }
  ... on BoolMetadataEntry { boolValue }
  ... on TextMetadataEntry { text }
  ... on PathMetadataEntry { path } }
"""
_EVENTS = f"""
query($run: ID!, $after: String, $limit: Int) {{
  logsForRun(runId: $run, afterCursor: $after, limit: $limit) {{ __typename
    ... on EventConnection {{ cursor hasMore events {{ __typename
      ... on MessageEvent {{ stepKey eventType message }}
      ... on ExecutionStepOutputEvent {{ outputName {_METADATA} }}
      ... on ExecutionStepFailureEvent {{ error {{ message }} failureMetadata {{ {_METADATA} }} }}
      ... on MaterializationEvent {{ assetKey {{ path }} partition {_METADATA} }}
      ... on AssetCheckEvaluationEvent {{ evaluation {{ assetKey {{ path }} partition success severity }} }}
      ... on ObservationEvent {{ assetKey {{ path }} {_METADATA} }}
      ... on RunFailureEvent {{ error {{ message }} }} }} }}
    ... on RunNotFoundError {{ message }}
    ... on PythonError {{ message }} }} }}
"""
_PARTITIONS = """
query($ranges: AssetKeyInput!) { assetNodeOrError(assetKey: $ranges) { __typename
  ... on AssetNode { assetPartitionStatuses { ... on DefaultPartitionStatuses {
    materializedPartitions failedPartitions unmaterializedPartitions materializingPartitions } } } } }
"""
_LATEST = f"""
query($key: AssetKeyInput!) {{ assetNodeOrError(assetKey: $key) {{ __typename
  ... on AssetNode {{
    assetMaterializations(limit: 1) {{ runId timestamp {_METADATA} }}
    assetChecksOrError {{ ... on AssetChecks {{ checks {{ name executionForLatestMaterialization {{
      runId status timestamp evaluation {{ severity description }} }} }} }} }} }} }} }}
"""
_CARRIED_AT = """
query($key: AssetKeyInput!, $partitions: [String!]) { assetNodeOrError(assetKey: $key) { __typename
  ... on AssetNode { latestMaterializationByPartition(partitions: $partitions) { partition timestamp } } } }
"""
_CHECKED = """
query($key: AssetKeyInput!, $check: String!, $limit: Int!) {
  assetCheckExecutions(assetKey: $key, checkName: $check, limit: $limit) {
    partition status timestamp evaluation { severity } } }
"""
_RUNS = """
query($filter: RunsFilter!, $limit: Int!) { runsOrError(filter: $filter, limit: $limit) { __typename
  ... on Runs { results { runId jobName status creationTime startTime endTime } }
  ... on InvalidPipelineRunsFilterError { message }
  ... on PythonError { message } } }
"""
_STEPS = """
query($run: ID!) { runOrError(runId: $run) { __typename
  ... on Run { stepStats { stepKey status } }
  ... on RunNotFoundError { message }
  ... on PythonError { message } } }
"""


@dataclass(frozen=True)
class Launchable:
    """A migration that a code location has.

    Attributes:
        jobs: The names of its jobs, without its own in front.
    """

    name: str
    location: str
    repository: str
    jobs: tuple[str, ...]


@dataclass(frozen=True)
class Workspace:
    """What the code locations of an instance have.

    Attributes:
        migrations: By name, sorted.
        broken: Locations that did not load, each with the reason.
    """

    migrations: Mapping[str, Launchable] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    def chosen(self, name: str | None) -> Launchable:
        """Return the migration of a name; without one, the only migration that there is.

        Raises:
            DagsterRefusedError: It is not there, and a location did not load.
            SpecError: It is not there, or none is named and there are several.
        """
        is_only = len(self.migrations) == 1 and not self.broken
        for found in self.migrations.values():
            if found.name == name or (name is None and is_only):
                return found
        there = f"those that there are: {', '.join(self.migrations) or 'none'}"
        asked = "none is named" if name is None else f"no code location has a migration named {name!r}"
        if self.broken:
            told = "; ".join(f"{location}: {reason}" for location, reason in self.broken.items())
            said = f"{asked}; {there}. Not loaded is code location {told}"
            raise DagsterRefusedError(said, todo="Correct it and reload it in the UI (Deployment).")
        raise SpecError(f"{asked}; {there}.", todo="Use --name; a new migration is seen after a reload (Deployment).")


class DagsterClient:
    """Questions to one webserver.

    Attributes:
        url: Its address, without a slash at the end.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        """Take in where it is; nothing is asked yet.

        Raises:
            SpecError: It is no HTTP address.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise SpecError(f"--url: expected an address such as {DEFAULT_URL}, got {url!r}.")
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s

    def page_of(self, run_id: str) -> str:
        """Return the address of a run's page."""
        return f"{self.url}/runs/{run_id}"

    def workspace(self) -> Workspace:
        """Return the migrations of all code locations."""
        found = self._ask(_WORKSPACE, "workspaceOrError")
        migrations: dict[str, Launchable] = {}
        broken: dict[str, str] = {}
        for entry in found["locationEntries"]:
            loaded = entry["locationOrLoadError"]
            if loaded is None:
                broken[entry["name"]] = f"it is {entry['loadStatus'].lower()}."
            elif loaded["__typename"] == "PythonError":
                broken[entry["name"]] = loaded["message"].strip()
            else:
                for repository in loaded["repositories"]:
                    for item in _migrations(repository, entry["name"]):
                        migrations[item.name] = item
        return Workspace(dict(sorted(migrations.items())), broken)

    def launch(self, migration: Launchable, job: str, config: Mapping[str, Any]) -> str:
        """Submit a job of a migration, and return the id of its run.

        Raises:
            SpecError: The location does not have the job, or its configuration is wrong.
        """
        selector = {
            "repositoryLocationName": migration.location,
            "repositoryName": migration.repository,
            "jobName": f"{migration.name}__{job}",
        }
        params = {"selector": selector, "runConfigData": config, "mode": "default"}
        found = self._ask(_LAUNCH, "launchRun", {"params": params}, {"RunConfigValidationInvalid"})
        if found["__typename"] == "RunConfigValidationInvalid":
            told = " ".join(error["message"] for error in found["errors"])
            raise SpecError(f"Dagster refuses the options of this launch: {told}", todo="Correct --set.")
        return str(found["run"]["runId"])

    def run(self, run_id: str) -> dict[str, Any]:
        """Return job, status and times of a run."""
        return self._ask(_RUN, "runOrError", {"run": run_id})

    def events(self, run_id: str, after: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the events of a run that came after a cursor, each with the cursor behind its page."""
        has_more = True
        while has_more:
            page = self._ask(_EVENTS, "logsForRun", {"run": run_id, "after": after, "limit": PAGE_COUNT})
            after, has_more = page["cursor"], page["hasMore"]
            for event in page["events"]:
                yield str(after), event

    def partitions(self, name: str) -> dict[str, list[str]]:
        """Return the ranges of a migration: ``materialized``, ``failed``, ``unmaterialized``, ``materializing``."""
        found = self._asset(_PARTITIONS, {"ranges": {"path": [name, "loaded_ranges"]}}).get("assetPartitionStatuses")
        return {key.removesuffix("Partitions"): list(keys) for key, keys in (found or {}).items()}

    def latest(self, name: str, asset: str) -> dict[str, Any]:
        """Return the latest materialization of an asset without partitions, and its checks."""
        return self._asset(_LATEST, {"key": {"path": [name, asset]}})

    def carried_at(self, name: str, keys: list[str]) -> dict[str, float]:
        """Return when ranges were carried last, in seconds since 1970; those that never were are left out."""
        if not keys:
            return {}
        found = self._asset(_CARRIED_AT, {"key": {"path": [name, "loaded_ranges"]}, "partitions": keys})
        events = found.get("latestMaterializationByPartition", [])
        return {event["partition"]: float(event["timestamp"]) / 1_000 for event in events if event is not None}

    def contradicted(self, name: str) -> dict[str, float]:
        """Return the ranges whose latest check found differences, and when; of the latest checks only."""
        variables = {"key": {"path": [name, "loaded_ranges"]}, "check": RANGE_CHECK, "limit": PAGE_COUNT}
        latest: dict[str, dict[str, Any]] = {}
        for item in self._post({"query": _CHECKED, "variables": variables}).get("assetCheckExecutions") or ():
            latest.setdefault(item["partition"], item)  # newest first
        return {
            key: item["timestamp"]
            for key, item in latest.items()
            if item["status"] == "FAILED" and (item["evaluation"] or {}).get("severity") == "ERROR"
        }

    def runs(self, name: str, limit: int) -> list[dict[str, Any]]:
        """Return the latest runs of a migration's jobs, newest first."""
        asked = {"filter": {"tags": [{"key": MIGRATION_TAG, "value": name}]}, "limit": limit}
        found: list[dict[str, Any]] = self._ask(_RUNS, "runsOrError", asked)["results"]
        return found

    def steps(self, run_id: str) -> dict[str, str]:
        """Return the steps of a run that began, each with its status."""
        found = self._ask(_STEPS, "runOrError", {"run": run_id})["stepStats"]
        return {item["stepKey"]: item["status"] for item in found}

    def _asset(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is known of an asset; nothing where the instance does not have it."""
        found = self._ask(query, "assetNodeOrError", variables, {"AssetNotFoundError"})
        return {} if found["__typename"] == "AssetNotFoundError" else found

    def _ask(
        self, query: str, what: str, variables: Mapping[str, Any] | None = None, expected: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return one part of an answer; an error in it is raised, unless it is an expected one."""
        data = self._post({"query": query, "variables": dict(variables or {})})
        found = data.get(what)
        kind = str(found.get("__typename")) if isinstance(found, dict) else "nothing"
        is_wrong = kind == "nothing" or kind.endswith(("Error", "Invalid", "Conflict"))
        if is_wrong and kind not in expected:
            told = found.get("message", "") if isinstance(found, dict) else ""
            raise DagsterRefusedError(f"{self.url} answered {what} with {kind}: {told.strip()}")
        answer: dict[str, Any] = found or {}
        return answer

    def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310  the scheme was looked at
            f"{self.url}/graphql", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310
                text = answer.read()
        except urllib.error.HTTPError as error:
            text = error.read()
            if error.code in _AWAY:
                raise DagsterUnavailableError(f"{self.url} answered {error.code} {error.reason}.") from None
            if error.code in _FORBIDDEN:
                raise DagsterRefusedError(f"{self.url} answered {error.code} {error.reason}.") from None
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            reason = getattr(error, "reason", None) or error
            raise DagsterUnavailableError(
                f"nobody answers at {self.url}: {reason}.",
                todo="Start Dagster (dagster dev -w workspace.yaml), or say where it is: --url, DAGSTER_WEBSERVER_URL.",
            ) from None
        return self._data(text)

    def _data(self, text: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(text)
            data, errors = answer.get("data"), answer.get("errors")
        except (ValueError, AttributeError):
            start = text[:80].decode("utf-8", "replace").strip()
            raise DagsterRefusedError(
                f"{self.url} is no webserver of Dagster: it answers {start!r}.", todo="Correct --url."
            ) from None
        if errors or not isinstance(data, dict):
            told = "; ".join(str(error.get("message", error)) for error in errors or ())
            raise DagsterRefusedError(
                f"{self.url} answered with errors: {told or 'no data'}.",
                todo="Tried with Dagster 1.13.27; compare its version.",
            )
        return data


_AWAY, _FORBIDDEN = (502, 503, 504), (401, 403)


def _migrations(repository: Mapping[str, Any], location: str) -> Iterator[Launchable]:
    """Yield the migrations of a repository: what their jobs' tags say."""
    jobs: dict[str, list[str]] = {}
    for job in repository["jobs"]:
        name = next((tag["value"] for tag in job["tags"] if tag["key"] == MIGRATION_TAG), None)
        if name is not None:
            jobs.setdefault(name, []).append(job["name"].removeprefix(f"{name}__"))
    for name, found in jobs.items():
        yield Launchable(name, location, repository["name"], tuple(found))


def metadata_of(event: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the metadata of an event: numbers, switches and texts by their label."""
    named = ("floatValue", "boolValue", "text", "path")
    found: dict[str, Any] = {}
    for entry in (event or {}).get("metadataEntries") or ():
        value = next((entry[name] for name in named if entry.get(name) is not None), None)
        if "intRepr" in entry:
            found[entry["label"]] = int(entry["intRepr"])  # intValue is None beyond 32 bits
        elif value is not None:
            found[entry["label"]] = value
    return found
