"""The test servers are real, answer the vendors' unmodified clients, and leave nothing behind however they end."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from rag_migration_pipeline_tests.servers import milvus as milvus_module
from rag_migration_pipeline_tests.servers.chroma import ChromaServer
from rag_migration_pipeline_tests.servers.milvus import MilvusLiteServer, MilvusServer, can_make_namespace
from rag_migration_pipeline_tests.servers.process import (
    ReservedPort,
    ServerError,
    ServerProcess,
    is_alive,
    is_listening,
)

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]
DIMENSION = 4


def chroma_client(url_server: ChromaServer, **settings: Any) -> Any:
    """Return the vendor's HTTP client; settings are made anew, because the client changes them."""
    import chromadb
    from chromadb.config import Settings

    is_tls = url_server.certificate is not None
    return chromadb.HttpClient(
        host=url_server.host,
        port=url_server.port,
        ssl=is_tls,
        settings=Settings(anonymized_telemetry=False, **settings),
    )


def milvus_client(server: MilvusServer | MilvusLiteServer, **options: Any) -> Any:
    """Return the vendor's client; its warnings about its own future are not this test's subject."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pymilvus import MilvusClient
    return MilvusClient(server.uri, **options)


def write_and_count(client: Any) -> int:
    """Write three records into a collection, made if missing, and return the strongly read count."""
    if not client.has_collection("kept"):
        client.create_collection("kept", dimension=DIMENSION, consistency_level="Strong")
    client.upsert("kept", [{"id": i, "vector": [float(i)] * DIMENSION} for i in range(3)])
    return int(client.query("kept", filter="", output_fields=["count(*)"])[0]["count(*)"])


def is_gone(pid: int) -> bool:
    """Whether the process has ended; init may still have to collect it."""
    try:
        return not is_alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


def wait_for(pids: list[int], timeout_s: float = 10.0) -> list[int]:
    """Return the processes that are still there after the time."""
    deadline = time.monotonic() + timeout_s
    while (left := [pid for pid in pids if not is_gone(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Hold every test of this file to the promise: no child of this process that was not there before."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    after = {child.pid for child in psutil.Process().children(recursive=True)}
    assert not [pid for pid in after - before if not is_gone(pid)]


@pytest.fixture(autouse=True)
def http_sessions_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what Chroma's client leaves open: its ``close`` (1.5.9) forgets the HTTP session, a refused client too."""
    made: list[httpx.Client] = []

    class Recorded(httpx.Client):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(httpx, "Client", Recorded)
    yield
    for session in made:
        session.close()


def test_chroma_answers_and_keeps_its_data_over_stop_and_kill(tmp_path: Path) -> None:
    with ChromaServer(tmp_path / "data") as server:
        with chroma_client(server) as client:
            client.create_collection("kept", embedding_function=None).add(ids=["a"], embeddings=[[1.0, 2.0]])
        url, pid = server.url, server.pid
        server.kill()
        assert is_gone(pid)
        assert not is_listening(server.port)
        server.restart()
        assert server.url == url
        with chroma_client(server) as client:
            assert client.get_collection("kept", embedding_function=None).get()["ids"] == ["a"]
        last_pid = server.pid
    assert is_gone(last_pid)
    assert not is_listening(server.port)


# httpx deprecates the string that Chroma's own setting hands to it.
@pytest.mark.filterwarnings("ignore:.verify=<str>:DeprecationWarning")
def test_guarded_chroma_wants_the_token_and_a_trusted_certificate(tmp_path: Path) -> None:
    with ChromaServer(tmp_path / "data", token="s3cret-token", tls=True) as server:
        assert server.certificate is not None
        trust = {"chroma_server_ssl_verify": str(server.certificate.certificate_path)}
        provider = {"chroma_client_auth_provider": "chromadb.auth.token_authn.TokenAuthClientProvider"}
        for header in ("Authorization", "X-Chroma-Token"):
            token = {"chroma_client_auth_credentials": "s3cret-token", "chroma_auth_token_transport_header": header}
            with chroma_client(server, **trust, **provider, **token) as client:
                collection = client.get_or_create_collection("guarded", embedding_function=None)
                collection.upsert(ids=["a"], embeddings=[[1.0, 2.0]])
                assert collection.get(include=["embeddings"])["embeddings"].tolist() == [[1.0, 2.0]]
        assert server.refused_count == 0
        with pytest.raises(Exception, match=r"denied|401"):
            chroma_client(server, **trust, **provider, chroma_client_auth_credentials="wrong")
        with pytest.raises(Exception, match=r"denied|401"):
            chroma_client(server, **trust)
        assert server.refused_count >= 2
        with pytest.raises((httpx.ConnectError, ValueError), match=r"certificate|[Cc]ould not connect"):
            chroma_client(server, **provider, chroma_client_auth_credentials="s3cret-token")
        port, direct_port = server.port, server.direct_port
    assert not is_listening(port)
    assert not is_listening(direct_port)


def test_milvus_lite_answers_and_keeps_its_data_over_stop_and_kill(tmp_path: Path) -> None:
    with MilvusLiteServer(tmp_path / "data") as server:
        client = milvus_client(server)
        assert write_and_count(client) == 3
        client.close()
        server.restart()
        server.kill()
        server.start()
        client = milvus_client(server)
        assert client.list_collections() == ["kept"]
        client.close()
        last_pid = server.pid
    assert is_gone(last_pid)
    assert not is_listening(server.port)


@pytest.mark.slow
def test_milvus_answers_and_keeps_its_data_over_stop_and_kill(tmp_path: Path, milvus_unpack_dir: Path) -> None:
    with MilvusServer(tmp_path, unpack_dir=milvus_unpack_dir, session_ttl_s=10) as server:
        client = milvus_client(server)
        assert client.get_server_version().startswith("v2.3.5")
        assert write_and_count(client) == 3
        client.close()
        assert psutil.Process(server.pid).name() == "milvus"
        uri, pids = server.uri, family(server._process.pid if server._process else 0)
        server.kill()
        assert wait_for(pids) == []
        assert not is_listening(server.port)
        server.restart()
        assert server.uri == uri
        client = milvus_client(server)
        assert client.list_collections() == ["kept"]
        client.close()
        pids = family(server._process.pid if server._process else 0)
    assert wait_for(pids) == []
    assert not is_listening(server.port)


@pytest.mark.slow
def test_milvus_is_reachable_through_its_one_port_only_and_two_run_side_by_side(
    tmp_path: Path, milvus_unpack_dir: Path
) -> None:
    if not can_make_namespace():
        pytest.skip("this machine allows no network namespace: one Milvus at a time")
    with (
        MilvusServer(tmp_path / "one", unpack_dir=milvus_unpack_dir) as one,
        MilvusServer(tmp_path / "two", unpack_dir=milvus_unpack_dir) as two,
    ):
        mine = Path("/proc/self/ns/net").readlink()
        networks = {Path(f"/proc/{server.pid}/ns/net").readlink() for server in (one, two)}
        assert len(networks | {mine}) == 3
        # What listens out here belongs to the launchers, on loopback, and is two forwarded ports each.
        for server in (one, two):
            assert server._process is not None
            sockets = psutil.Process(server._process.pid).net_connections()
            listening = {entry.laddr for entry in sockets if entry.status == psutil.CONN_LISTEN}
            assert {address.ip for address in listening} == {"127.0.0.1"}
            assert server.port in {address.port for address in listening}
            assert len(listening) == 2
        clients = [milvus_client(one), milvus_client(two)]
        clients[0].create_collection("only_in_one", dimension=DIMENSION)
        assert [client.list_collections() for client in clients] == [["only_in_one"], []]
        for client in clients:
            client.close()


def test_milvus_wants_the_password_and_a_trusted_certificate(tmp_path: Path, milvus_unpack_dir: Path) -> None:
    with MilvusServer(tmp_path, unpack_dir=milvus_unpack_dir, auth=True, tls=True) as server:
        assert server.certificate is not None
        trust = {"server_pem_path": str(server.certificate.certificate_path), "server_name": "localhost"}
        client = milvus_client(server, token=server.token, **trust)
        assert client.list_users() == ["root"]
        client.close()
        for credentials in ({"token": "root:wrong"}, {}):
            with pytest.raises(Exception, match=r"Fail connecting|unauthenticated"):
                milvus_client(server, timeout=3, **credentials, **trust).list_collections()


@pytest.mark.parametrize("name", ["chroma", "milvus_lite", "milvus"])
def test_a_killed_owner_takes_its_server_along(name: str, tmp_path: Path, milvus_unpack_dir: Path) -> None:
    server_text = {
        "chroma": "from rag_migration_pipeline_tests.servers.chroma import ChromaServer as S; s = S(path)",
        "milvus_lite": "from rag_migration_pipeline_tests.servers.milvus import MilvusLiteServer as S; s = S(path)",
        "milvus": "from rag_migration_pipeline_tests.servers.milvus import MilvusServer as S; "
        f"s = S(path, unpack_dir=Path({str(milvus_unpack_dir)!r}))",
    }[name]
    script = (
        f"from pathlib import Path; import time; path = Path({str(tmp_path / 'data')!r}); {server_text}\n"
        "s.start(); print(s.port, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        port = int(owner.stdout.readline())
        pids = family(owner.pid)
        assert len(pids) >= 2
        assert is_listening(port)
        owner.kill()
    assert wait_for(pids) == []
    assert not is_listening(port)


def test_a_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = ChromaServer(tmp_path / "data")
    try:
        thread = threading.Thread(target=server.start)
        thread.start()
        thread.join()
        time.sleep(0.3)
        with chroma_client(server) as client:
            assert client.heartbeat() > 0
    finally:
        server.close()


def test_a_server_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('the disk is on fire')"]
    process = ServerProcess("Test server", command, tmp_path / "log")
    process.start()
    with pytest.raises(ServerError, match=r"(?s)Test server ended with exit code 1 .*the disk is on fire"):
        process.wait_until(lambda: False, timeout_s=30)
    assert not process.is_running


def test_a_server_that_never_answers_is_killed_with_its_children(tmp_path: Path) -> None:
    # The child leaves the process group, as a daemon would.
    script = (
        "import subprocess, signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid, flush=True); time.sleep(600)"
    )
    process = ServerProcess("Test server", [sys.executable, "-c", script], tmp_path / "log", stop_timeout_s=0.2)
    process.start()
    deadline = time.monotonic() + 30
    while not process.log_tail().strip().isdigit() and time.monotonic() < deadline:
        time.sleep(0.05)
    child_pid, pid = int(process.log_tail()), process.pid
    with pytest.raises(ServerError, match=r"was not ready within 0\.2 s"):
        process.wait_until(lambda: False, timeout_s=0.2)
    assert wait_for([pid, child_pid]) == []


def test_a_reserved_port_is_given_to_nobody_else_and_refuses_until_its_server_listens() -> None:
    port = ReservedPort()
    try:
        assert not is_listening(port.number)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port.number))
        with port.listener():
            assert is_listening(port.number)
        assert not is_listening(port.number)
    finally:
        port.close()


def test_in_the_open_one_session_waits_for_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"\0milvus-test-server-{os.getpid()}"
    monkeypatch.setattr(milvus_module, "OPEN_LOCK_NAME", name)
    monkeypatch.setattr(milvus_module, "ETCD_PORTS", ())
    first = milvus_module._wait_for_turn(timeout_s=1)
    with pytest.raises(ServerError, match="another Milvus test server"):
        milvus_module._wait_for_turn(timeout_s=0.2)
    threading.Timer(0.3, first.close).start()
    milvus_module._wait_for_turn(timeout_s=10).close()


def test_an_interrupted_owner_stops_its_servers_in_order(tmp_path: Path) -> None:
    """Ctrl-C in the owner reaches the ``with`` block, not the server behind its back."""
    script = (
        "from pathlib import Path; import signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background inherits it ignored
        "from rag_migration_pipeline_tests.servers.chroma import ChromaServer\n"
        f"with ChromaServer(Path({str(tmp_path / 'data')!r})) as s: print(s.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as owner:
        assert owner.stdout is not None
        server_pid = int(owner.stdout.readline())
        owner.send_signal(signal.SIGINT)
        owner.wait(30)
    assert wait_for([server_pid]) == []
