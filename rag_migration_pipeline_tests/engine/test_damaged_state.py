"""Whatever file of the state is damaged: the next run names it and what to do, or does without it; records stay."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline.engine import Engine
from rag_migration_pipeline.errors import ManifestError, StagingError
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.context import open_migration
from rag_migration_pipeline.steps.journal import Journal, noted_ids
from rag_migration_pipeline_tests.steps.support import World, dump, numbered, records

WATCHED: dict[str, Any] = {"incremental": True, "detect": "watermark", "watermark": "n"}

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda content: content[: len(content) * 2 // 3],
    "something else": lambda content: b"\x00\xff" * (len(content) // 2 + 1),
    "other JSON": lambda _: b"[1]",
}


def files_of(world: World, migration: Migration) -> Iterator[Path]:
    root = world.state(migration).root
    return (path for path in sorted(root.rglob("*")) if path.is_file() and path.stat().st_size)


def error_of_a_run(world: World, migration: Migration) -> StagingError | ManifestError | None:
    """Run it; return the error that ends it, or None where it is done."""
    try:
        outcome = Engine(migration, world.state_dir).run()
    except (StagingError, ManifestError) as error:
        return error
    assert outcome.is_done
    return None


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("options", [{"incremental": True}, WATCHED], ids=["payload", "watermark"])
def test_every_file_of_a_finished_migration(world: World, damage: str, options: dict[str, Any]) -> None:
    world.fill(records(numbered(30)))
    migration = world.migration(**options)
    assert Engine(migration, world.state_dir).run().is_done
    assert Engine(migration, world.state_dir).run().is_done
    there = dump(world.b)
    named = []
    for path in list(files_of(world, migration)):
        content = path.read_bytes()
        path.write_bytes(DAMAGES[damage](content))
        error = error_of_a_run(world, migration)
        if error is not None:
            assert str(path) in str(error)
            assert "remove" in error.todo.lower()
            named.append(path.name)
            path.write_bytes(content)
        assert dump(world.b) == there, path.name
    assert {"manifest.json", "ledger.json", "report.json"} <= set(named)
    assert ("sync.json" in named) is ("watermark" in options)


@pytest.mark.parametrize("line", [b"\x00\xff", b'{"a": 1}', b"7"])
def test_the_journal_of_a_range_that_was_interrupted(world: World, line: bytes) -> None:
    world.fill(records(numbered(30)))
    with open_migration(world.migration(), world.state_dir, plan=True) as context:
        key = context.manifest.ranges[0].key
        Journal(context.state, key).note(["a", "b"])
        assert set(noted_ids(context.state)) == {"a", "b"}
        path = context.state.journal(key)
        path.write_bytes(line + b"\n")
        with pytest.raises(StagingError, match=f"{path.name} is damaged: .* Remove it"):
            noted_ids(context.state)
