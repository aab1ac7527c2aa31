"""Free loopback ports that stay free.

Ports come from below the kernel's ephemeral range: a client that reconnects to a stopped server on an ephemeral
port can be connected to itself by the kernel, and the restarted server then cannot have its port back.
"""

import random
import socket

_LOWEST, _HIGHEST = 15000, 32000


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now.

    Nothing reserves it: a server that finds it taken after all is started anew on another.
    """
    chosen = random.SystemRandom()
    while True:
        port = chosen.randint(_LOWEST, _HIGHEST)
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
