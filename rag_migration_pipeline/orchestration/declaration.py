"""What a migration is to Dagster: names of assets, partitions, pools, and the resources it reads and writes through.

Belongs here: names, and the way from resources to a `Migration`. Does not belong here: what runs (`assets`, `ops`).
"""

from dataclasses import dataclass, field

import dagster as dg

from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.spec import Migration

CODE_VERSION = "1"


def store_pool(resource_key: str) -> str:
    """Return the name of the pool of a store resource."""
    return f"store_{resource_key}"


@dataclass(frozen=True)
class MigrationDeclaration:
    """A migration between two store resources.

    Attributes:
        name: Prefix of the asset keys.
        source: Resource key of the source store.
        target: Resource key of the target store.
        state: Resource key of the `StateResource` that keeps manifests, receipts and staged files.
        target_pool: Pool of the target store; by default named after its resource, so that migrations which share the
            resource share the pool.
        source_pool: Pool of an embedded source, which has one user at a time: that of the migrations whose target it
            is (`store_pool`). None for servers, which may be read by several runs.
    """

    name: str
    source: str
    source_collection: str
    target: str
    target_collection: str
    options: MigrationOptions = field(default_factory=MigrationOptions)
    state: str = "state"
    target_pool: str | None = None
    source_pool: str | None = None

    def key(self, asset: str) -> dg.AssetKey:
        """Return the key of one of the migration's assets: source_manifest, loaded_ranges, target_collection."""
        return dg.AssetKey([self.name, asset])

    @property
    def partitions(self) -> dg.DynamicPartitionsDefinition:
        """The ranges as dynamic partitions."""
        return dg.DynamicPartitionsDefinition(name=f"{self.name}_ranges")

    @property
    def pool(self) -> str:
        """Pool that limits how many ops write to the target store at once, over all runs."""
        return self.target_pool or store_pool(self.target)

    @property
    def retry_policy(self) -> dg.RetryPolicy:
        """Attempts with exponential backoff (Dagster's factor is 2) and jitter."""
        options = self.options
        return dg.RetryPolicy(
            max_retries=options.max_attempts - 1,
            delay=options.retry_delay_s,
            backoff=dg.Backoff.EXPONENTIAL,
            jitter=dg.Jitter.PLUS_MINUS,
        )

    @property
    def resource_keys(self) -> set[str]:
        """Resources that every op of the migration needs."""
        return {self.source, self.target, self.state}

    def migration(self, resources: object) -> Migration:
        """Return the migration with the settings of the resources of a run."""
        return Migration(
            self.name,
            getattr(resources, self.source).settings(),
            self.source_collection,
            getattr(resources, self.target).settings(),
            self.target_collection,
            self.options,
        )
