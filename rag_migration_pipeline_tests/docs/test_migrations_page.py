"""docs/migrations.md names every option, every job and every option of a launch that there is."""

import re

from rag_migration_pipeline.orchestration.factory import migration_definitions
from rag_migration_pipeline.orchestration.run_options import RunOptions
from rag_migration_pipeline.spec import MigrationSpec
from rag_migration_pipeline_tests.contract.elsewhere import ROOT

TEXT = (ROOT / "docs" / "migrations.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.partition(f"\n### {title}\n")[2].partition("\n#")[0]


def test_every_option_is_in_the_table() -> None:
    table = TEXT.partition("| option | default | meaning |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", table))
    options = {item.alias or name for name, item in MigrationSpec.model_fields.items()}
    assert options - named - {"validate_target"} == set()  # which the table calls `validate`


def test_every_job_is_in_the_table() -> None:
    options = {"name": "docs", "source": "memory://a?name=x", "target": "memory://b?name=y"}
    jobs = {job.name.removeprefix("docs") for job in migration_definitions(options).jobs or ()}
    assert set(re.findall(r"^\| `<name>(__\w+)` \|", TEXT, flags=re.MULTILINE)) == jobs


def test_every_option_of_a_launch_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", section("Options of a launch")))
    assert set(RunOptions.model_fields) - named == set()
