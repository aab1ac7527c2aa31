"""Certificates for servers with TLS: an authority, a server's and a client's certificate; and strangers to both."""

import subprocess
from pathlib import Path

from .errors import ServiceError

_CONFIGURATION = """\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[member]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""

AUTHORITIES = {"ca": ("server", "client"), "other-ca": ("stranger",)}
"""What is made: authorities, and whom each of them vouches for. Each is `<name>.pem` and `<name>.key`."""


def make(openssl: str, directory: Path) -> None:
    """Make all of `AUTHORITIES` in `directory`, valid for two days for localhost. Raises ServiceError."""
    directory.mkdir()
    configuration = directory / "openssl.cnf"
    configuration.write_text(_CONFIGURATION)

    def issue(name: str, section: str, *signer: str) -> None:
        key, certificate = directory / f"{name}.key", directory / f"{name}.pem"
        command = [openssl, "req", "-x509", "-config", str(configuration), "-extensions", section, "-days", "2"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN=umbel {name}"]
        done = subprocess.run(
            [*command, "-keyout", str(key), "-out", str(certificate), *signer], capture_output=True, text=True
        )
        if done.returncode != 0:
            raise ServiceError(f"openssl made no certificate: {done.stderr.strip()}")

    for authority, members in AUTHORITIES.items():
        issue(authority, "authority")
        for member in members:
            signer = directory / authority
            issue(member, "member", "-CA", f"{signer}.pem", "-CAkey", f"{signer}.key")
