"""Redis and RabbitMQ behind TLS, with certificates of their own: for single tests, not shared."""

import socket
from collections.abc import Sequence
from pathlib import Path

from . import certificates
from .rabbitmq import RabbitMQ
from .redis import Redis
from .server import Command


class SecuredRedis(Redis):
    """Reached over TLS, where it asks for a client's certificate, and by a Unix socket; on no plain port."""

    name = "redis-secured"
    packages = ("redis-server", "openssl")
    programs = ("redis-server", "openssl")
    databases = 16

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0"

    @property
    def _socket(self) -> Path:
        return self.home / "server.sock"

    def prepare(self) -> None:
        super().prepare()
        certificates.make(self.program("openssl"), self.home / "tls")

    def commands(self) -> Sequence[Command]:
        tls = self.home / "tls"
        options = {
            "--port": "0",
            "--tls-port": str(self.port),
            "--tls-ca-cert-file": str(tls / "ca.pem"),
            "--tls-cert-file": str(tls / "server.pem"),
            "--tls-key-file": str(tls / "server.key"),
            "--unixsocket": str(self._socket),
        }
        (command,) = super().commands()
        return [Command([*command.argv, *(text for option in options.items() for text in option)])]

    def probe(self) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(self._socket))
            self._ping(connection)


class SecuredRabbitMQ(RabbitMQ):
    """Reached over TLS as well; a client that shows a certificate must show one of the server's authority, and can log
    in by it alone (EXTERNAL), as the user of its common name."""

    name = "rabbitmq-secured"
    packages = ("rabbitmq-server", "openssl")
    programs = (*RabbitMQ.programs, "openssl")
    port_names = (*RabbitMQ.port_names, "tls")

    @property
    def url(self) -> str:
        return f"amqps://guest:guest@127.0.0.1:{self.ports['tls']}//"

    def prepare(self) -> None:
        super().prepare()
        tls = self.home / "tls"
        certificates.make(self.program("openssl"), tls)
        (self.home / "enabled_plugins").write_text("[rabbitmq_auth_mechanism_ssl].\n")
        with (self.home / "rabbitmq.conf").open("a") as settings:
            settings.write(
                f"listeners.ssl.1 = 127.0.0.1:{self.ports['tls']}\n"
                f"ssl_options.cacertfile = {tls}/ca.pem\n"
                f"ssl_options.certfile = {tls}/server.pem\n"
                f"ssl_options.keyfile = {tls}/server.key\n"
                "ssl_options.verify = verify_peer\n"
                "ssl_options.fail_if_no_peer_cert = false\n"
                "auth_mechanisms.1 = PLAIN\n"
                "auth_mechanisms.2 = EXTERNAL\n"
                "ssl_cert_login_from = common_name\n"
            )

    def add_user(self, name: str) -> None:
        """Create a user without a password, who may do everything. Raises ServiceError."""
        self._evaluate(
            f'ok = rabbit_auth_backend_internal:add_user(<<"{name}">>, <<>>, <<"guest">>), '
            f'ok = rabbit_auth_backend_internal:set_permissions(<<"{name}">>, <<"/">>, <<".*">>, <<".*">>, <<".*">>, '
            f'<<"guest">>)'
        )

    def probe(self) -> None:
        super().probe()
        socket.create_connection(("127.0.0.1", self.ports["tls"]), timeout=2).close()
