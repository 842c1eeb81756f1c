"""Foreign judges look at the files in docker/: hadolint, a reader of the compose specification, Docker Compose itself.

Belongs here: tools that were not written here. Does not belong here: that the files agree with each other and with the
package (``unit/test_docker.py``), and that they run (``test_processes.py``).
"""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from rag_migration_pipeline_tests.contract.elsewhere import ROOT

DOCKER = ROOT / "docker"
DOCKERFILES = sorted(path.relative_to(ROOT).as_posix() for path in DOCKER.rglob("Dockerfile*") if not path.suffix)
TIMEOUT_S = 60.0


def interpolated() -> dict[str, Any]:
    """Return the compose file as it is with `POSTGRES_PASSWORD=set` and no other variable."""
    text = re.sub(
        r"\$\{(\w+)(?::([-?])([^}]*))?\}",
        lambda found: found[3] if found[2] == "-" else "set",
        (DOCKER / "compose.yaml").read_text(),
    )
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def read_strictly(content: dict[str, Any]) -> list[str]:
    compose = PyCompose.from_json(json.dumps(content))
    compose.validate()
    names: list[str] = compose.service_names()
    return names


def test_the_compose_file_is_what_the_specification_allows() -> None:
    content = interpolated()
    assert sorted(read_strictly(content)) == sorted(content["services"])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("restrt", "always"),
        ("restart", "sometimes"),
        ("depends_on", {"postgres": {"condition": "service_well"}}),
        ("ports", ["a:b"]),
        ("healthcheck", {"tests": ["CMD", "true"]}),
    ],
)
def test_the_reader_of_the_specification_sees_mistakes(option: str, value: object) -> None:
    """All but names that lead nowhere: unit/test_docker.py looks for those."""
    content = copy.deepcopy(interpolated())
    content["services"]["code"][option] = value
    with pytest.raises(ValueError, match=r"."):
        read_strictly(content)


def compose_config(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("docker")
    if program is None:
        pytest.skip("docker is not installed; the reader of the specification looks all the same")
    command = [program, "compose"]
    has_plugin = subprocess.run([*command, "version"], capture_output=True, check=False, timeout=TIMEOUT_S)
    if has_plugin.returncode:
        pytest.skip(
            "docker has no compose plugin; test_the_compose_file_is_what_the_specification_allows looks instead"
        )
    environment = {name: value for name, value in os.environ.items() if name != "POSTGRES_PASSWORD"} | variables
    return subprocess.run(
        # Without the user's own docker/.env, if there is one.
        [*command, "--env-file", os.devnull, "-f", str(DOCKER / "compose.yaml"), *options],
        capture_output=True,
        check=False,
        env=environment,
        text=True,
        timeout=TIMEOUT_S,
    )


def test_docker_compose_takes_the_file() -> None:
    done = compose_config("--profile", "stores", "--profile", "demo", "config", POSTGRES_PASSWORD="p@ss:w/rd$")
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert set(services) == set(interpolated()["services"])
    plain = compose_config("config", "--services", POSTGRES_PASSWORD="any")
    assert set(plain.stdout.split()) == {"postgres", "code", "webserver", "daemon"}, "the rest needs a profile"


def test_docker_compose_asks_for_the_password() -> None:
    done = compose_config("config", "--quiet")
    assert done.returncode != 0
    assert "POSTGRES_PASSWORD is missing" in done.stderr


def hadolint(path: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("hadolint")
    return subprocess.run(
        [program, "--no-color", "--failure-threshold", "style", path],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
        timeout=TIMEOUT_S,
    )


@pytest.mark.parametrize("path", DOCKERFILES)
def test_hadolint_finds_nothing(path: str) -> None:
    done = hadolint(path)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_looks(tmp_path: Path) -> None:
    worse = (DOCKER / "Dockerfile").read_text().replace("USER 10001:10001", "USER root")
    (tmp_path / "Dockerfile").write_text(worse)
    assert "DL3002" in hadolint(str(tmp_path / "Dockerfile")).stdout, "the last user should not be root"
