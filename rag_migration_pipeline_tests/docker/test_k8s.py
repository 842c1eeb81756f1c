"""The values for Dagster's Helm chart: what the chart makes of them is what Dagster and its Kubernetes launcher take.

Belongs here: docker/k8s/. Does not belong here: the chart itself, which is not rendered here; the templates that turn
values into dagster.yaml were read (``_run-launcher.tpl``, ``configmap-instance.yaml``), and `instance_file` says the
same in Python.
"""

import re
from typing import Any

import pytest
import yaml
from dagster._config import resolve_to_config_type
from dagster._config.validate import validate_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster._serdes.config_class import class_from_code_pointer

from rag_migration_pipeline.definitions import CONFIG_VARIABLE
from rag_migration_pipeline.orchestration.config import read_migrations
from rag_migration_pipeline_tests.contract.elsewhere import ROOT
from rag_migration_pipeline_tests.docker import launcher

FOLDER = ROOT / "docker" / "k8s"
VALUES: dict[str, Any] = yaml.safe_load((FOLDER / "values.yaml").read_text())
INSTANCE: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "dagster.yaml").read_text())
(DEPLOYMENT,) = VALUES["dagster-user-deployments"]["deployments"]
PARTS = (VALUES["dagsterWebserver"], VALUES["dagsterDaemon"], DEPLOYMENT)
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((FOLDER / "volumes.yaml").read_text()))


def snake(values: Any) -> Any:
    """Return values with keys as Dagster spells them, as the chart's ``snakecase`` does."""
    if isinstance(values, dict):
        return {re.sub(r"(?<!^)([A-Z])", r"_\1", key).lower(): snake(value) for key, value in values.items()}
    return values


def instance_file() -> dict[str, Any]:
    """Return the parts of dagster.yaml that the chart makes of our values; storage and launcher are looked at apart."""
    daemon, retention = VALUES["dagsterDaemon"], dict(VALUES["retention"])
    assert retention.pop("enabled")
    concurrency = dict(VALUES["concurrency"])
    assert concurrency.pop("enabled")
    logs = VALUES["computeLogManager"]["config"]["customComputeLogManager"]
    made = {
        "run_coordinator": {
            "module": "dagster._core.run_coordinator.queued_run_coordinator",
            "class": daemon["runCoordinator"]["type"],
            "config": snake(daemon["runCoordinator"]["config"]["queuedRunCoordinator"]),
        },
        "concurrency": snake(concurrency),
        "run_monitoring": snake(daemon["runMonitoring"]),
        "retention": snake(retention),
        "telemetry": snake(VALUES["telemetry"]),
        "compute_logs": logs,
    }
    assert not daemon["runRetries"]["enabled"], "the chart would write run_retries twice"
    assert not made.keys() & VALUES["additionalInstanceConfig"].keys()
    return made | VALUES["additionalInstanceConfig"]


def test_dagster_takes_the_instance_that_the_chart_makes() -> None:
    checked = validate_config(resolve_to_config_type(dagster_instance_config_schema()), instance_file())
    assert checked.success, checked.errors
    for part in ("run_coordinator", "compute_logs", "local_artifact_storage"):
        data = instance_file()[part]
        klass = class_from_code_pointer(data["module"], data["class"])
        assert validate_config(resolve_to_config_type(klass.config_type()), data["config"]).success, part


def test_queue_pools_retries_and_retention_are_those_of_the_compose_file() -> None:
    made = instance_file()
    for part in ("run_coordinator", "concurrency", "run_retries", "retention", "telemetry", "nux"):
        assert made[part] == INSTANCE[part], part
    assert made["run_monitoring"].items() >= INSTANCE["run_monitoring"].items()
    for part in ("compute_logs", "local_artifact_storage"):
        assert made[part]["class"] == INSTANCE[part]["class"]


def test_postgres_is_reached_with_the_driver_that_is_installed_and_no_password_is_in_the_file() -> None:
    assert VALUES["postgresql"]["postgresqlScheme"] == INSTANCE["storage"]["postgres"]["postgres_db"]["scheme"]
    assert "postgresqlPassword" not in VALUES["postgresql"]
    assert VALUES["generatePostgresqlPasswordSecret"] is False
    assert VALUES["global"]["postgresqlSecretName"]


def test_one_image_serves_all_and_its_user_is_not_root() -> None:
    images = [part["image"] for part in PARTS]
    assert images[0] == images[1] == images[2]
    assert (
        VALUES["dagsterWebserver"]["readinessProbe"]["httpGet"]["port"] == VALUES["dagsterWebserver"]["service"]["port"]
    )
    launcher = VALUES["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["podSpecConfig"]
    for context in (*(part["podSecurityContext"] for part in PARTS), launcher["securityContext"]):
        assert context == {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001}
    assert "USER 10001:10001" in (FOLDER / "Dockerfile").read_text().splitlines()[-1]


def test_what_is_mounted_exists_and_is_where_the_image_looks() -> None:
    claims = {item["metadata"]["name"] for item in MANIFESTS if item["kind"] == "PersistentVolumeClaim"}
    maps = {item["metadata"]["name"] for item in MANIFESTS if item["kind"] == "ConfigMap"}
    for part in (DEPLOYMENT, VALUES["dagsterWebserver"]):
        names = {volume["name"] for volume in part["volumes"]}
        assert {mount["name"] for mount in part["volumeMounts"]} == names
        for volume in part["volumes"]:
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps
            else:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
    folders = {mount["name"]: mount["mountPath"] for mount in DEPLOYMENT["volumeMounts"]}
    given = {item["name"]: item["value"] for item in DEPLOYMENT["env"]}
    assert given["RAG_MIGRATE_STATE_DIR"] == folders["state"]
    assert given[CONFIG_VARIABLE] == f"{folders['migrations']}/migrations.yaml"
    assert instance_file()["compute_logs"]["config"]["base_dir"] == folders["storage"]
    assert instance_file()["local_artifact_storage"]["config"]["base_dir"] == folders["storage"]
    assert all(item["spec"]["accessModes"] == ["ReadWriteMany"] for item in MANIFESTS if "spec" in item)
    assert DEPLOYMENT["includeConfigInLaunchedRuns"]["enabled"], "runs would have no volumes and no secrets"


def test_the_example_migrations_load(tmp_path: Any) -> None:
    (text,) = [item["data"]["migrations.yaml"] for item in MANIFESTS if item["kind"] == "ConfigMap"]
    (tmp_path / "migrations.yaml").write_text(text)
    declarations, _ = read_migrations(tmp_path / "migrations.yaml")
    assert [declaration.name for declaration in declarations] == ["docs_to_qdrant"]


def test_the_image_adds_pinned_packages_of_dagsters_version() -> None:
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert pins()["dagster-k8s"] == pinned["dagster-postgres"], "the integrations of one Dagster have one version"
    assert "codeServerArgs" in DEPLOYMENT
    assert DEPLOYMENT["codeServerArgs"] == ["-m", "rag_migration_pipeline.definitions"]


@pytest.mark.skipif(
    not launcher.FOLDER.is_dir(), reason="no dagster-k8s beside the environment: make venv puts it there"
)
def test_the_kubernetes_launcher_takes_its_values() -> None:
    values = snake({key: value for key, value in launcher_values().items() if key != "runK8sConfig"})
    raw = {snake_key(key): value for key, value in launcher_values()["runK8sConfig"].items()}
    # What the chart adds by itself (_run-launcher.tpl).
    values |= {"job_namespace": "dagster", "service_account_name": "dagster", "run_k8s_config": raw}
    values |= {"dagster_home": VALUES["global"]["dagsterHome"], "instance_config_map": "dagster-instance"}
    values["postgres_password_secret"] = VALUES["global"]["postgresqlSecretName"]
    answer = launcher.ask(values)
    assert answer["errors"] == []
    assert answer["version"] == pins()["dagster-k8s"]
    assert answer["pod_spec"]["security_context"] == {"run_as_non_root": True, "run_as_user": 10001, "fs_group": 10001}
    (error,) = launcher.ask({**values, "volume_claims": []})["errors"]
    assert "volume_claims" in error


def pins() -> dict[str, str]:
    lines = [line for line in (FOLDER / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def launcher_values() -> dict[str, Any]:
    assert VALUES["runLauncher"]["type"] == "K8sRunLauncher"
    values: dict[str, Any] = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    return values


def snake_key(key: str) -> str:
    (name,) = snake({key: None})
    return str(name)
