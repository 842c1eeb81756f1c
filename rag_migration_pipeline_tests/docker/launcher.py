"""Asks Dagster's Kubernetes launcher, in a process of its own, whether it takes a configuration.

Belongs here: what needs dagster-k8s. It wants a kubernetes below that of chromadb, so ``make venv`` puts both into a
folder beside the environment (`FOLDER`), and only this process sees them. Does not belong here: the values
(``test_k8s.py``).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(sys.prefix) / "k8s"


def ask(config: dict[str, Any]) -> dict[str, Any]:
    """Return what the launcher says of a configuration: ``version``, ``errors`` (texts), ``pod_spec`` of its runs."""
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(config),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(FOLDER), str(Path.cwd())])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not done.returncode, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> None:
    """Read a configuration of the launcher from stdin, and print the answer as JSON."""
    import dagster_k8s
    from dagster._config import resolve_to_config_type
    from dagster._config.validate import validate_config
    from dagster_k8s.job import UserDefinedDagsterK8sConfig

    config = json.load(sys.stdin)
    checked = validate_config(resolve_to_config_type(dagster_k8s.K8sRunLauncher.config_type()), config)
    errors = [error.message for error in checked.errors or ()]
    pod_spec = {} if errors else UserDefinedDagsterK8sConfig.from_dict(config["run_k8s_config"]).pod_spec_config
    json.dump({"version": dagster_k8s.__version__, "errors": errors, "pod_spec": pod_spec}, sys.stdout)


if __name__ == "__main__":
    main()
