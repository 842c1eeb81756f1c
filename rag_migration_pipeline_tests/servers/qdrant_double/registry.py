"""The collections of one data directory: one engine shard and one settings file each, and the aliases.

What belongs here: creating, opening, describing and dropping collections. What happens to points is in ``points``.
Layout: ``<data_dir>/collections/<quoted name>/{collection.json, shard/}`` and ``<data_dir>/aliases.json``. The settings
file is written last, so a folder without one is what a killed creation left behind; the next start removes it.
"""

import hashlib
import itertools
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import qdrant_edge as edge
from pydantic import TypeAdapter
from qdrant_client.http import models as rest

from rag_migration_pipeline_tests.servers.qdrant_double import engine, settings
from rag_migration_pipeline_tests.servers.qdrant_double.refusals import Refusal, engine_call, missing_collection

_SETTINGS_FILE = "collection.json"
_FIELD_SCHEMA: TypeAdapter[Any] = TypeAdapter(rest.PayloadFieldSchema)
# A folder name has at most 255 bytes on common file systems; a quoted name can be three times its length.
_MAX_FOLDER_CHARS = 200


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(orjson.dumps(value))
    temporary.replace(path)


def _folder_name(name: str) -> str:
    quoted = quote(name, safe="")
    return f"c-{quoted}" if len(quoted) <= _MAX_FOLDER_CHARS else f"h-{hashlib.sha256(name.encode()).hexdigest()}"


class Collection:
    """One collection: its shard, its settings, and the settings file behind them.

    Attributes:
        name: As given at creation.
        shard: The engine; safe to use from several threads (tried on qdrant-edge-py 0.9.0).
        config: Full settings, as ``info`` returns them.
        field_schemas: Payload indexes as they were asked for, by field.
    """

    def __init__(self, folder: Path, name: str, shard: edge.EdgeShard, config: rest.CollectionConfig) -> None:
        self.folder = folder
        self.name = name
        self.shard = shard
        self.config = config
        self.field_schemas: dict[str, Any] = {}
        self.created_at = datetime.now(UTC)
        self._operations = itertools.count()
        self._lock = threading.Lock()

    @classmethod
    def create(cls, folder: Path, name: str, request: rest.CreateCollection) -> "Collection":
        """Make the shard, then write the settings file."""
        config = settings.initial_config(request)
        (folder / "shard").mkdir(parents=True)
        with engine_call():
            shard = edge.EdgeShard.create(str(folder / "shard"), engine.shard_config(config.params))
        collection = cls(folder, name, shard, config)
        collection._save()
        return collection

    @classmethod
    def load(cls, folder: Path) -> "Collection":
        """Open a collection that an earlier run left."""
        stored = orjson.loads((folder / _SETTINGS_FILE).read_bytes())
        shard = edge.EdgeShard.load(str(folder / "shard"))
        collection = cls(folder, stored["name"], shard, rest.CollectionConfig.model_validate(stored["config"]))
        collection.created_at = datetime.fromisoformat(stored["created_at"])
        for field, schema in stored["field_schemas"].items():
            collection.field_schemas[field] = _FIELD_SCHEMA.validate_python(schema)
        return collection

    def _save(self) -> None:
        schemas = {
            field: _FIELD_SCHEMA.dump_python(schema, mode="json") for field, schema in self.field_schemas.items()
        }
        stored = {
            "name": self.name,
            "config": self.config.model_dump(mode="json"),
            "created_at": self.created_at.isoformat(),
            "field_schemas": schemas,
        }
        _write_json(self.folder / _SETTINGS_FILE, stored)

    def next_operation(self) -> int:
        """Number an update, as the server does in its answers."""
        return next(self._operations)

    def update(self, request: rest.UpdateCollection) -> None:
        """Change settings and keep them."""
        with self._lock:
            self.config = settings.updated_config(self.config, request)
            self._save()

    def create_index(self, field: str, schema: Any) -> None:
        """Index a payload field and remember how it was asked for."""
        with self._lock, engine_call():
            self.shard.update(edge.UpdateOperation.create_field_index(field, engine.field_schema(schema)))
            self.field_schemas[field] = schema
            self._save()

    def drop_index(self, field: str) -> None:
        """Drop a field index; a field that has none is no error, as on the server."""
        with self._lock, engine_call():
            self.shard.update(edge.UpdateOperation.delete_field_index(field))
            self.field_schemas.pop(field, None)
            self._save()

    def _payload_schema(self, indexed: dict[str, Any]) -> dict[str, rest.PayloadIndexInfo]:
        described = {}
        for field, schema in self.field_schemas.items():
            described[field] = rest.PayloadIndexInfo(
                data_type=rest.PayloadSchemaType(engine.schema_type(schema)),
                params=None if isinstance(schema, rest.PayloadSchemaType) else schema,
                points=indexed[field].points if field in indexed else 0,
            )
        return described

    def info(self) -> rest.CollectionInfo:
        """Describe the collection."""
        with engine_call():
            shard = self.shard.info()
        return rest.CollectionInfo(
            status=rest.CollectionStatus.GREEN,
            optimizer_status=rest.OptimizersStatusOneOf.OK,
            warnings=[],
            indexed_vectors_count=shard.indexed_vectors_count,
            points_count=shard.points_count,
            segments_count=shard.segments_count,
            config=self.config,
            payload_schema=self._payload_schema(shard.payload_schema),
            update_queue=rest.UpdateQueueInfo(length=0),
            created_at=self.created_at,
        )

    def close(self) -> None:
        """Write everything out and give the folder free."""
        self.shard.flush()
        self.shard.close()


class Registry:
    """All collections and aliases of a data directory, opened at construction."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "collections"
        self._alias_file = data_dir / "aliases.json"
        self._lock = threading.Lock()
        self._root.mkdir(parents=True, exist_ok=True)
        self._aliases: dict[str, str] = orjson.loads(self._alias_file.read_bytes()) if self._alias_file.exists() else {}
        self._collections: dict[str, Collection] = {}
        for folder in sorted(self._root.iterdir()):
            self._open(folder)

    def _open(self, folder: Path) -> None:
        if not (folder / _SETTINGS_FILE).exists():
            shutil.rmtree(folder)
            return
        collection = Collection.load(folder)
        self._collections[collection.name] = collection

    def names(self) -> list[str]:
        """List collection names, sorted."""
        return sorted(self._collections)

    def exists(self, name: str) -> bool:
        """Tell whether a collection or an alias has this name."""
        return self._aliases.get(name, name) in self._collections

    def get(self, name: str) -> Collection:
        """Return a collection by name or alias."""
        collection = self._collections.get(self._aliases.get(name, name))
        if collection is None:
            raise missing_collection(name)
        return collection

    def create(self, name: str, request: rest.CreateCollection) -> bool:
        """Create a collection; refuse a name that is taken."""
        settings.check_name(name)
        with self._lock:
            if name in self._aliases:
                taken = "Alias with the same name already exists"
                raise Refusal("bad_input", f"Can't create collection with name {name}. {taken}")
            if name in self._collections:
                raise Refusal("already_exists", f"Collection `{name}` already exists!")
            folder = self._root / _folder_name(name)
            try:
                self._collections[name] = Collection.create(folder, name, request)
            except Refusal:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return True

    def drop(self, name: str) -> bool:
        """Drop a collection and its aliases; False when there was none, which the server does not call an error."""
        with self._lock:
            collection = self._collections.pop(self._aliases.get(name, name), None)
            if collection is None:
                return False
            self._aliases = {alias: target for alias, target in self._aliases.items() if target != collection.name}
            _write_json(self._alias_file, self._aliases)
            collection.close()
            shutil.rmtree(collection.folder)
        return True

    def aliases(self, collection_name: str | None = None) -> list[rest.AliasDescription]:
        """List aliases, of one collection or of all."""
        wanted = self.get(collection_name).name if collection_name is not None else None
        return [
            rest.AliasDescription(alias_name=alias, collection_name=target)
            for alias, target in sorted(self._aliases.items())
            if wanted in (None, target)
        ]

    def change_aliases(self, actions: list[Any]) -> bool:
        """Apply alias changes, all or none."""
        with self._lock:
            aliases = dict(self._aliases)
            for action in actions:
                self._change_alias(aliases, action)
            _write_json(self._alias_file, aliases)
            self._aliases = aliases
        return True

    def _change_alias(self, aliases: dict[str, str], action: Any) -> None:
        if isinstance(action, rest.CreateAliasOperation):
            target, alias = action.create_alias.collection_name, action.create_alias.alias_name
            if target not in self._collections:
                raise missing_collection(target)
            if alias in self._collections:
                raise Refusal("already_exists", f"Collection `{alias}` already exists!")
            aliases[alias] = target
            return
        renamed = isinstance(action, rest.RenameAliasOperation)
        old = action.rename_alias.old_alias_name if renamed else action.delete_alias.alias_name
        if old not in aliases:
            raise Refusal("not_found", f"Alias {old} does not exists!")
        target = aliases.pop(old)
        if renamed:
            aliases[action.rename_alias.new_alias_name] = target

    def close(self) -> None:
        """Close every collection; afterwards the data directory is free for another process."""
        with self._lock:
            for collection in self._collections.values():
                collection.close()
            self._collections.clear()
