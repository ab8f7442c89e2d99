"""Pictures and profiles that Pillow cannot write, byte by byte."""

import struct
import zlib


def chunk(kind, data):
    """A chunk of a PNG."""
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def claims(width, height):
    """A PNG that says it is so large, and holds nothing."""
    head = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    )


def tiff(bits, rows, photometric=1, planes=1):
    """An uncompressed TIFF written by hand: the bytes of its rows, and what they mean."""
    data, samples = b"".join(rows), 3 if photometric == 2 else 1
    count = len(rows) // samples if planes == 2 else len(rows)
    width = len(rows[0]) * 8 // bits // (samples if planes == 1 else 1)
    tags = [
        (256, width),
        (257, count),
        (259, 1),
        (262, photometric),
        (277, samples),
        (278, count),
        (284, planes),
    ]
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    strips, size = 8, len(data)
    entries = [(258, 3, samples, bits), (273, 4, 1, strips), (279, 4, 1, size)] + [
        (t, 3, 1, v) for t, v in tags
    ]
    if samples == 3:
        after = 8 + len(data) + 2 + 12 * len(entries) + 4
        each = size // 3
        tail = struct.pack("<3H", bits, bits, bits) + struct.pack(
            "<3I", *(8 + i * each for i in range(3))
        )
        tail += struct.pack("<3I", each, each, each)
        moved = {258: (3, 3, after)}
        if planes == 2:
            moved |= {273: (4, 3, after + 6), 279: (4, 3, after + 18)}
        entries = [(t, *moved.get(t, (k, n, v))) for t, k, n, v in entries]
    else:
        tail = b""
    table = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return head + struct.pack("<H", len(entries)) + table + bytes(4) + tail


def linear_profile(name):
    """An ICC profile of sRGB's primaries without its gamma, written by hand."""

    def xyz(*values):
        return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))

    text = (
        b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name + bytes(1 + 4 + 4 + 2 + 1 + 67)
    )
    tags = {
        b"desc": text,
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": xyz(0.9642, 1, 0.8249),
        b"rXYZ": xyz(0.4360747, 0.2225045, 0.0139322),
        b"gXYZ": xyz(0.3850649, 0.7168786, 0.0971045),
        b"bXYZ": xyz(0.1430804, 0.0606169, 0.7141733),
    } | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), b"curv" + bytes(4) + struct.pack(">I", 0))
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for key, data in tags.items():
        data += bytes(-len(data) % 4)
        table += key + struct.pack(">2I", start + len(body), len(data))
        body += data
    header = struct.pack(
        ">I4sI4s4s4s", start + len(body), bytes(4), 0x02100000, b"mntr", b"RGB ", b"XYZ "
    )
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header + bytes(128 - len(header)) + table + body
