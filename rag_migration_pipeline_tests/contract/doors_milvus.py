"""Back door of Milvus in every form: the vendor's ``MilvusClient``, row by row, as its documentation shows it."""

import time
from typing import Any

import numpy as np

from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch
from rag_migration_pipeline.stores.milvus import MilvusSettings, MilvusStore

WINDOW = 16_384
"""Most records that one query answers."""

METRIC_NAMES = {Metric.COSINE: "COSINE", Metric.DOT: "IP", Metric.L2: "L2"}


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
            schema.add_field(vector.name or "vector", DataType.FLOAT_VECTOR, dim=vector.dimension)
            index.add_index(vector.name or "vector", index_type="AUTOINDEX", metric_type=METRIC_NAMES[vector.metric])
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
                record[name or vectors[0]] = column.values[row].tolist()
            rows.append(record)
        for start in range(0, len(rows), 500):
            self.client.insert(collection, rows[start : start + 500])

    def raw_read(self, collection: str) -> RecordBatch:
        """Query all fields of all records, at the strongest consistency."""
        key, vectors = self._names(collection)
        rows = self._query_all(collection)
        dimensions = {f["name"]: f["params"].get("dim", 0) for f in self._fields(collection)}
        columns = {
            "" if len(vectors) == 1 else name: DenseColumn(
                np.array([row[name] for row in rows], dtype=np.float32).reshape(len(rows), int(dimensions[name]))
            )
            for name in vectors
        }
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

    def _names(self, collection: str) -> tuple[str, list[str]]:
        fields = self._fields(collection)
        key = next(field["name"] for field in fields if field.get("is_primary"))
        return key, [field["name"] for field in fields if "VECTOR" in field["type"].name]
