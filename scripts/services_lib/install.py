"""Installing servers with apt, for machines that have it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable

from .catalogue import given_url, server_class
from .errors import ServiceError


def install(names: Iterable[str]) -> None:
    """Install the packages of those systems whose programs are missing. Raises ServiceError."""
    missing: dict[str, list[str]] = {}
    for name in names:
        if given_url(name):
            print(f"{name}: a server is given by the environment", flush=True)
        elif absent := server_class(name).missing():
            missing[name] = absent
        else:
            print(f"{name}: installed", flush=True)
    if not missing:
        return
    packages = sorted({package for name in missing for package in server_class(name).packages})
    for name, absent in missing.items():
        print(f"{name}: {', '.join(absent)} missing", flush=True)
    _apt_get(packages)
    remaining = [
        f"{name} ({', '.join(server_class(name).missing())})" for name in missing if server_class(name).missing()
    ]
    if remaining:
        raise ServiceError(f"installed {', '.join(packages)}, and yet programs are missing: {'; '.join(remaining)}")


def _apt_get(packages: list[str]) -> None:
    apt_get = shutil.which("apt-get")
    if apt_get is None:
        raise ServiceError(f"there is no apt-get here; install by other means: {' '.join(packages)}")
    prefix: list[str] = []
    if os.geteuid() != 0:
        sudo = shutil.which("sudo")
        if sudo is None:
            raise ServiceError(f"neither root nor sudo; ask for: apt-get install {' '.join(packages)}")
        prefix = [sudo] if sys.stdin.isatty() else [sudo, "-n"]
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    quiet = ["-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]
    print(f"apt-get install {' '.join(packages)} …", flush=True)
    _run([*prefix, *environment, apt_get, *quiet, "update"])
    _run([*prefix, *environment, apt_get, *quiet, "install", "-y", "--no-install-recommends", *packages])


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        ending = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-15:])
        raise ServiceError(f"{' '.join(argv)} failed with status {done.returncode}:\n{ending}")
