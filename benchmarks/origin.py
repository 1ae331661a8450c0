"""A host of images for the archive benchmark: `python -m benchmarks.origin PORT`.

It serves images with the sizes of real providers. It answers with the first-byte time and the speed
of a content network, seen from a data centre.
"""

from __future__ import annotations

import asyncio
import io
import random
import sys

from PIL import Image, ImageFilter

#: The time to the first byte, and the speed of one connection.
FIRST_BYTE_SECONDS, BYTES_PER_SECOND = 0.1, 12_000_000
PIECE = 64 * 1024
SIDE = 1024
#: The side of the small image, which comes without a delay. Pixels.
SMALL_SIDE = 64


def picture(kind: str) -> bytes:
    """Return a picture with the detail and the size in bytes of a photograph."""
    chance = random.Random(1)

    def noise(side: int) -> Image.Image:
        small = Image.frombytes("RGB", (side, side), chance.randbytes(side * side * 3))
        return small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)

    scene = Image.blend(noise(12), noise(96), 0.3)
    grain = noise(SIDE).filter(ImageFilter.GaussianBlur(0.8))
    out = io.BytesIO()
    Image.blend(scene, grain, 0.05).save(out, kind, quality=92)
    return out.getvalue()


def small_picture() -> bytes:
    """Return the small image, a PNG."""
    out = io.BytesIO()
    Image.linear_gradient("L").resize((SMALL_SIDE, SMALL_SIDE)).convert("RGB").save(out, "PNG")
    return out.getvalue()


async def _serve(port: int) -> None:
    bodies = {b"png": picture("PNG"), b"jpeg": picture("JPEG"), b"small": small_picture()}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                kind = head.split(b" ")[1].rpartition(b".")[2]
                body = memoryview(bodies[kind])
                if kind != b"small":
                    await asyncio.sleep(FIRST_BYTE_SECONDS)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: image/%s\r\nContent-Length: %d\r\n\r\n"
                    % (kind, len(body))
                )
                if kind == b"small":
                    writer.write(body)
                    continue
                for start in range(0, len(body), PIECE):
                    writer.write(body[start : start + PIECE])
                    await asyncio.sleep(PIECE / BYTES_PER_SECOND)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
