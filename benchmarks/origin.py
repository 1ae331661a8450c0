"""A host of images for the archive's benchmark: `python -m benchmarks.origin PORT`.

Serves pictures of the sizes that providers make, after the first-byte time and at the rate of a
content network as seen from a data centre.
"""

from __future__ import annotations

import asyncio
import io
import random
import sys

from PIL import Image, ImageFilter

#: The time to the first byte, seconds; and the rate of one connection, bytes a second.
FIRST_BYTE, RATE = 0.1, 12_000_000
PIECE = 64 * 1024
SIDE = 1024


def picture(kind: str) -> bytes:
    """A picture as detailed as a photograph, so that it has a photograph's size in bytes."""
    chance = random.Random(1)

    def noise(side: int) -> Image.Image:
        small = Image.frombytes("RGB", (side, side), chance.randbytes(side * side * 3))
        return small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)

    scene = Image.blend(noise(12), noise(96), 0.3)
    grain = noise(SIDE).filter(ImageFilter.GaussianBlur(0.8))
    out = io.BytesIO()
    Image.blend(scene, grain, 0.05).save(out, kind, quality=92)
    return out.getvalue()


async def _serve(port: int) -> None:
    bodies = {b"png": picture("PNG"), b"jpeg": picture("JPEG")}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(FIRST_BYTE)
                kind = head.split(b" ")[1].rpartition(b".")[2]
                body = memoryview(bodies[kind])
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: image/%s\r\nContent-Length: %d\r\n\r\n"
                    % (kind, len(body))
                )
                for start in range(0, len(body), PIECE):
                    writer.write(body[start : start + PIECE])
                    await asyncio.sleep(PIECE / RATE)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
