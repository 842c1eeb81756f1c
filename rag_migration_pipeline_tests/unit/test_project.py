"""The project's files keep the rules that tools would otherwise break in silence."""

import configparser
import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import rag_migration_pipeline

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_setup_cfg_holds_nothing_but_the_name() -> None:
    """setuptools ignores or drops the rest once [project] exists, and python_requires there crashes the build."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    assert {section: dict(parser[section]) for section in parser.sections()} == {
        "metadata": {"name": "rag_migration_pipeline"}
    }


def test_the_code_location_is_loaded_by_workspace_yaml_alone() -> None:
    """A [tool.dagster] block would win over workspace.yaml without a word."""
    assert "dagster" not in PROJECT["tool"]
    assert "dg" not in PROJECT["tool"]
    (entry,) = yaml.safe_load((ROOT / "workspace.yaml").read_text(encoding="utf-8"))["load_from"]
    assert entry["python_module"]["module_name"] == "rag_migration_pipeline.definitions"


def test_dg_finds_the_same_code_location_and_the_component() -> None:
    """`dg check defs` takes the project from dg.toml, and the component from the entry point."""
    settings = tomllib.loads((ROOT / "dg.toml").read_text(encoding="utf-8"))
    assert settings == {"directory_type": "project", "project": {"root_module": "rag_migration_pipeline"}}
    (entry,) = importlib.metadata.entry_points(group="dagster_dg_cli.registry_modules", name="rag_migration_pipeline")
    assert entry.load() is rag_migration_pipeline


def test_one_version_everywhere() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert importlib.metadata.version("rag_migration_pipeline") == rag_migration_pipeline.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", rag_migration_pipeline.__version__)


def test_warnings_are_errors_and_marks_are_registered() -> None:
    options = PROJECT["tool"]["pytest"]["ini_options"]
    assert options["filterwarnings"][0] == "error"
    assert options["xfail_strict"] is True
    assert {"--strict-markers", "--strict-config"} <= set(options["addopts"])
    assert PROJECT["tool"]["mypy"]["strict"] is True


@pytest.mark.parametrize("group", ["dependencies", "edge", "dev"])
def test_requirements_have_floors_and_no_silent_caps(group: str) -> None:
    project = PROJECT["project"]
    found = project["dependencies"] if group == "dependencies" else project["optional-dependencies"][group]
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    for requirement in found:
        if "<" in requirement or "==" in requirement:
            (line,) = [line for line in lines if requirement in line]
            assert "#" in line, f"{requirement} is capped without its reason beside it"
        elif not requirement.startswith(("types-", "rag_migration_pipeline", "pandas-stubs")):
            assert ">=" in requirement, requirement


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "rag_migration_pipeline" / "py.typed").exists()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["rag_migration_pipeline"]


def test_tests_are_not_installed() -> None:
    assert PROJECT["tool"]["setuptools"]["packages"]["find"]["exclude"] == ["rag_migration_pipeline_tests*"]


def test_the_licence_is_apache() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:200]


def test_every_lint_exception_has_its_reason() -> None:
    for number, line in enumerate((ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines(), start=1):
        if re.match(r'\s+"[A-Z]{1,4}\d+"', line) and "select" not in line and "[" not in line:
            assert "#" in line or line.strip().startswith('"D413"'), f"line {number}: {line.strip()}"
