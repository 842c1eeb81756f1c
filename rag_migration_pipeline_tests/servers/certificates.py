"""A self-signed certificate for loopback, made when it is needed and never stored in the repository.

What belongs here: making it. What does not: who serves with it (``guard.py``, ``milvus.py``).
"""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

VALID_DAYS = 2


@dataclass(frozen=True)
class Certificate:
    """Where certificate and key lie; a client trusts the server by naming `certificate_path` as its authority."""

    certificate_path: Path
    key_path: Path


def make_certificate(directory: Path) -> Certificate:
    """Make a certificate for ``localhost`` and 127.0.0.1 that is its own authority.

    Args:
        directory: Where the two files go; made if missing.
    """
    # Late: only the tests of TLS need the library.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    # A clock that is a little behind must not see a certificate of the future.
    start = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(start).not_valid_after(start + dt.timedelta(days=VALID_DAYS))
    builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())

    directory.mkdir(parents=True, exist_ok=True)
    made = Certificate(directory / "server.pem", directory / "server.key")
    made.certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key_path.touch(mode=0o600)
    made.key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made
