"""The integrity report: what the proof of a whole collection says, as one value and as JSON.

Belongs here: the report's facts, who and what made it, its JSON. Does not belong here: the proof (``steps/report.py``),
the page for people (``steps/report_page.py``).
"""

import getpass
import json
import os
import platform
import socket
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, islice
from typing import Any

import orjson

from rag_migration_pipeline.records import Rejection
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.drift import VectorFacts
from rag_migration_pipeline.steps.plan_view import MigrationPlan
from rag_migration_pipeline.steps.validate import Findings
from rag_migration_pipeline.stores.readiness import Readiness

NAMED = 1_000
"""Most ids of each kind that a report names; the counts are always complete."""

NAMED_REASONS = 100
"""Most reasons of records set aside that are counted one by one: a reason may quote a record."""

_PACKAGES = {
    "dagster": "dagster",
    "chromadb": "chromadb",
    "qdrant_client": "qdrant-client",
    "qdrant_edge": "qdrant-edge-py",
    "pymilvus": "pymilvus",
    "milvus_lite": "milvus-lite",
}
"""Module -> package; those that this process has imported are named."""


@dataclass(frozen=True)
class Timing:
    """How long a range took when it was carried last.

    Attributes:
        records: Records that were read then; fewer than the range has where a part was done again.
    """

    records: int
    duration_s: float

    @property
    def rate(self) -> float | None:
        """Records per second; None where one of the two was not noted."""
        return round(self.records / self.duration_s, 1) if self.records > 0 and self.duration_s > 0 else None


@dataclass(frozen=True, slots=True)
class RangeFacts:
    """What the report says of one range: its receipt's counts, and what was found when it was read back.

    Attributes:
        key: The range's key.
        planned: Records of the source.
        is_read_back: Whether this proof read the range again.
        compared: Records that this proof compared.
        duration_s: Seconds that its last carrying took; None where nobody noted them.
        records_per_s: Records of that carrying per second; None where nobody noted it.
    """

    key: str
    planned: int
    written: int
    filtered: int
    skipped: int
    rejected: int
    is_read_back: bool
    compared: int = 0
    missing: int = 0
    changed: int = 0
    duration_s: float | None = None
    records_per_s: float | None = None

    @property
    def is_contradicted(self) -> bool:
        """Whether the target holds something else than the range wrote."""
        return bool(self.missing or self.changed)


def range_facts(
    key: str, planned: int, counts: Mapping[str, int], found: Findings | None, timing: Timing | None
) -> RangeFacts:
    """Return what is known of a range.

    Args:
        key: The range's key.
        planned: Records of the source.
        counts: Those of its receipt.
        found: What reading it back found; None where it was not read.
        timing: How long its last carrying took; None where nobody noted it.
    """
    return RangeFacts(
        key=key,
        planned=planned,
        **{name: counts.get(name, 0) for name in ("written", "filtered", "skipped", "rejected")},
        is_read_back=found is not None,
        compared=0 if found is None else found.compared,
        missing=0 if found is None else len(found.missing),
        changed=0 if found is None else len(found.changed),
        duration_s=None if timing is None else timing.duration_s or None,
        records_per_s=None if timing is None else timing.rate,
    )


@dataclass(frozen=True)
class QuarantineFacts:
    """Who was set aside.

    Attributes:
        count: How many records.
        by_reason: Reason -> how many, the most frequent first, at most `NAMED_REASONS`.
        other_reasons: Records with a reason that is not among these.
        folder: Where the files lie; empty where there are none.
    """

    count: int = 0
    by_reason: Mapping[str, int] = field(default_factory=dict)
    other_reasons: int = 0
    folder: str = ""


def quarantine_facts(rejections: Iterable[Rejection], folder: str) -> QuarantineFacts:
    """Count records that were set aside by their reasons."""
    reasons = Counter(item.reason for item in rejections)
    common = dict(reasons.most_common(NAMED_REASONS))
    return QuarantineFacts(reasons.total(), common, reasons.total() - sum(common.values()), folder if reasons else "")


@dataclass(frozen=True)
class Maker:
    """Who made a report, and with what.

    Attributes:
        user: Name of the user whose process it was.
        host: Name of the host.
        versions: Package -> version; this project, Python, and the clients that the process has imported.
        source: Address of the source, without secrets.
        target: Address of the target, without secrets.
    """

    user: str = ""
    host: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    target: str = ""


def maker_of(migration: Migration) -> Maker:
    """Return who this process is, and which versions it runs."""
    from rag_migration_pipeline import __version__

    versions = {"rag_migration_pipeline": __version__, "python": platform.python_version()}
    for module, package in _PACKAGES.items():
        if module in sys.modules:
            try:
                versions[package] = version(package)
            except PackageNotFoundError:  # a client that lies on the path without being installed
                versions[package] = "unknown"
    return Maker(_user(), socket.gethostname(), versions, migration.source.address, migration.target.address)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


@dataclass(frozen=True)
class Report:
    """What the proof of a whole collection found.

    Attributes:
        planned: Records of the source that the filter might take when the manifest was made.
        written: Records that the ranges wrote.
        filtered: Planned records that the filter left out; those that a pushed-down filter left out were not planned.
        skipped: Records that stayed as the target had them.
        rejected: Records that were set aside, within the error budget; they are in the quarantine files.
        left_over: Records that earlier generations wrote and that the source lost or the filter no longer takes.
        target_count: Records in the target now.
        source_count: Records in the source now; another number than ``planned`` is told, not a failure.
        is_proven: Every record was read back and nothing is missing, extra or changed.
        rejections: Id text and reason of the records that were set aside, at most `NAMED`.
        target_collection: The target collection, under the name that it has there.
        contradicted: Keys of the ranges in which something is missing or changed; their receipts are withdrawn.
        notes: What the proof does not contradict and a user of the target should know, one sentence each.
        generation: The manifest's; -1 in reports of versions before it was noted.
        unread: Written records that were not read again, because an earlier proof covers them.
        quarantine: How many records were set aside, why, and where their files lie.
        range_facts: Counts and rates of each range, in order.
        range_of: Id -> range, of missing and changed ids that are named and known to be of a range.
        migration_plan: The plan with its verdicts.
        maker: Who proved it, and with what.
        vectors: The target's vectors, as planned and as found.
        readiness: Whether searches see all of the target, as its store says; None in reports of versions before.
    """

    migration: str
    identity: str
    plan: str
    proven_at: datetime
    ranges: int
    planned: int
    written: int
    filtered: int
    skipped: int
    rejected: int
    left_over: int
    target_count: int
    source_count: int
    validation: str
    is_proven: bool
    findings: Findings
    rejections: Mapping[str, str] = field(default_factory=dict)
    target_collection: str = ""
    contradicted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    generation: int = -1
    unread: int = 0
    quarantine: QuarantineFacts = field(default_factory=QuarantineFacts, repr=False)
    range_facts: tuple[RangeFacts, ...] = field(default=(), repr=False)
    range_of: Mapping[str, str] = field(default_factory=dict, repr=False)
    migration_plan: MigrationPlan | None = field(default=None, repr=False)
    maker: Maker = field(default_factory=Maker, repr=False)
    vectors: tuple[VectorFacts, ...] = field(default=(), repr=False)
    readiness: Readiness | None = field(default=None, repr=False)

    def to_json(self) -> bytes:
        """Return the report as indented JSON, with at most `NAMED` ids of each kind."""
        facts: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        found = self.findings
        facts["findings"] = {
            "compared": found.compared,
            "missing": len(found.missing),
            "extra": len(found.extra),
            "changed": len(found.changed),
            "missing_ids": found.missing[:NAMED],
            "extra_ids": found.extra[:NAMED],
            "changed_ids": dict(islice(found.changed.items(), NAMED)),
        }
        facts["migration_plan"] = None if self.migration_plan is None else self.migration_plan.to_dict()
        try:
            return orjson.dumps(facts, option=orjson.OPT_INDENT_2)
        except TypeError:  # an id or a reason with a lone surrogate, which has no UTF-8 form
            return json.dumps(facts, default=_plain, indent=2).encode()


def _plain(value: Any) -> Any:
    """Return what JSON knows for a value that it does not."""
    return value.isoformat() if isinstance(value, datetime) else asdict(value)


def named_ranges(contradicted: Sequence[tuple[str, Findings]]) -> dict[str, str]:
    """Return the range of each missing or changed id that the report names.

    Args:
        contradicted: Ranges in which something differs, each with what does.
    """
    missing = ((record_id, key) for key, found in contradicted for record_id in found.missing)
    changed = ((record_id, key) for key, found in contradicted for record_id in found.changed)
    return dict(chain(islice(missing, NAMED), islice(changed, NAMED)))
