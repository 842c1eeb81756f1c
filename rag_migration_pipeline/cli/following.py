"""A run of Dagster as its events tell it: ranges, what was proven, what failed, and which exit code that is.

Belongs here: what events mean. Does not belong here: asking for them (``dagster_client.py``), printing, waiting
(``launching.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rag_migration_pipeline import errors
from rag_migration_pipeline.cli.dagster_client import metadata_of
from rag_migration_pipeline.cli.exit_codes import ExitCode, worst_of
from rag_migration_pipeline.cli.session import exit_code_of
from rag_migration_pipeline.errors import MigrationError, RecordRejectedError

ENDED = ("SUCCESS", "FAILURE", "CANCELED")
_VALIDATE = "validate_range["


@dataclass(frozen=True)
class StepError:
    """Why a step failed.

    Attributes:
        step: Its name in the run, with the range's key where it has one.
        kind: The name of our error class; Dagster's or Python's where it is none of ours.
    """

    step: str
    kind: str
    message: str
    todo: str = ""

    @property
    def code(self) -> ExitCode:
        """The exit code of an error of this kind."""
        kind = getattr(errors, self.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, MigrationError)):
            return ExitCode.FAILED
        if issubclass(kind, RecordRejectedError):
            return ExitCode.PARTLY  # a range beyond its budget; the others went on
        return exit_code_of(kind(self.message))

    def to_dict(self) -> dict[str, str]:
        """Return it as JSON values."""
        return {"step": self.step, "type": self.kind, "message": self.message, "todo": self.todo}


@dataclass
class Following:
    """What is known of a run so far; takes its events in their order.

    Attributes:
        ranges: Ranges of the migration, by the run's plan; before there is one, by the partitions.
        green: Ranges that were green before there was a plan.
        records: Records of all ranges, by the plan.
        planned: Keys of the ranges that this run carries.
        carried: Keys of those that it has carried and proven.
        contradicted: Keys of those whose latest check in this run found differences.
        proof: What the proof of the whole says.
        looked: What a job that only looks has found.
        dry: What a rehearsal has found.
        failures: Steps that failed, by step.
        cause: Why a run failed that had no failed step.
    """

    ranges: int = 0
    green: int = 0
    records: int = 0
    planned: set[str] = field(default_factory=set)
    carried: set[str] = field(default_factory=set)
    contradicted: set[str] = field(default_factory=set)
    proof: dict[str, Any] = field(default_factory=dict)
    looked: dict[str, Any] = field(default_factory=dict)
    dry: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, StepError] = field(default_factory=dict)
    cause: str = ""
    _is_planned: bool = False

    @property
    def done(self) -> int:
        """Ranges that are green and need nothing more of this run."""
        return self.ranges - len(self.planned - self.carried | self.contradicted) if self._is_planned else self.green

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in the next event."""
        kind, step = event["__typename"], event.get("stepKey") or ""
        if kind == "MaterializationEvent":
            self._materialized(event["assetKey"]["path"][-1], step, event)
        elif kind == "AssetCheckEvaluationEvent":
            self._checked(event["evaluation"])
        elif kind == "ObservationEvent":
            self.looked = metadata_of(event)
        elif kind == "ExecutionStepOutputEvent" and event.get("outputName") == "ranges":
            self.planned.add(_mapping_key(event["message"]))
        elif kind == "ExecutionStepOutputEvent" and event.get("outputName") == "round":
            found = metadata_of(event)
            self.dry = {name: value for name, value in found.items() if "would be" in name}
        elif kind == "ExecutionStepFailureEvent":
            self.failures[step] = _failure(step, event)
        elif kind in ("RunFailureEvent", "RunCanceledEvent"):
            self.cause = str((event.get("error") or {}).get("message") or event.get("message") or "").strip()

    def _materialized(self, asset: str, step: str, event: Mapping[str, Any]) -> None:
        if asset == "source_manifest":
            facts = metadata_of(event)
            self.ranges, self.records = facts.get("ranges", 0), facts.get("dagster/row_count", 0)
            self._is_planned = True
        elif asset == "loaded_ranges" and step.startswith(_VALIDATE):
            self.carried.add(event["partition"])
        elif asset == "target_collection":
            self.proof = metadata_of(event)

    def _checked(self, check: Mapping[str, Any]) -> None:
        if check["assetKey"]["path"][-1] == "loaded_ranges":
            is_wrong = not check["success"] and check["severity"] == "ERROR"  # a warning: records were set aside
            (self.contradicted.add if is_wrong else self.contradicted.discard)(check["partition"])

    @property
    def rejected(self) -> int:
        """Records that were set aside, or would be."""
        return int(self.proof.get("rejected", 0) or self.dry.get("records that would be set aside", 0))

    def code(self, status: str) -> ExitCode:
        """Return the exit code of a run that has ended."""
        if status == "SUCCESS":
            return ExitCode.PARTLY if self.rejected else ExitCode.DONE
        return worst_of([error.code for error in self.failures.values()] or [ExitCode.FAILED])


def _mapping_key(message: str) -> str:
    """Return the key of a dynamic output: GraphQL (Dagster 1.13.27) tells it in the event's message only."""
    return message.partition('mapping key "')[2].partition('"')[0] or message


def _failure(step: str, event: Mapping[str, Any]) -> StepError:
    facts = metadata_of(event.get("failureMetadata"))
    message = str((event.get("error") or {}).get("message") or event.get("message") or "").strip()
    return StepError(
        step, str(facts.get("error", "StepFailure")), str(facts.get("what", message)), str(facts.get("what to do", ""))
    )
