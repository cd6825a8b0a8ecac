"""The guest's screen as the programs write it: PNG files."""
import struct
import zlib


def read_png(path):
    """Width, height and the lines (RGB bytes) of an 8-bit picture without filters, as `bygone screenshot` writes it."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert (depth, kind) == (8, 2), (depth, kind)
    packed, at = b"", 8
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at:at + 8])
        packed += data[at + 8:at + 8 + size] if name == b"IDAT" else b""
        at += size + 12
    raw, step = zlib.decompress(packed), width * 3 + 1
    assert not any(raw[::step]), "a line with a filter"
    return width, height, [raw[line * step + 1:(line + 1) * step] for line in range(height)]
