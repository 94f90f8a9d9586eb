"""Asks a web process at a steady rate over many connections, whether it keeps up or not: ``python client.py PLAN``.

PLAN is JSON: ``ports`` (of the web processes, which the connections share), ``rate`` (requests/s), ``seconds``,
``users`` (header lines of each, one connection each) and ``paths``. Prints JSON: milliseconds of each answer from the
moment that the request was due, and how many failed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, header: str) -> None:
        self._reader, self._writer, self._header = reader, writer, header

    async def status_of(self, path: str) -> int:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{self._header}\r\n\r\n"
        self._writer.write(request.encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        if length:
            await self._reader.readexactly(int(length))
        elif b"304" not in head[:12]:
            while size := int(await self._reader.readline(), 16):
                await self._reader.readexactly(size + 2)
            await self._reader.readline()
        return int(head[9:12])

    def close(self) -> None:
        self._writer.close()


async def ask(plan: dict[str, Any]) -> dict[str, Any]:
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for number, header in enumerate(plan["users"]):
        port = plan["ports"][number % len(plan["ports"])]
        free.put_nowait(Connection(*await asyncio.open_connection("127.0.0.1", port), header))
    took: list[float] = []
    failed = 0

    async def one(path: str, due: float) -> None:
        nonlocal failed
        connection = await free.get()
        status = await connection.status_of(path)
        took.append((time.perf_counter() - due) * 1e3)
        failed += status not in (200, 304)
        free.put_nowait(connection)

    began = time.perf_counter()
    tasks = []
    for number in range(int(plan["rate"] * plan["seconds"])):
        due = began + number / plan["rate"]
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(plan["paths"][number % len(plan["paths"])], due)))
    await asyncio.gather(*tasks)
    spent = time.perf_counter() - began
    while not free.empty():
        free.get_nowait().close()
    return {"milliseconds": sorted(took), "failed": failed, "rate": len(took) / spent}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(json.loads(sys.argv[1])))))
