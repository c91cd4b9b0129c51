"""Mutations of a picture: another mode, size or format, damaged chunks, and headers that declare too much."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import PurePath

import numpy as np
from odd_values import odd_bytes
from PIL import Image

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F", "HSV", "LAB")
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "ICO", "TGA", "JPEG2000")


def mutate(data: bytes, name: str, rng: random.Random) -> tuple[bytes, str]:
    """A picture's file with one mutation, and what it was."""
    changes = [_mode, _size, _format, _pixels, _animated, _tags, odd_bytes, odd_bytes]
    if PurePath(name).suffix.lower() == ".png":
        changes += [_chunk, _chunk, _chunk]
    if PurePath(name).suffix.lower() in (".tif", ".tiff"):
        changes += [_directory, _directory, _directory]
    return rng.choice(changes)(data, rng)


def _open(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def _saved(picture: Image.Image, form: str, **how: object) -> bytes:
    """In the format, or in TIFF or PNG where that has no such mode."""
    for name in (form, "TIFF", "PNG"):
        out = io.BytesIO()
        try:
            picture.save(out, name, **how)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, struct.error):
            continue
        return out.getvalue()
    return b""


def _mode(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    picture, mode = _open(data), rng.choice(_MODES)
    try:
        changed = picture.convert(mode)
    except ValueError:
        changed = picture.convert("RGB").convert(mode) if mode in ("LAB", "HSV", "YCbCr") else picture.convert("L")
    return _saved(changed, picture.format or "PNG"), f"mode {mode}"


def _size(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    picture = _open(data)
    x, y = picture.size
    size = rng.choice(((1, 1), (x + 1, y), (y, x), (x, 1), (2 * x, 2 * y), (5000, 5000), (13000, 13000), (40000, 2)))
    changed = Image.new(picture.mode, size) if size[0] > 4000 else picture.resize(size)
    form = "PNG" if size[0] > 4000 else picture.format or "PNG"
    return _saved(changed, form), f"{size[0]} x {size[1]} pixels"


def _format(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    form = rng.choice(_FORMATS)
    return _saved(_open(data).convert("RGB"), form), f"{form} under the old name"


def _pixels(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    picture = _open(data)
    values = np.array(picture).astype(np.uint8)
    how = rng.choice(("zeros", "full", "noise", "inverted", "one pixel", "grey"))
    noise = np.frombuffer(rng.randbytes(values.size), np.uint8).reshape(values.shape)
    if how == "one pixel":
        values.flat[rng.randrange(values.size)] ^= 255
    else:
        options = {"zeros": values * 0, "full": values * 0 + 255, "noise": noise, "inverted": 255 - values}
        values = options.get(how, values * 0 + 100)
    try:
        changed = Image.fromarray(values)
    except (TypeError, ValueError):
        changed = Image.new("L", picture.size, 100)
    return _saved(changed, picture.format or "PNG"), f"pixels: {how}"


def _animated(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    picture, form = _open(data).convert("RGB"), rng.choice(("PNG", "TIFF", "GIF", "WEBP"))
    more = [picture.rotate(90), Image.new("RGB", (3, 3))][: rng.choice((1, 2))]
    return _saved(picture, form, save_all=True, append_images=more), f"{form} of {1 + len(more)} frames"


def _tags(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    picture, exif = _open(data), Image.Exif()
    exif[0x0112] = rng.choice((0, 3, 6, 8, 9, 65535))
    return _saved(picture, picture.format or "PNG", exif=exif, dpi=(0, 0)), f"orientation {exif[0x0112]}"


def _chunk(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A chunk of a PNG changed, its checksum set right again."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    how = rng.choice(
        ("IHDR", "IHDR", "IHDR", "drop", "twice", "IDAT", "text", "pHYs", "PLTE", "tRNS", "length", "order")
    )
    if how == "IHDR":
        header = bytearray(chunks[0][1])
        field = rng.choice(("width", "height", "depth", "colour", "compression", "interlace"))
        if field in ("width", "height"):
            value = rng.choice((0, 1, 47, 13000, 2**20, 2**31 - 1, 2**32 - 1))
            struct.pack_into(">I", header, 4 * (field == "height"), value)
        else:
            value = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
            header[{"depth": 8, "colour": 9, "compression": 10, "interlace": 12}[field]] = value
        chunks[0] = (b"IHDR", bytes(header))
        how = f"IHDR {field} = {value}"
    elif how == "drop":
        how = f"without {chunks.pop(rng.randrange(len(chunks)))[0].decode()}"
    elif how == "twice":
        chunks.insert(1, rng.choice(chunks))
    elif how == "IDAT":
        content = rng.choice((b"", bytes(10_000), rng.randbytes(1000), b"x"))
        chunks = [(name, zlib.compress(content) if name == b"IDAT" else old) for name, old in chunks]
    elif how == "text":
        chunks.insert(1, (b"zTXt", b"a\0\0" + zlib.compress(bytes(rng.choice((10, 1 << 26))))))
    elif how in ("pHYs", "PLTE", "tRNS"):
        chunks.insert(1, (how.encode(), rng.randbytes(rng.choice((0, 1, 2, 6, 9, 768, 5000)))))
    elif how == "order":
        rng.shuffle(chunks)
    packed = data[:8]
    for name, content in chunks:
        length = rng.choice((0, 2**31, 2**32 - 1)) if how == "length" and name == b"IDAT" else len(content)
        packed += struct.pack(">I", length) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return packed, f"PNG: {how}"


def _directory(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """An entry of a TIFF's directory changed."""
    end = "<" if data[:2] == b"II" else ">"
    changed = bytearray(data)
    first = struct.unpack_from(end + "I", data, 4)[0]
    if not 8 <= first < len(data) - 2:
        return odd_bytes(data, rng)
    count = struct.unpack_from(end + "H", data, first)[0]
    entry = first + 2 + 12 * rng.randrange(max(count, 1))
    if entry + 12 > len(data):
        return odd_bytes(data, rng)
    tag = struct.unpack_from(end + "H", data, entry)[0]
    field, code = rng.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "I"), (8, "H")))
    value = rng.choice((0, 1, 2, 3, 5, 7, 16, 256, 32773, 65535, 65536, 13000, 2**31 - 1, 2**32 - 1, first))
    struct.pack_into(end + code, changed, entry + field, value & (0xFFFF if code == "H" else 0xFFFFFFFF))
    if rng.random() < 0.15:  # the directory that follows is the first one
        struct.pack_into(end + "I", changed, min(first + 2 + 12 * count, len(data) - 4), first)
    return bytes(changed), f"TIFF: tag {tag}, field at {field} = {value}"
