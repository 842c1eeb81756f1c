"""The files in docker/ agree with each other, with the package and with Dagster; no Docker, no PostgreSQL needed."""

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
import yaml
from dagster._config import resolve_to_config_type
from dagster._config.post_process import post_process_config
from dagster._config.validate import validate_config
from dagster._core.execution.plan.resume_retry import ReexecutionStrategy
from dagster._core.instance.ref import InstanceRef
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from dagster._core.storage.tags import GRPC_INFO_TAG, WILL_RETRY_TAG
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import get_reexecution_strategy
from dagster._serdes.config_class import ConfigurableClassData, class_from_code_pointer
from dagster_postgres.utils import pg_url_from_config

from rag_migration_pipeline.definitions import CONFIG_VARIABLE
from rag_migration_pipeline.locators import SECRETS, parse_locator
from rag_migration_pipeline.orchestration.config import read_migrations

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
SHIPPED = ROOT / "rag_migration_pipeline" / "orchestration" / "dagster.yaml"
CONNECTION = {
    "DAGSTER_POSTGRES_HOST": "postgres",
    "DAGSTER_POSTGRES_USER": "dagster",
    "DAGSTER_POSTGRES_PASSWORD": "p@ss:w/rd",
    "DAGSTER_POSTGRES_DB": "dagster",
    "DAGSTER_POSTGRES_PORT": "5432",
}
OURS = ("code", "webserver", "daemon")
"""The services that run the image of the Dockerfile."""
STORE_PORTS = {"chroma": 8000, "qdrant": 6333, "milvus": 19530}
STORE_SECRETS = {
    prefix + variable
    for family in SECRETS.values()
    for variable in family.values()
    for prefix in ("", "SOURCE_", "TARGET_")
}

STAGING = {"RAG_MIGRATE_STAGING", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3"} | {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
}
FROM_OUTSIDE = STORE_SECRETS | STAGING


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return content


def service(name: str) -> dict[str, Any]:
    content: dict[str, Any] = compose()["services"][name]
    return content


def command(name: str) -> str:
    return " ".join(str(word) for word in service(name)["command"])


def mounts(name: str) -> dict[str, str]:
    """Return target -> source of a service's mounts."""
    found = {}
    for mount in service(name).get("volumes", []):
        if isinstance(mount, str):
            source, target = mount.split(":")[:2]
        else:
            source, target = mount["source"], mount["target"]
        found[target] = source
    return found


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions and their arguments, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    pairs = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(name, arguments) for name, arguments in pairs]


def image_environment() -> dict[str, str]:
    return dict(
        word.split("=", 1) for name, arguments in instructions() if name == "ENV" for word in shlex.split(arguments)
    )


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("close_lost_runs", DOCKER / "close_lost_runs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_names_in_the_compose_file_resolve() -> None:
    content = compose()
    services, volumes = content["services"], set(content["volumes"])
    used = set()
    for name, values in services.items():
        assert values.get("image"), name
        for dependency, condition in values.get("depends_on", {}).items():
            assert dependency in services, (name, dependency)
            needed, given = services[dependency].get("profiles"), values.get("profiles", [])
            assert not needed or (given and set(given) <= set(needed)), f"{name} would not start: {dependency}"
            if condition["condition"] == "service_healthy":
                assert services[dependency]["healthcheck"]["test"]
        named = {source for source in mounts(name).values() if not source.startswith((".", "/", "$"))}
        assert named <= volumes, (name, named)
        used |= named
    assert used == volumes, "a declared volume that nothing mounts"
    assert {name for name, values in services.items() if "stores" in values.get("profiles", [])} == set(STORE_PORTS)
    assert all(services[name]["profiles"] == ["stores", "demo"] for name in STORE_PORTS)
    assert services["demo"]["profiles"] == ["demo"]


def test_every_image_is_pinned() -> None:
    foreign = {name: values["image"] for name, values in compose()["services"].items() if "build" not in values}
    assert set(foreign) == {"postgres", *STORE_PORTS}
    for name, image in foreign.items():
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", image), name
    bases = [arguments.split()[0] for instruction, arguments in instructions() if instruction == "FROM"]
    assert len(bases) == 2
    assert len(set(bases)) == 1, "a venv runs on the Python that made it"
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", bases[0])


def test_the_demo_runs_once_against_the_stores_of_its_profile() -> None:
    demo = service("demo")
    assert demo["restart"] == "no"
    assert set(demo["depends_on"]) == set(STORE_PORTS)
    assert "-m rag_migration_pipeline.demo.servers " in command("demo")
    assert importlib.util.find_spec("rag_migration_pipeline.demo.servers") is not None
    places = [parse_locator(f"{url}/-", "source", {}) for url in demo["command"][3:]]
    assert {place.host: place.port for place in places} == STORE_PORTS
    assert demo["environment"]["RAG_MIGRATE_STATE_DIR"].startswith("/var/lib/rag_migrate/")
    assert mounts("demo")["/var/lib/rag_migrate"] == mounts("code")["/var/lib/rag_migrate"]


def test_our_services_are_one_image_built_from_the_project() -> None:
    for name in (*OURS, "demo"):
        build = service(name)["build"]
        context = (DOCKER / build["context"]).resolve()
        assert context == ROOT
        assert (context / build["dockerfile"]) == DOCKER / "Dockerfile"
    assert len({service(name)["image"] for name in OURS}) == 1


def test_published_ports_are_those_that_the_service_listens_on_and_loopback_only() -> None:
    published = {name: values["ports"] for name, values in compose()["services"].items() if "ports" in values}
    assert list(published) == ["webserver"]
    (port,) = published["webserver"]
    assert port.startswith("127.0.0.1:"), "Dagster's UI has no login"
    assert port.endswith(":3000")
    assert "-p 3000" in command("webserver")


def test_the_workspace_names_the_code_server_and_its_port() -> None:
    (origin,) = location_origins_from_yaml_paths([str(DOCKER / "workspace.yaml")])
    assert isinstance(origin, GrpcServerCodeLocationOrigin)
    assert origin.host in compose()["services"]
    assert "dagster code-server start -h 0.0.0.0" in command(origin.host)
    assert f"-p {origin.port} " in command(origin.host)
    assert f":{origin.port}'" in " ".join(service(origin.host)["healthcheck"]["test"])
    (module,) = re.findall(r"-m (\S+)", command(origin.host))
    assert importlib.util.find_spec(module) is not None
    development = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"][0]["python_module"]
    assert (module, origin.location_name) == (development["module_name"], development["location_name"])
    for name in ("webserver", "daemon"):
        assert "-w workspace.yaml" in command(name)


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    ignore = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignore if line.startswith("!")}
    copied = set()
    for name, arguments in instructions():
        if name == "COPY" and not arguments.startswith("--from=build "):
            copied.update(shlex.split(arguments)[:-1])
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(source == path or source.startswith(f"{path}/") for path in kept), f"{source} is not in the context"
    assert kept <= copied, "kept for nothing"


def test_the_image_has_all_that_the_services_need() -> None:
    lines = instructions()
    environment = image_environment()
    stages = [index for index, (name, _) in enumerate(lines) if name == "FROM"]
    assert lines[stages[0]][1].endswith(" AS build")
    built, final = lines[: stages[1]], lines[stages[1] :]
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    for stage, folder in ((built, "/opt/venv/lib/python3.11"), (final, "/usr/local/lib/python3.11")):
        compiled = [text for name, text in stage if name == "RUN" and "-m compileall" in text]
        assert compiled[-1].split()[-1] == folder
    assert "pip install" not in " ".join(text for _, text in final)
    assert ("COPY", "--from=build /opt/venv /opt/venv") in final
    assert environment["PATH"] == "/opt/venv/bin:$PATH"
    assert [(name, text) for name, text in lines if name == "USER"] == [("USER", "10001:10001")]
    names = [name for name, _ in final]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name == "RUN")
    assert "useradd --uid 10001 " in " ".join(text for _, text in final)
    (script,) = re.findall(r"python (\S+\.py) 127.0.0.1:4000 &&", command("code"))
    assert (DOCKER / script).exists()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (asked,) = re.findall(r"'\.\[(.*)\]'", " ".join(arguments for _, arguments in lines))
    assert set(asked.split(",")) <= set(extras)
    assert {"postgres", "s3"} <= set(asked.split(","))


def test_folders_that_must_survive_are_volumes_and_belong_to_the_user() -> None:
    environment = image_environment()
    owned = next(arguments for name, arguments in instructions() if name == "RUN" and "--owner dagster" in arguments)
    for variable in ("RAG_MIGRATE_STATE_DIR", "DAGSTER_STORAGE"):
        assert environment[variable] in mounts("code"), variable
        assert f'"${variable}"' in owned
    assert environment["RAG_MIGRATE_DEMO_DIR"].startswith(environment["RAG_MIGRATE_STATE_DIR"] + "/")
    storage = environment["DAGSTER_STORAGE"]
    assert mounts("webserver")[storage] == mounts("code")[storage], "the UI shows what runs wrote"
    assert str(Path(environment[CONFIG_VARIABLE]).parent) in mounts("code")


def test_the_instance_is_the_shipped_one_with_storage_of_its_own() -> None:
    ours, shipped = (yaml.safe_load(path.read_text()) for path in (DOCKER / "dagster.yaml", SHIPPED))
    assert {key: ours.get(key) for key in shipped} == shipped
    added = {"storage", "run_launcher", "local_artifact_storage", "compute_logs", "run_retries", "retention"}
    assert set(ours) - set(shipped) == added


def class_config(data: ConfigurableClassData) -> tuple[type, dict[str, Any]]:
    """Return a class of the instance and its checked config, environment filled in, without making the instance."""
    klass = class_from_code_pointer(data.module_name, data.class_name)
    config_type = resolve_to_config_type(klass.config_type())
    values = yaml.safe_load(data.config_yaml) or {}
    checked = validate_config(config_type, values)
    assert checked.success, checked.errors
    return klass, post_process_config(config_type, values).value


def test_dagster_takes_the_instance_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable, value in {**CONNECTION, "DAGSTER_STORAGE": str(tmp_path / "storage")}.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "dagster.yaml").write_text((DOCKER / "dagster.yaml").read_text())
    ref = InstanceRef.from_dir(str(tmp_path))
    assert ref.storage_data is not None
    klass, values = class_config(ref.storage_data)
    assert klass.__name__ == "DagsterPostgresStorage"
    engine = sqlalchemy.create_engine(pg_url_from_config(values))  # imports the driver; connects to nothing
    assert engine.dialect.driver == "psycopg2"
    assert (engine.url.host, engine.url.port, engine.url.database) == ("postgres", 5432, "dagster")
    assert engine.url.password == CONNECTION["DAGSTER_POSTGRES_PASSWORD"], "signs in a password survive"
    assert ref.run_launcher_data is not None
    assert class_config(ref.run_launcher_data)[0].__name__ == "DefaultRunLauncher"
    assert ref.run_coordinator_data is not None
    assert class_config(ref.run_coordinator_data)[1]["dequeue_interval_seconds"] == 1
    for data in (ref.local_artifact_storage_data, ref.compute_logs_data):
        assert class_config(data)[1]["base_dir"] == str(tmp_path / "storage")


def test_every_variable_of_the_instance_file_is_set_in_every_container() -> None:
    wanted = set(re.findall(r"env: (\w+)", (DOCKER / "dagster.yaml").read_text()))
    assert wanted == {*CONNECTION, "DAGSTER_STORAGE"}
    for name in OURS:
        assert wanted <= {*service(name)["environment"], *image_environment()}, name
    server, code = service("postgres")["environment"], service("code")["environment"]
    for part in ("USER", "PASSWORD", "DB"):
        assert server[f"POSTGRES_{part}"] == code[f"DAGSTER_POSTGRES_{part}"]
    assert code["DAGSTER_POSTGRES_HOST"] in compose()["services"]


def test_secrets_come_from_the_environment_and_reach_only_the_code_server() -> None:
    values = service("code")["environment"]
    assert {name for name in values if values[name] is None} == FROM_OUTSIDE
    for name in set(compose()["services"]) - {"code"}:
        assert not FROM_OUTSIDE & set(service(name).get("environment", {})), name
    for name, entries in compose()["services"].items():
        for variable, value in entries.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|KEY", variable):
                assert value is None or value.startswith("${POSTGRES_PASSWORD:?"), (name, variable)


def test_the_example_environment_has_every_variable_and_no_value() -> None:
    lines = [line for line in (DOCKER / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Z0-9_]+=", line) for line in lines), "a value in the example"
    asked = set(re.findall(r"\$\{(\w+)", (DOCKER / "compose.yaml").read_text()))
    assert {line[:-1] for line in lines} == asked | FROM_OUTSIDE
    assert ".env" in (DOCKER / ".gitignore").read_text().splitlines()


def test_the_example_migrations_load_and_name_the_stores_of_the_profile() -> None:
    file = DOCKER / "migrations" / "migrations.yaml"
    assert Path(image_environment()[CONFIG_VARIABLE]).name == file.name
    assert (DOCKER / mounts("code")["/etc/rag_migrate"].partition(":-")[2].rstrip("}")).resolve() == file.parent
    declarations, resources = read_migrations(file)
    assert len(resources) == 2 * len(declarations) > 0
    for values in yaml.safe_load_all(file.read_text()):
        for role in ("source", "target"):
            locator = parse_locator(values[role], "source", {})
            assert STORE_PORTS[locator.host] == locator.port
            assert "stores" in service(locator.host)["profiles"]


def test_the_constraints_pin_what_the_postgres_extra_brings() -> None:
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {"dagster-postgres", "psycopg2-binary", "dagster", "dagster-webserver"} <= pinned


def test_lost_runs_fail_and_all_others_stay_as_they_are() -> None:
    @dg.job
    def nothing() -> None:
        """No ops: only the run's status matters."""

    started, tag = dg.DagsterRunStatus.STARTED, {GRPC_INFO_TAG: '{"host": "code", "port": 4000}'}
    with dg.DagsterInstance.ephemeral() as instance:
        lost = instance.create_run_for_job(nothing, status=started, tags=tag)
        by_hand = instance.create_run_for_job(nothing, status=started)
        starting = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTING, tags=tag)
        done = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.SUCCESS, tags=tag)
        script = load_script()
        found_lost = script.find_lost_runs(instance)
        assert found_lost == [lost.run_id]
        assert script.close_lost_runs(instance, found_lost) == [lost.run_id]
        found = {run.run_id: run.status for run in instance.get_runs()}
        assert found == {
            lost.run_id: dg.DagsterRunStatus.FAILURE,
            by_hand.run_id: started,
            starting.run_id: dg.DagsterRunStatus.STARTING,
            done.run_id: dg.DagsterRunStatus.SUCCESS,
        }
        assert script.find_lost_runs(instance) == [], "a second start finds nothing"
        assert script.close_lost_runs(instance, found_lost) == [], "a run that ended meanwhile is left alone"
        assert script.close_lost_runs(instance, []) == []


def test_a_run_lost_with_its_container_is_launched_again_and_one_that_failed_by_itself_is_not(tmp_path: Path) -> None:
    @dg.op
    def refuse() -> None:
        raise dg.Failure("a person must look at this")

    @dg.job
    def refused() -> None:
        refuse()

    settings = yaml.safe_load((DOCKER / "dagster.yaml").read_text())["run_retries"]
    assert settings["max_retries"] > 0
    tag = {GRPC_INFO_TAG: '{"host": "code", "port": 4000}'}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"run_retries": settings}) as instance:
        lost = instance.create_run_for_job(refused, status=dg.DagsterRunStatus.STARTED, tags=tag)
        assert load_script().close_lost_runs(instance, [lost.run_id]) == [lost.run_id]
        failed = refused.execute_in_process(instance=instance, raise_on_error=False)
        tags = {run.run_id: run.tags.get(WILL_RETRY_TAG) for run in instance.get_runs()}
        assert tags == {lost.run_id: "true", failed.run_id: "false"}
        again = instance.get_run_by_id(lost.run_id)
        assert again is not None
        assert get_reexecution_strategy(again, instance) is ReexecutionStrategy.ALL_STEPS
