"""Flag over environment over file; several migrations; what is shown of it; and that no secret is."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices

from rag_migration_pipeline.cli.merging import asked
from rag_migration_pipeline.cli.table import TABLE
from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.spec import MigrationSpec
from rag_migration_pipeline_tests.cli.running import COUNT, Place, held

SECRET = "do-not-show-me-7391"
PAIR = {"source": "memory://a", "target": "memory://b"}


def test_every_option_of_a_migration_is_a_flag_and_a_variable() -> None:
    assert {entry.key for entry in TABLE} == set(MigrationSpec.model_fields)
    flags = [flag for entry in TABLE for flag in entry.flags]
    assert len(set(flags)) == len(flags)
    for entry in TABLE:
        field = MigrationSpec.model_fields[entry.key]
        named = field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else [field.alias]
        assert set(entry.aliases) == set(named) - {entry.key, None}, entry.key
        choices: Any = getattr(field.annotation, "__members__", None)
        if choices is not None:
            assert entry.choices == tuple(member.value for member in choices.values()), entry.key


def test_a_flag_goes_before_the_environment_which_goes_before_the_file(place: Place) -> None:
    text = "name: m\nsource: memory://a\ntarget: memory://b\nbatch_size: 1\nrange_count: 1\nretry: {max_retries: 1}\n"
    config = place.file("m.yaml", text + "conflict: skip\n")
    done = place.run(
        *("--config", config, "--show-config", "--batch-size", "3"),
        RAG_MIGRATE_PAGE_COUNT="2",
        RAG_MIGRATE_RANGE_COUNT="2",
        RAG_MIGRATE_MAX_ATTEMPTS="2",
        RAG_MIGRATE_PARALLEL="true",
        RAG_MIGRATE_LIMITS="{target: {records_per_s: 5}}",
    )
    assert done.code == 0, done.err
    shown = yaml.safe_load(done.out)
    assert (shown["page_count"], shown["range_count"], shown["max_attempts"], shown["conflict"]) == (3, 2, 2, "skip")
    assert (shown["parallel"], shown["limits"]["target"]["records_per_s"]) == (True, 5.0)
    again = place.file("again.yaml", done.out)
    assert place.run("--config", again, "--show-config").out == done.out


def test_the_file_and_its_state_may_come_from_the_environment(place: Place) -> None:
    config = place.file("m.toml", f'name = "m"\nsource = "{place.source}"\ntarget = "${{WHERE}}"\n')
    done = place.run(
        *("--quiet", "-o", "json"), RAG_MIGRATE_CONFIG=config, WHERE=place.target, RAG_MIGRATE_STATE_DIR="elsewhere"
    )
    assert done.code == 0, done.err
    assert done.err == ""
    assert len(held(place.target)) == COUNT
    assert list((place.root / "elsewhere").glob("*/ledger.json"))


def test_one_of_several_migrations_or_all(place: Place) -> None:
    two = "\n---\n".join(
        yaml.safe_dump({"name": name, "source": place.source, "target": f"qdrant+edge://{place.root}/{name}/docs"})
        for name in ("first", "second")
    )
    config = place.file("two.yaml", two)
    done = place.run("--config", config)
    assert (done.code, "first, second; none is named. Use --name or --all." in done.err) == (2, True)
    done = place.run("--config", config, "--name", "second", "-o", "json")
    assert (done.code, done.facts["migration"]) == (0, "second")
    assert not (place.root / "first").exists()
    done = place.run("--config", config, "--all", "--conflict", "overwrite", "-o", "json")
    assert done.code == 0, done.err
    assert [item["migration"] for item in done.facts] == ["first", "second"]


def test_one_that_fails_does_not_stop_the_others(place: Place) -> None:
    missing = place.source.removesuffix("docs") + "nothing"
    values = [("first", missing), ("second", place.source)]
    two = "\n---\n".join(
        yaml.safe_dump({"name": name, "source": source, "target": f"qdrant+edge://{place.root}/{name}/docs"})
        for name, source in values
    )
    done = place.run("--config", place.file("two.yaml", two), "--all", "-o", "json")
    assert done.code == 1
    assert done.facts[0]["error"]["type"] == "CollectionNotFoundError"
    assert done.facts[1]["vectors_migrated"] == COUNT


@pytest.mark.parametrize(
    "target",
    [f"qdrant://h:6333/docs?api_key={SECRET}", f"milvus://root:{SECRET}@h:19530/docs"],
)
def test_a_secret_in_a_url_is_warned_about_and_masked(place: Place, target: str) -> None:
    done = place.run("--source", place.source, "--target", target, "--show-config")
    assert done.code == 0
    assert "warning: the target URL carries a secret" in done.err
    assert SECRET not in done.out + done.err
    assert "***" in yaml.safe_load(done.out)["target"]


def test_what_is_wrong_in_a_file_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("name: m\nsource: memory://a\ntarget: memory://b\nconflict: ask\n")
    with pytest.raises(SpecError, match=r"m\.yaml, document 1: .*line 4, conflict"):
        asked({}, path)
    with pytest.raises(SpecError, match=r"line 4, conflict.*; not in the file but given as --batch-size or "):
        asked({"page_count": "many"}, path)
    path.write_text("[1, 2]")
    with pytest.raises(SpecError, match="expected a mapping of options, got list"):
        asked({}, path)


def test_a_migration_without_a_name_is_named_after_its_collection() -> None:
    assert asked({"source": "memory://My-Docs", "target": "memory://b"}, None)[0].spec.name == "my_docs"


def test_texts_of_flags_are_read_as_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "mapping.yaml").write_text("field_mapping: {a: b}\n")
    given = {
        **PAIR,
        "mapping": f"@{tmp_path / 'mapping.yaml'}",
        "max_rejected": "0.5",
        "accept_lossy": "[id]",
        "filter": "{n: {$gt: 3}}",
    }
    spec = asked(given, None)[0].spec
    assert spec.mapping is not None
    assert (spec.max_rejected, spec.accept_lossy, spec.filter) == (0.5, ("id",), {"n": {"$gt": 3}})
