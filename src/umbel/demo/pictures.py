"""Pictures in pure Python: painted, shrunk, put side by side, written as PNG.

A picture is a list of rows, each a ``bytearray`` of red, green and blue, a byte each.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from umbel.errors import UmbelError

Picture = list[bytearray]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_8_BIT = (8, 2, 0, 0, 0)
_DEEPEST = 32
_SEEDS = (
    (-0.8, 0.156),
    (0.285, 0.01),
    (-0.4, 0.6),
    (-0.70176, -0.3842),
    (-0.835, -0.2321),
    (0.355, 0.355),
    (-0.54, 0.54),
    (-0.1, 0.651),
)
"""Points at which the Julia set is worth looking at, one a picture."""


class PictureError(UmbelError):
    """A file is not a picture as ``write_png`` writes them."""


def paint(number: int, width: int, height: int, on_row: Callable[[int], object] | None = None) -> Picture:
    """Julia set number ``number``; ``on_row`` is called with the number of rows done."""
    seed = complex(*_SEEDS[number % len(_SEEDS)])
    palette = [_colour(step / _DEEPEST, number) for step in range(_DEEPEST + 1)]
    scale = 3.0 / width
    rows: Picture = []
    for y in range(height):
        row = bytearray()
        for x in range(width):
            z = complex((x - width / 2) * scale, (y - height / 2) * scale)
            depth = 0
            while depth < _DEEPEST and z.real * z.real + z.imag * z.imag < 4.0:
                z = z * z + seed
                depth += 1
            row += palette[depth]
        rows.append(row)
        if on_row is not None:
            on_row(y + 1)
    return rows


def _colour(depth: float, number: int) -> bytes:
    turn = number / len(_SEEDS)
    return bytes(int(255 * depth * (0.35 + 0.65 * ((turn + part) % 1.0))) for part in (0.0, 1 / 3, 2 / 3))


def shrink(picture: Picture, factor: int) -> Picture:
    """Every square of ``factor`` × ``factor`` points becomes one point of their mean colour."""
    area = factor * factor
    small: Picture = []
    for top in range(0, len(picture) - factor + 1, factor):
        band = picture[top : top + factor]
        row = bytearray()
        for left in range(0, len(band[0]) - 3 * factor + 1, 3 * factor):
            for part in range(3):
                row.append(sum(sum(line[left + part : left + 3 * factor : 3]) for line in band) // area)
        small.append(row)
    return small


def side_by_side(pictures: Sequence[Picture], columns: int) -> Picture:
    """Pictures of the same size as tiles of one, ``columns`` in a row; empty tiles are white."""
    height, width = len(pictures[0]), len(pictures[0][0])
    white = bytearray(b"\xff" * width)
    sheet: Picture = []
    for first in range(0, len(pictures), columns):
        tiles = pictures[first : first + columns]
        sheet += [
            bytearray(b"".join(tiles[n][y] if n < len(tiles) else white for n in range(columns))) for y in range(height)
        ]
    return sheet


def write_png(path: Path, picture: Picture) -> int:
    """Write ``picture`` as an RGB PNG; returns its size in bytes."""
    head = struct.pack(">II5B", len(picture[0]) // 3, len(picture), *_COLOUR_8_BIT)
    pixels = zlib.compress(b"".join(b"\x00" + row for row in picture))
    data = _SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    return path.write_bytes(data)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def read_png(path: Path) -> Picture:
    """A picture that ``write_png`` wrote. Raises PictureError for any other file."""
    data = path.read_bytes()
    if not data.startswith(_SIGNATURE):
        raise PictureError(f"{path} is not a PNG file")
    width, height, *kind = struct.unpack_from(">II5B", data, len(_SIGNATURE) + 8)
    if tuple(kind) != _COLOUR_8_BIT:
        raise PictureError(f"{path} is a PNG file of another kind than 8-bit RGB")
    start = data.index(b"IDAT") + 4
    (length,) = struct.unpack_from(">I", data, start - 8)
    pixels = zlib.decompress(data[start : start + length])
    stride = 3 * width + 1
    if len(pixels) != stride * height or any(pixels[::stride]):
        raise PictureError(f"{path} is filtered or in several chunks")
    return [bytearray(pixels[y * stride + 1 : (y + 1) * stride]) for y in range(height)]
