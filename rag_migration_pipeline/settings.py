"""Index and storage settings of a collection in another store's words, and what becomes of each.

Belongs here: which settings of a source are carried, translated or left behind. Does not belong here: how a store reads
its settings and takes them over (the adapters), how a plan shows them (``verdicts/collection.py``).

Like to like, settings are carried as they are. Between stores, what all of them mean the same is translated: the graph
(HNSW) and its parameters, and that there is none (a flat index). The memory store keeps anything, for the way home.

              neighbours       while building     while searching
    Chroma    max_neighbors    ef_construction    ef_search
    Qdrant    m                ef_construct       (chosen per request)
    Milvus    M                efConstruction     (chosen per request)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rag_migration_pipeline.records import CollectionSpec, FieldSpec, VectorKind
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.vector_choice import VectorRoute
from rag_migration_pipeline.vectors import BINARY

CARRIED_KEY = "carried"
"""Where the memory store keeps settings in the words of the store that they come from."""

MILVUS_NEIGHBOURS, MILVUS_EF = (4, 64), (8, 512)
"""Bounds of M and efConstruction on Milvus 2.3.5; later servers take more."""

_LIKE_TO_LIKE: Mapping[str, tuple[str, ...]] = {
    "chroma": ("hnsw",),
    "milvus": ("indexes", "properties", "partitions", "vector_field", "shards_num", "consistency_level"),
}
_MILVUS_SERVER_ONLY = frozenset({"shards_num", "consistency_level"})
"""What Milvus Lite (3.2.2) takes and forgets."""

_QDRANT_CARRIED = (
    "hnsw_config",
    "quantization_config",
    "on_disk_payload",
    "vectors",
    "sparse_vectors",
    "payload_indexes",
)
_QDRANT_SERVER_CARRIED = (
    *("optimizer_config", "wal_config", "shard_number", "replication_factor", "write_consistency_factor"),
    *_QDRANT_CARRIED,
)
_SILENT = frozenset({"vector_field", "vector_fields", "auto_id", "has_dynamic_field", CARRIED_KEY})
"""What adapters note for themselves; the verdicts on ids, vectors and fields speak of it."""

_WHY: Mapping[str, str] = {
    "embedding_function": "it belongs to the client that makes the vectors",
    "strict_mode_config": "limits for clients, which might stop the load: set them when it is proven",
    "aliases": "they would lead users of the source to the copy",
    "partition_key": "it needs a typed field",
    "quantization_config": "the target has no counterpart",
    "payload_indexes": "shown per field",
    "shards_num": "there is one shard",
    "consistency_level": "every read is strong",
    "partitions": "each record keeps its own",
}


class Fate(StrEnum):
    """What becomes of a setting."""

    CARRIED = "carried"
    TRANSLATED = "translated"
    LEFT = "not carried"


@dataclass(frozen=True)
class SettingNote:
    """What becomes of one setting of the source, by its name in the source's words."""

    name: str
    fate: Fate
    detail: str = ""


@dataclass(frozen=True)
class Graph:
    """How a vector is indexed: a graph (HNSW), or not at all.

    Attributes:
        neighbours: Links per node; None for the store's own choice.
        ef_construction: Candidates while building.
        ef_search: Candidates while searching.
        is_flat: There is no graph; searches look at every vector.
    """

    neighbours: int | None = None
    ef_construction: int | None = None
    ef_search: int | None = None
    is_flat: bool = False


def translate_settings(
    source: CollectionSpec, routes: Sequence[VectorRoute], target: Capabilities
) -> tuple[dict[str, Any], tuple[SettingNote, ...]]:
    """Return the settings of a new target collection, in its words, and what becomes of each of the source's.

    Args:
        source: The source collection.
        routes: Where its vectors go.
        target: What the target store can hold.
    """
    given: Mapping[str, Any] = source.settings.get(CARRIED_KEY, source.settings)
    names = [name for name in given if name not in _SILENT]
    if target.store == "memory":
        return ({CARRIED_KEY: dict(given)} if given else {}), _notes(names, Fate.CARRIED)
    if not _has_index(target):
        return {}, _notes(names, Fate.LEFT, "this form of the store has no index of its own")
    words = words_of(given)
    if words == target.store:
        return _carried(given, routes, target)
    return _translated(given, words, routes, target)


def indexed_fields(source: CollectionSpec, target: Capabilities) -> tuple[FieldSpec, ...]:
    """Return the payload indexes of a new target collection: those of the source that the target can make."""
    return tuple(
        FieldSpec(item.name, item.type, is_nullable=True, is_indexed=True, element_type=item.element_type)
        for item in source.fields
        if item.is_indexed and (item.element_type or "" if item.type == "array" else item.type) in target.indexed_types
    )


def words_of(settings: Mapping[str, Any]) -> str:
    """Return whose words settings are in: chroma, qdrant, milvus, or nobody's."""
    for store, keys in (("chroma", ("hnsw", "spann")), ("milvus", ("indexes",)), ("qdrant", _QDRANT_SERVER_CARRIED)):
        if any(key in settings for key in keys):
            return store
    return ""


def _has_index(target: Capabilities) -> bool:
    return (target.store, target.form) != ("qdrant", "folder")  # the client's local mode compares with every vector


def _notes(names: Iterable[str], fate: Fate, why: str = "") -> tuple[SettingNote, ...]:
    return tuple(SettingNote(name, fate, why or (_WHY.get(name, "") if fate is Fate.LEFT else "")) for name in names)


def _carried(
    given: Mapping[str, Any], routes: Sequence[VectorRoute], target: Capabilities
) -> tuple[dict[str, Any], tuple[SettingNote, ...]]:
    """Carry settings between two collections of one kind of store."""
    known = _LIKE_TO_LIKE.get(target.store) or (_QDRANT_SERVER_CARRIED if target.form == "server" else _QDRANT_CARRIED)
    lacking = _MILVUS_SERVER_ONLY if (target.store, target.form) == ("milvus", "file") else frozenset()
    settings = {name: given[name] for name in known if name in given and name not in lacking}
    if target.store == "qdrant":
        for part in ("vectors", "sparse_vectors"):
            if part in settings:
                settings[part] = _renamed(settings[part], routes)
    if target.store == "milvus" and "indexes" in settings:
        settings["indexes"] = _renamed_indexes(given, routes)
    notes = [
        *_notes((name for name in given if name in settings and name not in _SILENT), Fate.CARRIED),
        *(
            SettingNote(name, Fate.LEFT, _WHY.get(name, "this form of the store does not have it"))
            for name in given
            if name not in settings and name not in _SILENT
        ),
    ]
    return settings, tuple(notes)


def _renamed(parts: Mapping[str, Any], routes: Sequence[VectorRoute]) -> dict[str, Any]:
    return {
        route.target.name: parts[route.source.name]
        for route in routes
        if route.target is not None and route.source.name in parts
    }


def _renamed_indexes(given: Mapping[str, Any], routes: Sequence[VectorRoute]) -> dict[str, Any]:
    """Return Milvus' indexes by the target's field names; those of scalar fields follow the fields."""
    fields = _fields_of_vectors(given)
    indexes = {}
    for route in routes:
        old = fields.get(route.source.name, route.source.name)
        if route.target is not None and old in given["indexes"]:
            indexes[route.target.name or old] = given["indexes"][old]
    return indexes


def _fields_of_vectors(given: Mapping[str, Any]) -> Mapping[str, str]:
    return given.get("vector_fields") or {"": str(given.get("vector_field") or "vector")}


def _translated(
    given: Mapping[str, Any], words: str, routes: Sequence[VectorRoute], target: Capabilities
) -> tuple[dict[str, Any], tuple[SettingNote, ...]]:
    """Translate the graphs; everything else stays behind, with a reason."""
    graphs: dict[str, Graph] = {}
    details: list[str] = []
    for route in routes:
        graph = _READERS[words](given, route.source.name) if words else None
        held = route.target
        if graph is None or held is None or held.kind is not VectorKind.DENSE or held.dtype == BINARY:
            continue
        if graph.is_flat and target.store == "chroma":
            details.append("a flat index: Chroma has graphs only")
            continue
        graphs[held.name] = graph
        details.append(_shown(graph))
    settings = _WRITERS[target.store](graphs) if graphs else {}
    index = _INDEX_NAMES.get(words, "")
    notes = []
    for name in given:
        if name == index and graphs:
            notes.append(SettingNote(name, Fate.TRANSLATED, "; ".join(dict.fromkeys(details))))
        elif name == index:
            notes.append(SettingNote(name, Fate.LEFT, "; ".join(details) or "an index type of that store alone"))
        elif name not in _SILENT:
            notes += _notes([name], Fate.LEFT, _WHY.get(name) or f"{words or 'the source'}'s own")
    return settings, tuple(notes)


def _shown(graph: Graph) -> str:
    if graph.is_flat:
        return "no graph: every vector is compared"
    parts = {"neighbours": graph.neighbours, "ef construction": graph.ef_construction, "ef search": graph.ef_search}
    return "HNSW: " + ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None)


def _graph(neighbours: Any, ef_construction: Any, ef_search: Any = None) -> Graph | None:
    m, construction, search = (v if type(v) is int else None for v in (neighbours, ef_construction, ef_search))
    return None if m is None and construction is None and search is None else Graph(m, construction, search)


def _read_chroma(given: Mapping[str, Any], _: str) -> Graph | None:
    index = given.get("hnsw") or given.get("spann") or {}
    return _graph(index.get("max_neighbors"), index.get("ef_construction"), index.get("ef_search"))


def _read_qdrant(given: Mapping[str, Any], name: str) -> Graph | None:
    own = ((given.get("vectors") or {}).get(name) or {}).get("hnsw_config") or {}
    index = {**(given.get("hnsw_config") or {}), **{key: value for key, value in own.items() if value is not None}}
    if index.get("m") == 0:
        return Graph(is_flat=True)
    return _graph(index.get("m"), index.get("ef_construct"))


def _read_milvus(given: Mapping[str, Any], name: str) -> Graph | None:
    index = given["indexes"].get(_fields_of_vectors(given).get(name, name)) or {}
    parameters = index.get("params") or {}
    if index.get("index_type") == "FLAT":
        return Graph(is_flat=True)
    if index.get("index_type") == "HNSW":
        return _graph(parameters.get("M"), parameters.get("efConstruction"))
    return None


def _write_chroma(graphs: Mapping[str, Graph]) -> dict[str, Any]:
    graph = next(iter(graphs.values()))
    index = {
        "max_neighbors": graph.neighbours,
        "ef_construction": graph.ef_construction,
        "ef_search": graph.ef_search,
    }
    return {"hnsw": {key: value for key, value in index.items() if value}}


def _write_qdrant(graphs: Mapping[str, Graph]) -> dict[str, Any]:
    indexes = {}
    for name, graph in graphs.items():
        index = {"m": 0 if graph.is_flat else graph.neighbours, "ef_construct": graph.ef_construction}
        indexes[name] = {key: value for key, value in index.items() if value is not None}
    if len({tuple(index.items()) for index in indexes.values()}) == 1:
        return {"hnsw_config": next(iter(indexes.values()))}
    return {"vectors": {name: {"hnsw_config": index} for name, index in indexes.items()}}


def _write_milvus(graphs: Mapping[str, Graph]) -> dict[str, Any]:
    indexes: dict[str, Any] = {}
    for name, graph in graphs.items():
        index: dict[str, Any] = {"index_type": "FLAT", "params": {}}
        if not graph.is_flat:
            parameters = {
                "M": _within(graph.neighbours, MILVUS_NEIGHBOURS),
                "efConstruction": _within(graph.ef_construction, MILVUS_EF),
            }
            index = {"index_type": "HNSW", "params": {key: v for key, v in parameters.items() if v is not None}}
        indexes[name or "vector"] = index
    return {"indexes": indexes}


def _within(value: int | None, bounds: tuple[int, int]) -> int | None:
    return None if value is None else min(max(value, bounds[0]), bounds[1])


_READERS = {"chroma": _read_chroma, "qdrant": _read_qdrant, "milvus": _read_milvus}
_WRITERS = {"chroma": _write_chroma, "qdrant": _write_qdrant, "milvus": _write_milvus}
_INDEX_NAMES = {"chroma": "hnsw", "qdrant": "hnsw_config", "milvus": "indexes"}
