"""What a detect run found, kept for the sensor that asked for it.

Belongs here: one small file in the migration's state. Does not belong here: finding out (``steps/watching.py``), what
a sensor makes of it (`watching`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from rag_migration_pipeline.digests import digest_ids
from rag_migration_pipeline.records import RecordId
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.state_files import read_facts, write_content
from rag_migration_pipeline.steps.changes import Changes
from rag_migration_pipeline.steps.manifest import Manifest


@dataclass(frozen=True)
class Detected:
    """What changed in a source.

    Attributes:
        plan: The manifest that it was compared with.
        generation: Its generation.
        count: How many records are concerned.
        digest: Of the ids concerned, and what became of each.
    """

    plan: str
    generation: int
    count: int
    digest: str


def note_detected(state: StateFolder, manifest: Manifest, changes: Changes) -> None:
    """Keep what was found; the file of the last time is replaced."""
    found = {
        "plan": manifest.plan_digest,
        "generation": manifest.generation,
        "count": changes.count,
        "digest": digest_ids(_concerned(changes)),
    }
    write_content(state.detected, orjson.dumps(found))


def read_detected(state: StateFolder, manifest: Manifest) -> Detected | None:
    """Return what was found last, if that was about this manifest."""
    if not state.detected.exists():
        return None
    facts = read_facts(state.detected, "Remove it: the next detect run writes it anew.")
    found = Detected(
        str(facts.get("plan")), int(facts.get("generation", -1)), int(facts.get("count", 0)), str(facts.get("digest"))
    )
    return found if (found.plan, found.generation) == (manifest.plan_digest, manifest.generation) else None


def _concerned(changes: Changes) -> Iterator[RecordId]:
    yield "added"
    yield from changes.added
    for what, by_range in (("changed", changes.changed), ("gone", changes.gone)):
        yield what
        for key in sorted(by_range):
            yield key
            yield from by_range[key]
