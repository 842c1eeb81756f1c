"""A folder of Dagster components: the migrations in it, and all its definitions.

Belongs here: loading the folder with Dagster's own loader, and refusing what it would pass over in silence. Does not
belong here: what a component is (``component.py``), where the folder is (``config_files.py``).
"""

import hashlib
import importlib
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import dagster as dg

from rag_migration_pipeline.config_files import DEFS_VARIABLE, documents
from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.orchestration.component import Migration

PACKAGE_FOLDER = "rag_migration_pipeline.defs"
COMPONENT = "rag_migration_pipeline.Migration"
_NAMES_COMPONENT = re.compile(rf"^type:\s*[\"']?{re.escape(COMPONENT)}\b", re.MULTILINE)


@dataclass(frozen=True)
class DefsFolder:
    """What a folder of components holds.

    Attributes:
        migrations: Its migrations.
        definitions: All its definitions, those of other components among them.
    """

    migrations: tuple[Migration, ...] = ()
    definitions: dg.Definitions = field(default_factory=dg.Definitions)


def load_defs_folder(folder: Path) -> DefsFolder:
    """Return what a folder holds; one that is empty holds nothing.

    Raises:
        SpecError: The folder is missing, a migration in it is wrong, two have one name, or one stands in a file that
            Dagster does not read; names file and line.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise SpecError(f"{folder} is not a folder; {DEFS_VARIABLE} names the folder of declared migrations.")
    if not any(_files(folder, ".yaml", ".yml", ".py")):
        return DefsFolder()
    for path in _with_migrations(folder):
        documents(path)  # Dagster's errors about what is not YAML quote the file, in which a secret may stand
    tree = dg.ComponentTree.from_module(defs_module=_module(folder), project_root=folder.parent)
    try:
        with warnings.catch_warnings():
            # Dagster 1.13.27 loads a folder by functions that pydantic will drop, or that are its own beta and preview.
            warnings.filterwarnings("ignore", message="`parse_obj_as` is deprecated", category=DeprecationWarning)
            warnings.simplefilter("ignore", dg.BetaWarning)
            warnings.simplefilter("ignore", dg.PreviewWarning)
            migrations = tuple(tree.get_all_components(Migration))
            _refuse_unread(folder, {item.file for item in migrations})
            refuse_shared_names([(item.declaration.name, item.where) for item in migrations])
            return DefsFolder(migrations, tree.build_defs())
    except Exception as error:
        ours = _of_ours(error)
        if ours is None or ours is error:
            raise
        raise ours from None  # Dagster's errors around it show the tree of the folder, not what is wrong


def refuse_shared_names(found: list[tuple[str, str]]) -> None:
    """Refuse migrations that have one name.

    Args:
        found: Name of each, and where it stands.

    Raises:
        SpecError: Says the name and all places.
    """
    places: dict[str, list[str]] = {}
    for name, where in found:
        places.setdefault(name, []).append(where)
    shared = [f"{name!r} ({'; '.join(where)})" for name, where in places.items() if len(where) > 1]
    if shared:
        raise SpecError(f"migrations have one name: {', '.join(shared)}.", todo="Give each its own name.")


def _files(folder: Path, *endings: str) -> Iterator[Path]:
    """Yield the files below a folder that Dagster might read; it passes over hidden folders."""
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder).parts
        is_ours = path.suffix in endings and path.is_file() and inner != ("__init__.py",)
        if is_ours and not any(part.startswith(".") or part == "__pycache__" for part in inner):
            yield path


def _with_migrations(folder: Path) -> Iterator[Path]:
    """Yield the YAML files below a folder that name the component."""
    for path in _files(folder, ".yaml", ".yml"):
        if _NAMES_COMPONENT.search(path.read_text(encoding="utf-8", errors="replace")):
            yield path


def _refuse_unread(folder: Path, read: set[Path | None]) -> None:
    """Refuse files with migrations that Dagster does not come to.

    It reads ``defs.yaml`` alone, and nothing below a folder that has one (1.13.27).

    Raises:
        SpecError: Names the files.
    """
    unread = [str(path) for path in _with_migrations(folder) if path not in read]
    if unread:
        raise SpecError(
            f"{', '.join(unread)}: not read, though migrations stand in it.",
            todo="Each needs the name defs.yaml and a folder of its own, not below a folder with another defs.yaml.",
        )


def _module(folder: Path) -> ModuleType:
    """Return the folder as a module, which Dagster's loader wants; its Python files are imported from there."""
    package = importlib.import_module(PACKAGE_FOLDER)
    if [str(folder)] == list(package.__path__):
        return package
    digest = hashlib.blake2b(str(folder).encode(), digest_size=4).hexdigest()
    module = ModuleType(f"rag_migration_defs_{digest}")
    module.__file__ = None
    module.__path__ = [str(folder)]
    sys.modules[module.__name__] = module
    return module


def _of_ours(error: BaseException) -> SpecError | None:
    """Return the error of ours that an error of Dagster came from."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, SpecError):
        cause = cause.__cause__
    return cause
