"""Qdrant's settings and the way to a server: URLs, ports, transports, keys and TLS, and what is said if it fails.

Belongs here: everything up to the open store. Does not belong here: what is asked of it (``test_qdrant_requests.py``).
"""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from rag_migration_pipeline.errors import AuthenticationError, SpecError, StoreRequestError, StoreUnavailableError
from rag_migration_pipeline.locators import parse_locator
from rag_migration_pipeline.stores.qdrant_settings import GrpcPreference, QdrantSettings, settings_from_locator
from rag_migration_pipeline.stores.qdrant_transports import GrpcTransport, RestTransport
from rag_migration_pipeline_tests.servers.certificates import make_certificate
from rag_migration_pipeline_tests.servers.process import free_port
from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble
from rag_migration_pipeline_tests.stores.qdrant_samples import TRANSPORTS, make_batch, make_spec, settings_of

# -- settings -------------------------------------------------------------------------------------------------


def test_a_url_names_ports_transport_and_tls() -> None:
    url = "qdrant://db.example:7333/docs?grpc_port=7334&prefer_grpc=true&tls=true&ca_file=/etc/ca.pem"
    settings = settings_from_locator(parse_locator(url, "source", {"QDRANT_API_KEY": "s3cret"}))
    assert (settings.host, settings.port, settings.grpc_port) == ("db.example", 7333, 7334)
    assert settings.prefer_grpc == "true"
    assert settings.is_tls
    assert settings.ca_file == "/etc/ca.pem"
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)
    assert settings.address == "qdrant://db.example:7333"


@pytest.mark.parametrize(
    "query", ["prefer_grpc=maybe", "grpc_port=abc", "grpc_port=0", "grpc_port=65536", "grpcport=1", "tls=perhaps"]
)
def test_a_wrong_option_is_refused_by_name(query: str) -> None:
    with pytest.raises(SpecError, match=query.partition("=")[0]):
        settings_from_locator(parse_locator(f"qdrant://localhost:6333/docs?{query}", "source", {}))


def test_the_grpc_port_is_guessed_only_beside_the_usual_rest_port() -> None:
    assert settings_from_locator(parse_locator("qdrant://h:6333/docs", "source", {})).known_grpc_port == 6334
    assert settings_from_locator(parse_locator("qdrant://h/docs", "source", {})).known_grpc_port == 6334
    assert settings_from_locator(parse_locator("qdrant://h:7333/docs", "source", {})).known_grpc_port is None
    with pytest.raises(SpecError, match="gRPC port"):
        settings_from_locator(parse_locator("qdrant://h:7333/docs?prefer_grpc=true", "source", {}))


# -- connecting -----------------------------------------------------------------------------------------------


@pytest.mark.server
def test_auto_takes_grpc_where_it_answers_and_rest_elsewhere(double: QdrantDouble) -> None:
    with settings_of(double, "auto").open() as store:
        assert isinstance(store.points(), GrpcTransport)
    with replace(settings_of(double, "auto"), grpc_port=free_port()).open() as store:
        assert isinstance(store.points(), RestTransport)
        assert store.list_collections() == []
    with replace(settings_of(double, "auto"), grpc_port=None).open() as store:
        assert isinstance(store.points(), RestTransport)


@pytest.mark.server
@pytest.mark.parametrize("preference", ["auto", *TRANSPORTS])
def test_a_wrong_or_missing_key_is_an_authentication_error(double: QdrantDouble, preference: str) -> None:
    for key in (SecretStr("wrong-key"), None):
        with pytest.raises(AuthenticationError, match="QDRANT_API_KEY") as caught:
            replace(settings_of(double, preference), api_key=key).open()
        assert "wrong-key" not in str(caught.value)


@pytest.mark.parametrize("preference", ["auto", *TRANSPORTS])
def test_a_dead_address_is_named(preference: GrpcPreference) -> None:
    port = free_port()
    settings = QdrantSettings(host="127.0.0.1", port=port, grpc_port=free_port(), prefer_grpc=preference)
    with pytest.raises(StoreUnavailableError, match=f"qdrant://127.0.0.1:{port}") as caught:
        settings.open()
    assert caught.value.todo


@pytest.mark.server
def test_a_key_without_tls_is_logged_and_not_shown(double: QdrantDouble, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), settings_of(double).open():
        pass
    assert "api_key_without_tls" in caplog.text
    assert "right-key" not in caplog.text


@pytest.mark.server
def test_tls_is_spoken_over_both_transports_and_strangers_are_not_trusted(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    server = QdrantDouble(
        api_key="right-key", tls_certificate=certificate.certificate_path, tls_key=certificate.key_path
    )
    server.start()
    try:
        for preference in TRANSPORTS:
            trusting = settings_of(server, preference, is_tls=True, ca_file=str(certificate.certificate_path))
            with trusting.open() as store:
                store.create(make_spec("docs"))
                store.upsert("docs", make_batch([1, 2]))
                assert store.fetch("docs", [2]).ids == [2]
                store.drop("docs")
        with pytest.raises(StoreRequestError, match="not trusted"):
            settings_of(server, "false", is_tls=True).open()
        with pytest.raises(StoreUnavailableError):
            settings_of(server, "true", is_tls=True, timeout_s=2.0).open()
    finally:
        server.close()
