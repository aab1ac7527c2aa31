"""``umbel health``: ask a worker on this machine how it is."""

from __future__ import annotations

import socket
import sys

import click
import msgspec

from umbel.cli.output import write_json
from umbel.nodenames import DEFAULT, node_name
from umbel.worker.health import Health, socket_path

_LARGEST = 1 << 16


@click.command()
@click.option("-n", "--hostname", metavar="NAME", default=DEFAULT, show_default=True, help="Node name, as of `worker`.")
@click.option("--live", is_flag=True, help="Only: does it work, or can it be expected to?")
@click.option("--ready", is_flag=True, help="Only: does it take tasks now?")
@click.option("--timeout", type=click.FloatRange(min=0.01), default=5.0, show_default=True, help="Seconds to answer.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def health(hostname: str, live: bool, ready: bool, timeout: float, as_json: bool) -> None:
    """Ask a worker on this machine how it is; exit status 0 if it is well, 1 if not.

    A worker is live while its supervisor answers, its broker has been heard of, and work is claimed if there is any. It
    is ready while it takes tasks: not before it is connected, and not while it shuts down. Without --live or --ready
    it must be both. The application is not imported. Run it as the user that the worker runs as.

    \b
    Examples:
      umbel health
      umbel health -n mailer@%h --live
      umbel health --ready --json
    """
    name = node_name(hostname)
    found = _ask(name, timeout)
    well = found.live if live and not ready else found.ready
    if as_json:
        write_json(found, indent=0)
    else:
        state = "ready" if found.ready else "live, not ready" if found.live else "not live"
        click.echo(f"{name}: {state}{': ' if found.problem else ''}{found.problem}")
    sys.exit(0 if well else 1)


def _ask(node: str, timeout: float) -> Health:
    """What the node says; where it says nothing, that."""
    path = socket_path(node)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            data = bytearray()
            while (chunk := connection.recv(4096)) and len(data) < _LARGEST:
                data += chunk
        return msgspec.json.decode(data, type=Health)
    except TimeoutError:
        problem = f"no answer within {timeout:g} s"
    except (FileNotFoundError, ConnectionRefusedError):
        problem = f"no such worker runs here ({path})"
    except (OSError, msgspec.MsgspecError) as error:
        problem = f"{error} ({path})"
    return Health(node=node, pid=0, live=False, ready=False, problem=problem)
