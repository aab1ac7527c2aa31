"""python client.py: ask for several ports at once, without blocking the event loop."""

import asyncio

from service import port_is_open


async def main() -> None:
    ports = [22, 80, 443, 5432, 6379]
    sent = [await port_is_open.adelay("localhost", port) for port in ports]
    for port, is_open in zip(ports, await asyncio.gather(*sent), strict=True):
        print(f"{port:5} {'open' if is_open else 'closed'}")


asyncio.run(main())
