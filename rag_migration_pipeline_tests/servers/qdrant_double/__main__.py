"""The double as a process of its own: ``python -m rag_migration_pipeline_tests.servers.qdrant_double``.

What belongs here: arguments, sockets, threads, and closing the shards when told to stop. Two doors, one registry.
"""

import argparse
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import uvicorn

from rag_migration_pipeline_tests.servers.qdrant_double.faults import Faults
from rag_migration_pipeline_tests.servers.qdrant_double.grpc_api import Gatekeeper, add_services
from rag_migration_pipeline_tests.servers.qdrant_double.registry import Registry
from rag_migration_pipeline_tests.servers.qdrant_double.rest_api import RestApi

# The server itself sets no limit (qdrant/qdrant `src/tonic/mod.rs`: max_decoding_message_size(usize::MAX)); proxies in
# front of it do. A limit keeps clients honest about cutting their requests.
DEFAULT_GRPC_LIMIT_BYTES = 64 * 1024 * 1024
_GRPC_WORKERS = 8
_STOP_GRACE_S = 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--api-key", help="refuse requests without this key")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--grpc-limit-bytes", type=int, default=DEFAULT_GRPC_LIMIT_BYTES)
    parser.add_argument("--legacy-vectors", action="store_true", help="answer gRPC in the vector layout before 1.16")
    parser.add_argument("--tls-certificate", type=Path, help="PEM; with --tls-key both doors speak TLS only")
    parser.add_argument("--tls-key", type=Path)
    return parser.parse_args()


def _grpc_server(arguments: argparse.Namespace, registry: Registry, faults: Faults) -> grpc.Server:
    options = [
        ("grpc.max_receive_message_length", arguments.grpc_limit_bytes),
        ("grpc.max_send_message_length", -1),
        # Otherwise a second server on the same port starts without a word and gets every other connection.
        ("grpc.so_reuseport", 0),
    ]
    gatekeeper = Gatekeeper(faults, arguments.api_key)
    server = grpc.server(ThreadPoolExecutor(_GRPC_WORKERS), interceptors=[gatekeeper], options=options)
    add_services(server, registry, arguments.legacy_vectors)
    address = f"{arguments.host}:{arguments.grpc_port}"
    if arguments.tls_certificate is None:
        server.add_insecure_port(address)
    else:
        pair = (arguments.tls_key.read_bytes(), arguments.tls_certificate.read_bytes())
        server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    return server


def _rest_server(arguments: argparse.Namespace, registry: Registry, faults: Faults) -> uvicorn.Server:
    tls: dict[str, Any] = {}
    if arguments.tls_certificate is not None:
        tls = {"ssl_certfile": str(arguments.tls_certificate), "ssl_keyfile": str(arguments.tls_key)}
    config = uvicorn.Config(
        RestApi(registry, faults, arguments.api_key).app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_STOP_GRACE_S,
        **tls,
    )
    return uvicorn.Server(config)


def _listening_socket(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    return listening


def main() -> None:
    """Serve until SIGINT or SIGTERM, then close the shards."""
    arguments = _arguments()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    faults = Faults()
    registry = Registry(arguments.data_dir)
    try:
        grpc_server = _grpc_server(arguments, registry, faults)
        grpc_server.start()
        # In a thread, because uvicorn in the main thread would take the signals for itself.
        rest_server = _rest_server(arguments, registry, faults)
        listening = _listening_socket(arguments.host, arguments.http_port)
        rest_thread = threading.Thread(target=rest_server.run, kwargs={"sockets": [listening]})
        rest_thread.start()
        stopping.wait()
        rest_server.should_exit = True
        rest_thread.join()
        grpc_server.stop(_STOP_GRACE_S).wait()
    finally:
        registry.close()


if __name__ == "__main__":
    main()
