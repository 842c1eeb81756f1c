"""An S3 server in this process: moto's, on a free loopback port, with a hook before every request.

Belongs here: starting and stopping it, the environment by which drivers find it, looking into its buckets with the
vendor's client. Does not belong here: promises (``test_*.py``).
"""

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import boto3
import fsspec
import pytest
from botocore.config import Config
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

KEY, SECRET = "AKIAXYZZYXYZZY000001", "s3cr3t/of+the/bucket/Xyzzy0123456789"
ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code} of the test</Message></Error>"
REASONS = {"SlowDown": "503 Slow Down", "AccessDenied": "403 Forbidden", "InternalError": "500 Internal Server Error"}

Request = tuple[str, str]
"""Method, and path with query."""


class _Quiet(WSGIRequestHandler):
    def log(self, *_args: Any) -> None:
        """Say nothing."""


class S3Server:
    """The server; its buckets live as long as the process, so each test makes one of its own.

    Attributes:
        requests: Every request, in order.
        fault: Called before each request; returns the S3 error code that is answered instead, or None.
    """

    def __init__(self) -> None:
        """Start nothing yet."""
        self.requests: list[Request] = []
        self.be_well()
        self._app = DomainDispatcherApplication(create_backend_app)

    def __enter__(self) -> Self:
        """Start it."""
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def be_well(self) -> None:
        """Answer all requests."""
        self.fault: Callable[[str, str], str | None] = lambda _method, _path: None

    def be_faulty(self, code: str, *methods: str, times: int | None = None) -> None:
        """Answer requests of these methods with an S3 error code, so often."""
        left = times

        def fault(method: str, _path: str) -> str | None:
            nonlocal left
            if method not in methods or left == 0:
                return None
            left = None if left is None else left - 1
            return code

        self.fault = fault

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}".rstrip("?")
        self.requests.append((environ["REQUEST_METHOD"], path))
        code = self.fault(environ["REQUEST_METHOD"], path)
        if code is None:
            return self._app(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(REASONS[code], [("Content-Type", "application/xml")])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [ERROR.format(code=code).encode()]

    def client(self) -> Any:
        """Return the vendor's client."""
        once = Config(retries={"max_attempts": 0})
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=once,
        )

    def make_bucket(self, name: str) -> None:
        """Make a bucket."""
        self.client().create_bucket(Bucket=name)

    def empty(self, bucket: str) -> None:
        """Delete all objects of a bucket."""
        for key in self.keys(bucket):
            self.client().delete_object(Bucket=bucket, Key=key)

    def keys(self, bucket: str) -> list[str]:
        """Return the keys of a bucket's objects."""
        found = self.client().list_objects_v2(Bucket=bucket)
        return [item["Key"] for item in found.get("Contents", [])]

    def uploads(self, bucket: str) -> list[str]:
        """Return the keys of uploads that were begun and neither completed nor given up."""
        return [item["Key"] for item in self.client().list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


def environment(server_url: str, secret: str = SECRET) -> dict[str, str]:
    """Return the variables by which drivers find a server, as a deployment's environment would have them."""
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": server_url,
        "AWS_MAX_ATTEMPTS": "1",  # of botocore; s3fs tries five times by itself
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def use(server_url: str, monkeypatch: pytest.MonkeyPatch, secret: str = SECRET) -> None:
    """Let drivers of this process find a server."""
    for name, value in environment(server_url, secret).items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
