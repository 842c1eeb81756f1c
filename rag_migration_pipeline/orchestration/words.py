"""Names by which runs and results are found in Dagster; importable without Dagster, because the command needs them too.

Belongs here: names that both the code location and those who ask a running instance use. Does not belong here: names of
assets and pools, which depend on the migration (`declaration`).
"""

from enum import StrEnum

MIGRATION_TAG = "rag_migration_pipeline/migration"
"""Tag of every run of a migration's jobs: its name."""

RANGE_CHECK = "records_identical"
COLLECTION_CHECK = "collection_identical"
METRIC_CHECK = "metric_kept"
INDEX_CHECK = "index_ready"
QUARANTINE_CHECK = "quarantine_within_budget"

PAGE = "integrity report"
"""Name of the metadata entry that leads to the page of a proof."""


class Kind(StrEnum):
    """What a round carries; its job is the migration's name, two underscores, and this.

    Attributes:
        MIGRATE: What is not proven; where all is and the source's ids changed, everything anew.
        SYNC: What is not proven; where all is, what changed in the source since.
        RETRY: What is not proven, of a migration that was begun.
    """

    MIGRATE = "migrate"
    SYNC = "sync"
    RETRY = "retry_failed"


def run_key(migration: str) -> str:
    """Return the key of the resource with the options of a launch (`run_options.RunOptions`)."""
    return f"{migration}_run"
