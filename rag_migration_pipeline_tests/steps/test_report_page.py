"""The page of an integrity report says what report.json says, to people, and nothing on it is more than text."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline import __version__
from rag_migration_pipeline.engine import Engine
from rag_migration_pipeline.errors import RecordRejectedError, StagingError, ValidationError
from rag_migration_pipeline.records import RecordId, Rejection
from rag_migration_pipeline.spec import Migration, migration_from_spec
from rag_migration_pipeline.steps import report as report_module
from rag_migration_pipeline.steps import report_page
from rag_migration_pipeline.steps.integrity import NAMED_REASONS, RangeFacts, Report, Timing, quarantine_facts
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
from rag_migration_pipeline.stores.qdrant_schema import ID_KINDS
from rag_migration_pipeline_tests.steps.pages import Page
from rag_migration_pipeline_tests.steps.support import World, numbered, records, spec_of

COUNTS, DIFFERENCES = "Records of the whole collection", "Records that differ, by the target's ids"
RANGES, REASONS = "Counts and rates of each range", "Records set aside, by reason"
PLANNED, VERDICTS = "What was planned", "Verdicts on every field and feature of the source"
ORIGIN = "Origin of this report; packages with their versions"

PLAIN_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "time", "section", "div"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td"),
}
HOSTILE = "<script>alert(1)</script>\"' onload='x' &amp; </td></table><img src=//evil.example/x>"


def stored(world: World, migration: Migration | None = None) -> tuple[Page, dict[str, Any]]:
    """Return the page and the facts of the last proof."""
    state = world.state(migration)
    facts: dict[str, Any] = json.loads(state.report.read_bytes())
    return Page(state.report_page.read_text("utf-8")), facts


def contradicted(world: World, migration: Migration | None = None) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        world.run(migration)
    return caught.value


def test_the_numbers_are_those_of_the_json_report(world: World) -> None:
    world.fill(records(numbered(9)))
    migration = world.migration(filter={"n": {"$ne": 4}}, push_down=False)
    world.run(migration)
    page, facts = stored(world, migration)
    said = page.tables[COUNTS].pairs()
    names = {
        **{name: name for name in ("planned", "written")},
        "filtered out": "filtered",
        "set aside": "rejected",
        "skipped, as the target had them": "skipped",
        "left over from earlier generations": "left_over",
        "covered by an earlier proof": "unread",
        "in the target now": "target_count",
        "in the source now": "source_count",
    }
    assert {name: int(said[name]) for name in names} == {name: facts[key] for name, key in names.items()}
    found = facts["findings"]
    assert int(said["compared in this proof"]) == found["compared"] == 8
    ranges = page.tables[RANGES]
    assert ranges.column("range") == [item["key"] for item in facts["range_facts"]]
    for column, key in (("planned", "planned"), ("written", "written"), ("filtered out", "filtered")):
        assert [int(cell) for cell in ranges.column(column)] == [item[key] for item in facts["range_facts"]]
    assert sum(item["written"] for item in facts["range_facts"]) == facts["written"] == 8
    assert sum(item["compared"] for item in facts["range_facts"]) == found["compared"]
    assert "Proven: all 8 records" in page.text
    assert "Nothing that was looked at differs" in page.text


def test_the_plan_and_its_verdicts_are_on_the_page(world: World) -> None:
    world.fill(records(numbered(3)))
    world.run()
    page, facts = stored(world)
    verdicts = facts["migration_plan"]["verdicts"]
    assert set(page.tables[VERDICTS].column("subject")) == {item["subject"] for item in verdicts} >= {"id", "document"}
    assert page.tables[PLANNED].pairs()["records"] == "3 in 1 ranges"


def test_vectors_as_planned_and_the_state_of_the_index_are_on_the_page(world: World) -> None:
    world.fill(records(numbered(3)))
    world.run()
    page, facts = stored(world)
    (vector,) = facts["vectors"]
    table = page.tables["Vectors of the target"]
    assert table.rows == [["(unnamed)", vector["planned"], vector["found"], "yes"]]
    assert vector["planned"] == vector["found"] == "dense, 3 dimensions, cosine, float32"
    assert vector["differences"] == []
    assert (facts["readiness"]["is_ready"], facts["readiness"]["total"]) == (True, 3)
    assert f"Searches see all of it. The store says: {facts['readiness']['detail']}." in page.text


def test_it_says_who_when_and_with_which_versions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "a <b>user</b>")
    world.fill(records(numbered(3)))
    world.run()
    page, facts = stored(world)
    origin = page.tables[ORIGIN].pairs()
    assert origin["user"] == facts["maker"]["user"] == "a <b>user</b>"
    assert origin["host"] == facts["maker"]["host"]
    assert origin["rag_migration_pipeline"] == facts["maker"]["versions"]["rag_migration_pipeline"] == __version__
    assert re.fullmatch(r"3\.\d+\.\d+\S*", origin["python"])
    assert (origin["source"], origin["target"]) == (world.source.address, world.target.address)
    assert facts["proven_at"].startswith(origin["made at"].partition("+")[0])


def test_a_user_without_a_name_is_told_by_number(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise OSError("no such user")

    monkeypatch.setattr("getpass.getuser", nobody)
    world.fill(records(numbered(3)))
    world.run()
    assert stored(world)[1]["maker"]["user"].startswith("uid ")


def test_a_contradiction_names_what_is_missing_extra_and_changed_and_the_ranges(world: World) -> None:
    world.fill(records(numbered(9)))
    world.run()
    world.b.delete("docs", ["r001"])
    world.b.write("docs", records(["r008"], start=8, more=1))
    world.b.write("docs", records(["intruder"]))
    error = contradicted(world)
    page, facts = stored(world)
    first, _, third = [item["key"] for item in facts["range_facts"]]
    assert page.tables[DIFFERENCES].rows == [
        ["missing", "string:r001", "", first],
        ["extra", "string:intruder", "", ""],
        ["changed", "string:r008", "payload or document", third],
    ]
    assert facts["range_of"] == {"string:r001": first, "string:r008": third}
    assert page.tables[RANGES].column("missing") == ["1", "0", "0"]
    assert page.tables[RANGES].column("changed") == ["0", "0", "1"]
    assert "Contradicted: 1 missing, 1 extra, 1 changed" in page.text
    assert f"{first}, {third}" in page.text
    assert error.facts["report_page"] == str(world.state().report_page)
    world.b.delete("docs", ["intruder"])
    assert world.run()[1].is_proven
    assert "Proven" in stored(world)[0].text, "the page is that of the last proof"


def test_ids_collections_keys_and_reasons_are_text_and_never_tags(world: World) -> None:
    ids: list[RecordId] = [HOSTILE, "a\u202eb\x00c", f"{HOSTILE}{'x' * 2_000}", "plain"]
    world.a.create(spec_of(HOSTILE))
    batch = records(ids)
    world.a.upsert(HOSTILE, replace(batch, payloads=[{**payload, HOSTILE: 1} for payload in batch.payloads]))
    migration = replace(world.migration(), source_collection=HOSTILE, target_name=HOSTILE)
    world.run(migration)
    world.b.delete(HOSTILE, [ids[0], "plain"])
    world.b.write(HOSTILE, records([f"{HOSTILE} extra", ids[1]]))
    contradicted(world, migration)
    page, facts = stored(world, migration)
    raw = world.state(migration).report_page.read_text("utf-8")
    assert page.tags <= PLAIN_TAGS
    assert page.attributes <= {"lang", "charset", "name", "content", "http-equiv", *("class", "role", "tabindex")} | {
        *("aria-label", "scope", "datetime")
    }
    assert "<script" not in raw
    assert "\u202e" not in raw
    named = page.tables[DIFFERENCES].column("id")
    assert f"string:{HOSTILE}" in named
    assert f"string:{HOSTILE} extra" in named
    assert f"string:{HOSTILE}" in facts["findings"]["missing_ids"]
    assert any(HOSTILE in subject for subject in page.tables[VERDICTS].column("subject"))
    assert max(map(len, named)) <= 301


def test_texts_without_a_utf8_form_are_told_all_the_same(proven: Report, tmp_path: Path) -> None:
    found = replace(proven.findings, missing=("string:\ud800",), changed={"string:\udfff b": "payload \ud800"})
    report = replace(proven, findings=found, quarantine=quarantine_facts([Rejection("r", "load", "\ud800", "E")], "f"))
    report_page.write_page(tmp_path / "page.html", report)
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    assert page.tables[DIFFERENCES].column("id") == ["string:\\xd800", "string:\\xdfff b"]
    facts = json.loads(report.to_json())
    assert facts["findings"]["missing_ids"] == ["string:\ud800"]
    assert facts["quarantine"]["by_reason"] == {"\ud800": 1}
    assert facts["range_facts"] == json.loads(proven.to_json())["range_facts"]
    assert facts["proven_at"] == json.loads(proven.to_json())["proven_at"]


def test_reasons_of_records_set_aside_are_counted_and_escaped(world: World) -> None:
    world.fill(records(numbered(9)))
    world.fill(records(["r001", "r005"], poison=True))
    migration = world.poisoned(max_rejected=2)
    world.run(migration)
    page, facts = stored(world)
    reason = "one of 1 records is refused."
    folder = world.state().quarantines(facts["plan"])
    assert facts["quarantine"] == {
        "count": 2,
        "by_reason": {reason: 2},
        "other_reasons": 0,
        "folder": str(folder),
    }
    assert folder.is_dir()
    assert page.tables[REASONS].rows == [[reason, "2"]]
    assert str(folder) in page.text
    with pytest.raises(RecordRejectedError, match="2 of 9") as caught:
        world.run(world.poisoned(max_rejected=1))
    assert "Not proven: 2 records were set aside, more than allowed" in stored(world)[0].text
    assert caught.value.facts["report_page"] == str(world.state().report_page)


def test_very_many_reasons_are_added_up() -> None:
    many = [Rejection(f"r{row}", "load", f"<b>{row}</b>", "E") for row in range(NAMED_REASONS + 7)]
    facts = quarantine_facts([*many, many[3]], "folder")
    assert (facts.count, len(facts.by_reason), facts.other_reasons) == (NAMED_REASONS + 8, NAMED_REASONS, 7)
    assert next(iter(facts.by_reason.items())) == ("<b>3</b>", 2)


@pytest.mark.parametrize(("validate", "said"), [("counts", "Counted, not compared"), ("none", "Nothing is claimed")])
def test_less_than_a_proof_is_not_called_one(world: World, validate: str, said: str) -> None:
    world.fill(records(numbered(5)))
    migration = world.migration(validate=validate)
    world.run(migration)
    page, _ = stored(world, migration)
    assert said in page.text
    assert "Proven:" not in page.text
    assert page.tables[RANGES].column("compared") == ["not read"] * 2


def test_rates_are_those_that_were_noted_and_no_others(world: World) -> None:
    world.fill(records(numbered(9)))
    with world.opened() as context:
        first, second, third = [entry.key for entry in context.manifest.ranges]
        for key in (first, second, third):
            migrate_range(context, key)
        prove_collection(context, timings={first: Timing(4, 0.5), second: Timing(0, 2.0), "other": Timing(1, 1.0)})
    page, facts = stored(world)
    assert [(item["duration_s"], item["records_per_s"]) for item in facts["range_facts"]] == [
        (0.5, 8.0),
        (2.0, None),
        (None, None),
    ]
    assert page.tables[RANGES].column("seconds") == ["0.5", "2.0", ""]
    assert page.tables[RANGES].column("records per second") == ["8.0", "", ""]


def test_the_engine_gives_the_rates_of_its_ledger_and_the_clients_version(tmp_path: Path) -> None:
    with QdrantEdgeSettings(path=str(tmp_path / "source")).open(create=True) as store:
        store.create(replace(spec_of("docs"), id_kinds=ID_KINDS))
        assert not store.upsert("docs", replace(records([*range(20)]), documents=None)).rejections
    urls = {"source": f"qdrant+edge://{tmp_path}/source/docs", "target": f"qdrant+edge://{tmp_path}/target/docs"}
    migration = migration_from_spec({"name": "m", **urls, "range_count": 7})
    assert Engine(migration, tmp_path / "state").run().is_done
    (root,) = (tmp_path / "state").glob("*/")
    facts = json.loads((root / "report.json").read_bytes())
    ledger = json.loads((root / "ledger.json").read_bytes())["ranges"]
    page = Page((root / "report.html").read_text("utf-8"))
    assert len(facts["range_facts"]) == 3
    for item in facts["range_facts"]:
        noted = ledger[item["key"]]
        assert item["duration_s"] == noted["duration_s"] > 0
        assert item["records_per_s"] == round(noted["carried"] / noted["duration_s"], 1)
    assert page.tables[RANGES].column("seconds") == [str(item["duration_s"]) for item in facts["range_facts"]]
    assert page.tables[ORIGIN].pairs()["qdrant-edge-py"] == facts["maker"]["versions"]["qdrant-edge-py"]


def test_a_part_that_is_done_again_is_not_rated_as_a_whole_range(world: World) -> None:
    world.fill(records(numbered(30)))
    migration = world.migration(incremental=True, range_count=30)
    assert Engine(migration, world.state_dir).run().is_done
    world.fill(records(["r003"], start=900))
    assert Engine(migration, world.state_dir).run().is_done
    (item,) = stored(world, migration)[1]["range_facts"]
    ledger = json.loads(world.state(migration).ledger.read_bytes())["ranges"][item["key"]]
    assert (item["written"], ledger["carried"]) == (30, 1)
    assert item["records_per_s"] == round(1 / ledger["duration_s"], 1)


@pytest.fixture
def proven(world: World) -> Report:
    """A report of a proof that was made."""
    world.fill(records(numbered(3)))
    return world.run()[1]


def made(key: str, **facts: Any) -> RangeFacts:
    base: dict[str, Any] = {"planned": 1, "written": 1, "filtered": 0, "skipped": 0, "rejected": 0}
    return RangeFacts(key, **{**base, "is_read_back": True, **facts})


def test_of_very_many_ranges_those_with_anything_wrong_come_first(proven: Report) -> None:
    ranges = [made(f"k{number:05d}") for number in range(1_500)]
    ranges[1_400] = made("k01400", rejected=1)
    ranges[1_499] = made("k01499", missing=1)
    page = Page("".join(report_page.page_of(replace(proven, range_facts=tuple(ranges)))))
    keys = page.tables[RANGES].column("range")
    assert keys[:3] == ["k01499", "k01400", "k00000"]
    assert len(keys) == 1_000
    assert "500 ranges are left out" in page.text
    facts = json.loads(replace(proven, range_facts=tuple(ranges)).to_json())
    assert len(facts["range_facts"]) == 1_500


def test_of_very_many_ids_the_first_are_named_and_the_others_counted(world: World) -> None:
    world.fill(records(numbered(300)))
    migration = world.migration(range_count=100)
    world.run(migration)
    world.b.delete("docs", numbered(250))
    contradicted(world, migration)
    page, facts = stored(world, migration)
    assert page.tables[DIFFERENCES].column("id") == [f"string:{name}" for name in numbered(report_page.SHOWN_IDS)]
    assert "150 more are left out here" in page.text
    assert page.tables[COUNTS].pairs()["missing"] == "250" == str(facts["findings"]["missing"])


def test_it_needs_nothing_from_elsewhere(proven: Report) -> None:
    raw = "".join(report_page.page_of(proven))
    page = Page(raw)
    assert page.tags <= PLAIN_TAGS
    assert not page.attributes & {"src", "href", "style", "action"}
    assert not re.search(r"url\(|@import|https?:", raw)
    assert "prefers-color-scheme:dark" in raw
    assert "width=device-width" in raw
    assert all(table.heads for table in page.tables.values())


def test_a_page_that_cannot_be_written_leaves_no_claim(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """report.json comes last: it says that the proof was made."""

    def full(path: Path, _report: Report) -> None:
        path.write_text("half of it")
        raise OSError(28, "No space left on device")

    world.fill(records(numbered(3)))
    monkeypatch.setattr(report_module, "write_page", full)
    with pytest.raises(StagingError, match=r"report\.html: No space left"):
        world.run()
    assert not world.state().report.exists()
    assert list(world.state().root.glob("*.html")) == []
