"""What a migration is to Dagster: names of assets, partitions, pools, and the resources it reads and writes through.

Belongs here: names, and the way from resources to a `Migration`. Does not belong here: what runs (`assets`, `ops`).
"""

from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from rag_migration_pipeline.filters.nodes import EVERYTHING
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.orchestration.words import run_key
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import StateFolder, state_folder

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
    def run_key(self) -> str:
        """Resource key of the launch's options (`run_options.RunOptions`)."""
        return run_key(self.name)

    @property
    def resource_keys(self) -> set[str]:
        """Resources that every op of the migration needs."""
        return {self.source, self.target, self.state, self.run_key}

    def state_folder(self, resources: object) -> StateFolder:
        """Return the migration's state folder.

        Raises:
            StagingError: There is no such kind of place for staged files as is set.
        """
        staging = getattr(resources, self.state).staging_place()
        return state_folder(self.state_dir(resources), self.migration(resources).identity, staging)

    def state_dir(self, resources: object) -> Path:
        """Return the folder of all migrations' state."""
        path: Path = getattr(resources, self.state).path()
        return path

    def options_in(self, resources: object) -> MigrationOptions:
        """Return the options, with those of a launch."""
        launch = getattr(resources, self.run_key, None)
        return self.options if launch is None else launch.applied_to(self.options)

    def migration(self, resources: object) -> Migration:
        """Return the migration with the settings of the resources of a run.

        Raises:
            SpecError: An option of the launch is wrong.
        """
        launch = getattr(resources, self.run_key, None)
        return Migration(
            self.name,
            getattr(resources, self.source).settings(),
            self.source_collection,
            getattr(resources, self.target).settings(),
            self.target_collection,
            self.options_in(resources),
            self.options,
            EVERYTHING if launch is None else launch.narrowing(),
        )
