"""The Dagster UI over the demo's instance: ``python -m rag_migration_pipeline.demo.ui``.

Belongs here: starting Dagster where the demo keeps its state. Does not belong here: anything about migrations.
"""

import argparse
import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from rag_migration_pipeline.demo.migrations import demo_folder, prepare_home

DEFAULT_PORT = 3000


def main(arguments: Sequence[str] | None = None) -> None:
    """Replace this process by ``dagster dev`` over the demo's instance."""
    parser = argparse.ArgumentParser(prog="python -m rag_migration_pipeline.demo.ui", description=main.__doc__)
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    options = parser.parse_args(arguments)
    folder = demo_folder()
    prepare_home(folder)
    os.environ |= {"DAGSTER_HOME": str(folder.dagster_home), "RAG_MIGRATE_DEMO_DIR": str(folder.root)}
    dagster = shutil.which("dagster", path=sysconfig.get_path("scripts")) or "dagster"
    place = ["-h", "127.0.0.1", "-p", str(options.port)]
    print(f"The Dagster UI comes up on http://127.0.0.1:{options.port}; Ctrl-C ends it.", flush=True)
    sys.stdout.flush()
    os.execv(dagster, [Path(dagster).name, "dev", "-m", "rag_migration_pipeline.definitions", *place])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
