"""The double as a process: what outlives it, what it leaves behind, and which wire layouts it speaks."""

import ipaddress
import ssl
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from qdrant_client import grpc as messages
from qdrant_client import models

from rag_migration_pipeline_tests.servers.process import ServerError, is_listening
from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("ignore:.* is used with an insecure connection")]

VECTORS = models.VectorParams(size=4, distance=models.Distance.DOT)
TRANSPORTS = pytest.mark.parametrize("prefer_grpc", [False, True], ids=["rest", "grpc"])


def point(point_id: Any, vector: Any, payload: Any) -> models.PointStruct:
    return models.PointStruct(id=point_id, vector=list(vector), payload=payload)


@TRANSPORTS
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_data_and_settings_outlive_the_process(tmp_path: Path, prefer_grpc: bool, end: str) -> None:
    name, vectors = "ü-x y", np.random.default_rng(2).standard_normal((300, 4)).astype(np.float32)
    with QdrantDouble(tmp_path) as double:
        client = double.connect(prefer_grpc=prefer_grpc)
        client.create_collection(name, vectors_config=VECTORS, hnsw_config=models.HnswConfigDiff(m=5))
        client.create_payload_index(name, "n", models.PayloadSchemaType.INTEGER)
        client.upsert(name, [point(row, vector.tolist(), {"n": row}) for row, vector in enumerate(vectors)])
        client.delete(name, [0])
        # A refused write is in the engine's log by then; opening again must not stumble over it.
        with pytest.raises(Exception, match="Vector dimension error"):
            client.upsert(name, [point(1000, [1.0], {})])
        client.close()
        ports = (double.http_port, double.grpc_port)
        getattr(double, end)()
        double.start()
        assert (double.http_port, double.grpc_port) == ports
        client = double.connect(prefer_grpc=prefer_grpc)
        info = client.get_collection(name)
        assert (info.points_count, info.config.hnsw_config.m) == (299, 5)
        assert set(info.payload_schema) == {"n"}
        assert info.created_at is None or abs(info.created_at - datetime.now(UTC)) < timedelta(minutes=10)
        records = client.scroll(name, limit=1000, with_vectors=True)[0]
        assert [record.payload for record in records] == [{"n": row} for row in range(1, 300)]
        assert np.array_equal(np.asarray([record.vector for record in records], dtype=np.float32), vectors[1:])
        client.close()


def test_nothing_is_left_behind() -> None:
    with QdrantDouble() as double:
        pid, folder = double.pid, double.data_dir
        assert psutil.pid_exists(pid)
        assert is_listening(double.http_port)
        assert is_listening(double.grpc_port)
    assert not psutil.pid_exists(pid)
    assert not is_listening(double.http_port)
    assert not is_listening(double.grpc_port)
    assert not folder.exists()


def test_a_port_in_use_is_told_at_the_start() -> None:
    with QdrantDouble() as double:
        second = QdrantDouble()
        own_port, second.grpc_port = second.grpc_port, double.grpc_port
        with pytest.raises(ServerError, match=str(double.grpc_port)):
            second.start()
        second.grpc_port = own_port
        second.close()


@pytest.mark.parametrize("legacy", [False, True])
def test_the_client_reads_both_vector_layouts(legacy: bool) -> None:
    with QdrantDouble(legacy_vectors=legacy) as double:
        client = double.connect(prefer_grpc=True)
        rows = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
        params = models.VectorParams(size=2, distance=models.Distance.DOT, multivector_config=rows)
        sparse = {"s": models.SparseVectorParams()}
        client.create_collection("v", vectors_config={"d": VECTORS, "m": params}, sparse_vectors_config=sparse)
        vector = {"d": [1.0] * 4, "m": [[1.0, 2.0], [3.0, 4.0]], "s": models.SparseVector(indices=[1], values=[2.0])}
        client.upsert("v", [models.PointStruct(id=1, vector=vector)])
        assert client.retrieve("v", [1], with_vectors=True)[0].vector == vector
        enabled = messages.WithVectorsSelector(enable=True)
        raw = client.grpc_points.Scroll(messages.ScrollPoints(collection_name="v", with_vectors=enabled))
        dense = raw.result[0].vectors.vectors.vectors["d"]
        assert list(dense.data if legacy else dense.dense.data) == [1.0] * 4
        client.close()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key_path.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return certificate_path, key_path


@TRANSPORTS
def test_both_doors_speak_tls_with_a_certificate(tmp_path: Path, prefer_grpc: bool) -> None:
    certificate, key = make_certificate(tmp_path)
    with QdrantDouble(tls_certificate=certificate, tls_key=key, api_key="right") as double:
        trusted = ssl.create_default_context(cafile=certificate)
        options = {"verify": trusted, "grpc_options": {"root_certificates": certificate.read_bytes()}}
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            client = double.connect(prefer_grpc=prefer_grpc, **options)
        assert double.url.startswith("https://")
        assert client.get_collections().collections == []
        client.close()
        stranger = double.connect(prefer_grpc=False)
        with pytest.raises(Exception, match=r"certificate verify failed|CERTIFICATE_VERIFY_FAILED"):
            stranger.get_collections()
        stranger.close()
