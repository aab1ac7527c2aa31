"""RabbitMQ: a private node with a private epmd, without root rights or systemd."""

import os
import secrets
import subprocess
from collections.abc import Sequence

from . import amqp_probe
from .errors import ServiceError
from .server import Command, Server

_NODE = "ra@localhost"
_COOKIE = "umbel-tests"

_DEAD_LETTER_RETRY = 2000
"""Milliseconds after which a delayed message that fell due while the server booted, and found no route yet, is tried
again. The server's own default is three minutes."""


class RabbitMQ(Server):
    """A single node with one Erlang scheduler; virtual hosts are added to it while it runs."""

    name = "rabbitmq"
    packages = ("rabbitmq-server",)
    programs = ("rabbitmq-server", "epmd", "erl_call")
    # Debian's own commands go through `su`; those of the release itself do not.
    program_directories = ("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",)
    port_names = ("main", "dist", "epmd")
    start_patience = 120.0
    stop_patience = 60.0

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def prepare(self) -> None:
        (self.home / "data").mkdir()
        (self.home / "enabled_plugins").write_text("[].\n")
        (self.home / "rabbitmq.conf").write_text("disk_free_limit.absolute = 50MB\n")
        cookie = self.home / ".erlang.cookie"
        cookie.write_text(_COOKIE)
        cookie.chmod(0o400)

    def commands(self) -> Sequence[Command]:
        epmd = [self.program("epmd"), "-port", str(self.ports["epmd"]), "-address", "127.0.0.1"]
        return [Command(epmd), Command([self.program("rabbitmq-server")], self._environment())]

    def probe(self) -> None:
        amqp_probe.log_in(self.port)

    def add_vhost(self, name: str) -> None:
        """Create a virtual host in which `guest` may do everything. Raises ServiceError."""
        self._evaluate(
            f'ok = rabbit_vhost:add(<<"{name}">>, <<"guest">>), ok = rabbit_auth_backend_internal:set_permissions('
            f'<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"guest">>)'
        )

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all its queues. Raises ServiceError."""
        self._evaluate(f'ok = rabbit_vhost:delete(<<"{name}">>, <<"guest">>)')

    def _evaluate(self, expression: str) -> None:
        """Run Erlang in the node: 20 ms, where rabbitmqctl takes seconds to say the same.

        Under a name of its own: the node refuses a second caller of the same name.
        """
        done = subprocess.run(
            [self.program("erl_call"), "-h", f"umbel{secrets.token_hex(6)}", "-sname", _NODE, "-c", _COOKIE, "-e"],
            input=f"{expression}.\n",
            env={**os.environ, **self._environment()},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode != 0 or not done.stdout.startswith("{ok,"):
            raise ServiceError(f"RabbitMQ refused {expression}: {done.stdout.strip()} {done.stderr.strip()}")

    def _environment(self) -> dict[str, str]:
        home = self.home
        return {
            "PATH": os.pathsep.join([os.path.dirname(self.program("rabbitmq-server")), os.environ["PATH"]]),
            "HOME": str(home),
            "RABBITMQ_NODENAME": _NODE,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.ports["dist"]),
            "ERL_EPMD_PORT": str(self.ports["epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log.d"),
            "RABBITMQ_PID_FILE": str(home / "rabbitmq.pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none"
            f" -rabbit dead_letter_worker_publisher_confirm_timeout {_DEAD_LETTER_RETRY}",
            "ERL_CRASH_DUMP": str(home / "erl_crash.dump"),
        }
