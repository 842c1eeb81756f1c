"""Back door of Milvus in every form: the vendor's ``MilvusClient``, row by row, as its documentation shows it."""

import json
import time
from typing import Any

import numpy as np

from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    RecordBatch,
    SparseColumn,
    VectorColumn,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.stores.milvus import MilvusSettings, MilvusStore

WINDOW = 16_384
"""Most records that one query answers."""

METRIC_NAMES = {
    Metric.COSINE: "COSINE",
    Metric.DOT: "IP",
    Metric.L2: "L2",
    Metric.HAMMING: "HAMMING",
    Metric.JACCARD: "JACCARD",
}
NUMBERS = {"FLOAT_VECTOR": np.float32, "FLOAT16_VECTOR": np.float16, "BINARY_VECTOR": np.uint8}
"""Vector type -> NumPy's type of what a batch holds."""


class MilvusDoor:
    """Reads and writes with ``insert`` and ``query`` of pymilvus.

    A Milvus Lite folder has one program at a time, which listens on loopback; the door talks to the one that the
    store started.
    """

    def __init__(self, settings: MilvusSettings, store: MilvusStore | None = None) -> None:
        from pymilvus import MilvusClient

        endpoint = store.endpoint if store is not None else f"{settings.host}:{settings.port}"
        secrets: dict[str, str] = {}
        for name in ("token", "user", "password"):
            secret = getattr(settings, name)
            if secret is not None:
                secrets[name] = secret.get_secret_value()
        if settings.is_tls:
            secrets["server_pem_path"] = settings.ca_file
            secrets["server_name"] = settings.tls_server_name or "localhost"
        self.client: Any = MilvusClient(
            uri=f"{'https' if settings.is_tls else 'http'}://{endpoint}",
            db_name="" if settings.database == "default" else settings.database,
            dedicated=True,
            **secrets,
        )

    def raw_create(self, spec: CollectionSpec) -> None:
        """Create a collection with an index, loaded, as `create_collection` does with index parameters."""
        from pymilvus import DataType

        types = {
            "string": DataType.VARCHAR,
            "int": DataType.INT64,
            "float": DataType.DOUBLE,
            "bool": DataType.BOOL,
            "json": DataType.JSON,
        }
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=True)
        if IdKind.STRING in spec.id_kinds:
            schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=spec.max_id_length_bytes or 1024)
        else:
            schema.add_field("id", DataType.INT64, is_primary=True)
        index = self.client.prepare_index_params()
        for vector in spec.vectors:
            name, kind = vector.name or "vector", _vendors_type(vector)
            schema.add_field(name, kind, **({} if vector.dimension is None else {"dim": vector.dimension}))
            is_sparse = kind is DataType.SPARSE_FLOAT_VECTOR
            index_type = "SPARSE_INVERTED_INDEX" if is_sparse else "AUTOINDEX"
            index.add_index(name, index_type=index_type, metric_type=METRIC_NAMES[vector.metric])
        for field in spec.fields:
            more = {"max_length": field.max_length_bytes or 65_535} if field.type == "string" else {}
            schema.add_field(field.name, types[field.type], nullable=field.is_nullable, **more)
        self.client.create_collection(spec.name, schema=schema, index_params=index)

    def raw_collections(self) -> list[str]:
        """Return what `list_collections` lists."""
        return list(self.client.list_collections())

    def raw_write(self, collection: str, batch: RecordBatch) -> None:
        """Insert one dict per record."""
        key, vectors = self._names(collection)
        rows = []
        for row, record_id in enumerate(batch.ids):
            record: dict[str, Any] = {**batch.payloads[row], key: record_id}
            for name, column in batch.vectors.items():
                record[name or next(iter(vectors))] = _vendors_value(column, row)
            rows.append(record)
        for start in range(0, len(rows), 500):
            self.client.insert(collection, rows[start : start + 500])

    def raw_read(self, collection: str) -> RecordBatch:
        """Query all fields of all records, at the strongest consistency."""
        key, vectors = self._names(collection)
        rows = self._query_all(collection)
        name_of = self._vector_names(collection)
        columns = {name_of[field]: _column([row[field] for row in rows], kind) for field, kind in vectors.items()}
        payloads = [{name: value for name, value in row.items() if name not in (key, *vectors)} for row in rows]
        return RecordBatch([row[key] for row in rows], columns, payloads)

    def close(self) -> None:
        """Close the client."""
        self.client.close()

    def _query_all(self, collection: str) -> list[dict[str, Any]]:
        counted = self.client.query(collection, filter="", output_fields=["count(*)"], consistency_level="Strong")
        count = counted[0]["count(*)"]
        if count <= WINDOW:
            found = self.client.query(
                collection, filter="", output_fields=["*"], limit=WINDOW, consistency_level="Strong"
            )
            return [dict(row) for row in found]
        # The iterator reads at the client's clock (pymilvus 3.0.2 against 2.3.5): let the last write grow older.
        time.sleep(1.0)
        rows: list[dict[str, Any]] = []
        iterator = self.client.query_iterator(collection, batch_size=1_000, output_fields=["*"])
        while page := iterator.next():
            rows.extend(dict(row) for row in page)
        iterator.close()
        return rows

    def _fields(self, collection: str) -> list[dict[str, Any]]:
        return list(self.client.describe_collection(collection)["fields"])

    def _names(self, collection: str) -> tuple[str, dict[str, tuple[str, int]]]:
        """Return the key field, and type and width of each vector field."""
        fields = self._fields(collection)
        key = next(field["name"] for field in fields if field.get("is_primary"))
        kinds = {field["name"]: field["type"].name for field in fields if "VECTOR" in field["type"].name}
        widths = {field["name"]: int(field["params"].get("dim", 0)) for field in fields}
        return key, {
            name: (kind, widths[name] // 8 if kind == "BINARY_VECTOR" else widths[name]) for name, kind in kinds.items()
        }

    def _vector_names(self, collection: str) -> dict[str, str]:
        """Return the names that batches use: a single vector is unnamed, unless the collection says otherwise."""
        _, vectors = self._names(collection)
        properties = self.client.describe_collection(collection).get("properties", {})
        named = json.loads(properties.get("rag_migration_pipeline", "{}")).get("named")
        is_unnamed = len(vectors) == 1 and named is None
        return {field: "" if is_unnamed else field for field in vectors}


def _vendors_type(vector: VectorSpec) -> Any:
    from pymilvus import DataType

    if vector.kind is VectorKind.SPARSE:
        return DataType.SPARSE_FLOAT_VECTOR
    return {"float16": DataType.FLOAT16_VECTOR, "binary": DataType.BINARY_VECTOR}.get(
        vector.dtype, DataType.FLOAT_VECTOR
    )


def _vendors_value(column: VectorColumn, row: int) -> Any:
    """Return one vector as the vendor's client takes it."""
    if isinstance(column, SparseColumn):
        indices, values = column.indices[row], column.values[row]
        assert indices is not None
        assert values is not None
        return dict(zip(indices.tolist(), values.tolist(), strict=True))
    assert isinstance(column, DenseColumn)
    values = column.values[row]
    return {"f4": values.tolist, "f2": lambda: values, "u1": values.tobytes}[values.dtype.str[1:]]()


def _column(rows: list[Any], kind: tuple[str, int]) -> VectorColumn:
    """Return vectors as the vendor's client answers them: numbers, bytes in a list, or weights by index."""
    name, width = kind
    if name == "SPARSE_FLOAT_VECTOR":
        return SparseColumn(
            tuple(np.array(list(row), dtype=np.uint32) for row in rows),
            tuple(np.array(list(row.values()), dtype=np.float32) for row in rows),
        )
    if name == "FLOAT_VECTOR":
        return DenseColumn(np.array(rows, dtype=np.float32).reshape(len(rows), width))
    values = np.frombuffer(b"".join(row[0] for row in rows), NUMBERS[name])
    return DenseColumn(values.reshape(len(rows), width).copy())
