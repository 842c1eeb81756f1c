"""Use a store from another process: what the laws about pickling, locks and persistence need.

Belongs here: running one named action on pickled settings in a fresh interpreter. Does not belong here: assertions.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

from rag_migration_pipeline.errors import MigrationError
from rag_migration_pipeline.stores.base import StoreSettings

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 120.0


def read_elsewhere(settings: StoreSettings, collection: str) -> Any:
    """Open the store in another process and read a collection there.

    Returns:
        The (batches, count, address) read, or the error of ours that came instead.
    """
    done = subprocess.run(
        [sys.executable, "-m", "rag_migration_pipeline_tests.contract.elsewhere"],
        input=pickle.dumps((settings, collection)),
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"the other process failed:\n{done.stderr.decode(errors='replace')[-3000:]}")
    return pickle.loads(done.stdout)


def _main() -> None:
    settings, collection = pickle.loads(sys.stdin.buffer.read())
    result: Any
    try:
        with settings.open(create=False) as store:
            result = (list(store.scan(collection)), store.count(collection), store.address)
    except MigrationError as error:
        result = error
    sys.stdout.buffer.write(pickle.dumps(result))


if __name__ == "__main__":
    _main()
