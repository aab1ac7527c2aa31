"""Real servers for Umbel's tests: installed by apt, run on free loopback ports, stopped exactly as started.

`scripts/services` is the command; `tests/services.py` uses the same parts for fixtures and chaos tests.
Standard library only: it must run before anything is installed.

A further system is one subclass of `server.Server` in a file of its own, listed in `catalogue.SERVERS`.
"""
