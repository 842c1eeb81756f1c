"""Notifications: telling somebody that a migration failed.

Belongs here: the message and the ways that it can go: log, signed JSON, Slack, a function of the user's own. Does not
belong here: when something is told (``orchestration/automation.py``).

The JSON that a URL is sent is signed where a key is given, as GitHub signs its webhooks: the header
``X-Rag-Migrate-Signature`` is ``sha256=`` and the HMAC-SHA256, in hex, of ``<X-Rag-Migrate-Timestamp>.<body>``.
"""

import hashlib
import hmac
import importlib
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from rag_migration_pipeline.automation_options import Notifier
from rag_migration_pipeline.errors import SpecError

_log = logging.getLogger(__name__)

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Message:
    """What is told.

    Attributes:
        migration: Its name.
        job: What failed.
        run_id: The run in Dagster.
        errors: What went wrong, by step, and what to do.
        url: The run's page, where ``DAGSTER_WEBSERVER_URL`` says where pages are.
        time: When, in seconds since the epoch.
    """

    migration: str
    job: str
    run_id: str
    errors: tuple[str, ...]
    url: str = ""
    time: float = 0.0

    def text(self) -> str:
        """Return the message as a few lines."""
        lines = [f"Migration {self.migration!r} failed ({self.job}, run {self.run_id[:8]}).", *self.errors[:10]]
        return "\n".join([*lines, self.url] if self.url else lines)

    def to_json(self) -> bytes:
        """Return the message as JSON."""
        return orjson.dumps(asdict(self))


Tell = Callable[[Message], None]


def teller_of(notifier: Notifier, environment: Mapping[str, str] = os.environ) -> Tell:
    """Return what tells a message this way.

    Raises:
        SpecError: The variable of the secret is not set, Slack's library is not installed, or there is no such
            function.
    """
    secret = ""
    if notifier.secret_env is not None:
        secret = environment.get(notifier.secret_env, "")
        if not secret:
            raise SpecError(
                f"notify: the environment variable {notifier.secret_env} is not set or empty.",
                todo="Set it where the code server runs, or leave secret_env out.",
            )
    if notifier.to == "log":
        return lambda message: _log.error("%s", message.text())
    if notifier.to == "slack":
        return _slack(secret, notifier.channel or "")
    if notifier.is_url:
        return lambda message: post(notifier.to, message.to_json(), secret)
    return _function(notifier.to)


def tell_all(tellers: Iterable[Tell], message: Message) -> list[Exception]:
    """Tell everybody; who cannot be told keeps nobody from being told. Returns what went wrong."""
    failed: list[Exception] = []
    for tell in tellers:
        try:
            tell(message)
        except Exception as error:  # noqa: BLE001  whatever it is, the others are to be told
            _log.warning("a notification could not be sent: %s: %s", type(error).__name__, error)
            failed.append(error)
    return failed


def signature(body: bytes, timestamp: str, secret: str) -> str:
    """Return the signature of a body: what a receiver has to compare with the header."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def post(url: str, body: bytes, secret: str = "") -> None:
    """Send JSON to a URL, signed where there is a key.

    Raises:
        OSError: Nobody answers, or the answer is not one of success; the URL's query is not shown.
    """
    timestamp = str(int(time.time()))
    headers = {"Content-Type": "application/json", "X-Rag-Migrate-Timestamp": timestamp}
    if secret:
        headers["X-Rag-Migrate-Signature"] = signature(body, timestamp, secret)
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310  http(s) only
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310
            return
    except urllib.error.HTTPError as error:
        with error:  # an answer, whose connection is to be closed
            raise OSError(f"{url.partition('?')[0]} answered {error.code}") from None
    except urllib.error.URLError as error:
        raise OSError(f"{url.partition('?')[0]} could not be reached: {error.reason}") from None


def _slack(token: str, channel: str) -> Tell:
    try:
        sdk: Any = importlib.import_module("slack_sdk")
    except ModuleNotFoundError as error:
        raise SpecError(
            "notify: slack needs the package slack_sdk.", todo="Run: pip install 'rag_migration_pipeline[slack]'"
        ) from error
    client = sdk.WebClient(token=token, timeout=int(TIMEOUT_S))

    def tell(message: Message) -> None:
        client.chat_postMessage(channel=channel, text=message.text())

    return tell


def _function(path: str) -> Tell:
    module, _, name = path.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpecError(
            f"notify: there is no function {path}: {error}.", todo="Write module:function, of an installed module."
        ) from error
    if not callable(found):
        raise SpecError(f"notify: {path} is no function.", todo="Write module:function.")

    def tell(message: Message) -> None:
        found(message)

    return tell
