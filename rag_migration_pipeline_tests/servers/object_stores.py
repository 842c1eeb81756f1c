"""Emulators of Google Cloud Storage and of Azure Blob Storage, as processes; S3 has ``s3.py``.

Belongs here: starting them, the environment by which drivers find them. Does not belong here: promises
(``unit/test_object_stores.py``).

Google's is a package of PyPI. Azure's is Microsoft's Azurite, a package of npm, which is used where it is on the PATH.
Neither asks for keys as the real store does, and Google's cannot give up an upload that was begun (it answers 501).
"""

import shutil
import sys
from pathlib import Path

import pytest

from rag_migration_pipeline_tests.servers.process import Server, ServerProcess, is_listening

BUCKET = "files"
READY_TIMEOUT_S = 60.0
AZURITE = shutil.which("azurite-blob")
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own account and key, which are public."""


class _Emulator(Server):
    """A process that keeps objects in memory.

    Attributes:
        protocol: Under which fsspec knows it.
    """

    protocol: str

    def __init__(self, folder: Path) -> None:
        """Describe it; the log goes into the folder."""
        super().__init__()
        self._folder = folder

    def start(self) -> None:
        """Start, and return when it accepts connections."""
        process = ServerProcess(type(self).__name__, self._command(), self._folder / "log", cwd=self._folder)
        process.start()
        process.wait_until(lambda: is_listening(self.port), READY_TIMEOUT_S)
        self._process = process

    def _command(self) -> list[str]:
        raise NotImplementedError

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let drivers of this process find it, as a deployment's environment would."""
        raise NotImplementedError


class GoogleEmulator(_Emulator):
    """``gcp-storage-emulator``."""

    protocol = "gs"

    def _command(self) -> list[str]:
        start = "from gcp_storage_emulator.__main__ import main; main()"
        options = [f"--host={self.host}", f"--port={self.port}", "--in-memory", f"--default-bucket={BUCKET}"]
        return [sys.executable, "-c", start, "start", *options]

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """See the base."""
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{self.host}:{self.port}")
        monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")
        # Else gcsfs asks over gRPC, which the emulator does not speak, and waits a minute for it.
        monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


class AzureEmulator(_Emulator):
    """Azurite."""

    protocol = "abfs"

    def _command(self) -> list[str]:
        assert AZURITE is not None
        options = ["--blobHost", self.host, "--blobPort", str(self.port), "--disableTelemetry"]
        return [AZURITE, "--inMemoryPersistence", "--skipApiVersionCheck", *options]

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """See the base; makes the bucket, which is called container there."""
        parts = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": ACCOUNT,
            "AccountKey": KEY,
            "BlobEndpoint": f"http://{self.host}:{self.port}/{ACCOUNT}",
        }
        text = ";".join(f"{name}={value}" for name, value in parts.items())
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(text) as client:
            container = client.get_container_client(BUCKET)
            if not container.exists():
                container.create_container()
