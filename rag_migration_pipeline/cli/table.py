"""The options of the command line: one entry per key of `spec.MigrationSpec`.

Belongs here: names, kinds, help texts. Does not belong here: what the options mean (``options.py``), how they are read
(``signatures.py``), which source of options wins (``merging.py``).

Nothing is imported here that costs time: ``--help`` needs no more than this.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "number", "switch", "choice", "yaml"]
"""``number`` and ``yaml`` are texts that are read as YAML values; ``@FILE`` reads them from a file."""

WHERE, WHAT, TARGET, RUNNING, SYNC, FAILURES, DAGSTER = (
    "Where from and where to",
    "What travels, and how it changes",
    "What the target becomes",
    "How it runs",
    "Syncing",
    "Failures and conflicts",
    "By itself, in Dagster",
)


@dataclass(frozen=True)
class Entry:
    """One option.

    Attributes:
        key: Its key in a migration file.
        flags: Its names on the command line.
        kind: See `Kind`.
        aliases: Other keys of a migration file that mean the same.
    """

    key: str
    flags: tuple[str, ...]
    kind: Kind
    help: str
    panel: str
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return f"RAG_MIGRATE_{self.key.upper()}"


def _entry(
    key: str,
    kind: Kind,
    panel: str,
    text: str,
    *flags: str,
    choices: tuple[str, ...] = (),
    metavar: str | None = None,
    aliases: tuple[str, ...] = (),
) -> Entry:
    named = flags or (f"--{key.replace('_', '-')}",)
    return Entry(key, named, kind, text, panel, choices, metavar, aliases)


TABLE: tuple[Entry, ...] = (
    _entry("source", "text", WHERE, "Source collection, e.g. chroma://localhost:8000/docs.", metavar="URL"),
    _entry("target", "text", WHERE, "Target collection, e.g. qdrant://localhost:6333/docs.", metavar="URL"),
    _entry("name", "text", WHERE, "Name of the migration; with a file of several, which of them.", "--name", "-n"),
    _entry("filter", "text", WHAT, "Which records to take: 'status=active,year=2025', or the filter language as YAML."),
    _entry("push_down", "switch", WHAT, "Let the source do what it can of the filter; the result is the same."),
    _entry("mapping", "yaml", WHAT, "How records change on their way (docs/mapping.md)."),
    _entry("ids", "yaml", WHAT, "Where ids come from: {strategy: keep|uuid5|field, ..}."),
    _entry("vectors", "yaml", WHAT, "Source name of a vector: its name in the target, or null to leave it out."),
    _entry("envelope", "switch", WHAT, "Carry what the target cannot hold in a reserved key (docs/fidelity.md)."),
    _entry("accept_lossy", "yaml", WHAT, "Consent to lossy verdicts: true, or a list of subjects."),
    _entry("translate_names", "switch", TARGET, "Give the collection a name that the target allows, reversibly."),
    _entry("target_fields", "yaml", TARGET, "Typed fields of a new target: by name, infer or none."),
    _entry("infer_count", "integer", TARGET, "About how many records typed fields are inferred from."),
    _entry("dry_run", "switch", RUNNING, "Read, filter, map and check every record; write nothing."),
    _entry("resume", "switch", RUNNING, "Go on with an interrupted run; what is done stays done."),
    _entry(
        "validate_target",
        "choice",
        RUNNING,
        "Read every record back, only count, or claim nothing.",
        "--validate",
        choices=("full", "counts", "none"),
        aliases=("validate",),
    ),
    _entry(
        "page_count",
        "integer",
        RUNNING,
        "Records per batch; by default what was measured to be fast.",
        "--batch-size",
        "--page-count",
        aliases=("batch_size",),
    ),
    _entry("range_count", "integer", RUNNING, "Records per range, the unit that is proven and resumed."),
    _entry("batch_bytes", "integer", RUNNING, "Largest batch handed on at once, in bytes."),
    _entry("prefetch_bytes", "integer", RUNNING, "How many bytes of records a worker reads ahead; 0 for none."),
    _entry("parallel", "switch", RUNNING, "Run several ranges at once."),
    _entry(
        "max_workers", "integer", RUNNING, "How many; by default what the stores allow.", "--workers", "--max-workers"
    ),
    _entry("worker_type", "choice", RUNNING, "Workers are threads or processes.", choices=("thread", "process")),
    _entry("limits", "yaml", RUNNING, "How fast stores may be asked: {target: {records_per_s: 1000}}."),
    _entry("checkpoint_file", "text", RUNNING, "Where the ledger is kept.", metavar="FILE"),
    _entry("keep_staging", "switch", RUNNING, "Keep staged files after their range is proven."),
    _entry("incremental", "switch", SYNC, "Carry only what changed since the last completed run."),
    _entry(
        "detect",
        "choice",
        SYNC,
        "How changes are found; only full sees a change in a vector alone.",
        choices=("ids", "payload", "watermark", "full"),
    ),
    _entry("watermark", "text", SYNC, "Field that grows with every change, for --detect watermark.", metavar="FIELD"),
    _entry(
        "deletes",
        "choice",
        SYNC,
        "What the source lost stays, is deleted too, or stays with a mark.",
        choices=("keep", "mirror", "tombstone"),
    ),
    _entry(
        "both_changed",
        "choice",
        SYNC,
        "Records that changed in the source and in the target too: what the source has is written, or the sync fails.",
        choices=("overwrite", "fail"),
    ),
    _entry("tombstone", "text", SYNC, "Payload key of that mark.", metavar="KEY"),
    _entry("max_deletes", "number", SYNC, "How many one sync may delete: a count, or a share such as 0.1."),
    _entry(
        "conflict",
        "choice",
        FAILURES,
        "Ids that others have in the target; without it the target must be empty.",
        choices=("overwrite", "skip", "fail"),
    ),
    _entry("keep_overwritten", "switch", FAILURES, "Keep records of others before they are overwritten, for rollback."),
    _entry("max_rejected", "number", FAILURES, "How many records may be set aside: a count, or a share such as 0.01."),
    _entry(
        "max_attempts",
        "integer",
        FAILURES,
        "Attempts per request, the first included.",
        "--retry",
        "--max-retries",
        aliases=("max_retries",),
    ),
    _entry(
        "retry_delay_s",
        "number",
        FAILURES,
        "Seconds before the second attempt.",
        "--retry-delay",
        aliases=("retry_delay",),
    ),
    _entry("retry_backoff", "number", FAILURES, "By what the wait grows from attempt to attempt."),
    _entry("schedule", "text", DAGSTER, "When it is synced, as cron has it: '0 2 * * *'.", metavar="CRON"),
    _entry("timezone", "text", DAGSTER, "Time zone of the schedule.", metavar="ZONE"),
    _entry("declarative", "switch", DAGSTER, "Run the schedule by automation conditions of the assets."),
    _entry("watch", "yaml", DAGSTER, "Sync when the source changes: {every_s: 60, by: count|ids|watermark}."),
    _entry("notify", "yaml", DAGSTER, "Who is told of failures: [{to: log}, {to: 'https://..', secret_env: ..}]."),
    _entry("owners", "yaml", DAGSTER, "Whose the assets are: [team:data, someone@example.com]."),
    _entry("max_lag_s", "number", DAGSTER, "Seconds after which the last proof is too old."),
    _entry("ranges_per_run", "integer", DAGSTER, "Ranges that one run of a backfill takes; by default all."),
)
