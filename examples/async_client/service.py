"""Tasks that are coroutines."""

import asyncio

from umbel import Umbel

app = Umbel("service")


@app.task
async def port_is_open(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
