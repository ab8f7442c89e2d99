"""Headers as Pillow, libjpeg and others write them, and as nobody should."""

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from degrade import JPEG, parse

from .conftest import cases
from .jpeg_reference import content, decode, encode, segments, taken_apart

PHOTO = content("picture", 45, 70, 3, 8)
WAYS = {
    "baseline": {"quality": 30},
    "optimised": {"quality": 71, "optimize": True},
    "progressive": {"quality": 5, "progressive": True},
    "both": {"quality": 90, "progressive": True, "optimize": True},
    "own tables": {"qtables": [list(range(1, 65)), list(range(64, 0, -1))]},
    "three tables": {"qtables": [[5] * 64, [6] * 64, [7] * 64]},
    "one table": {"qtables": [[9] * 64]},
    "16 bits": {"qtables": [[300] * 64, [1000] * 64]},
    "more segments": {
        "quality": 40,
        "comment": b"x" * 500,
        "exif": b"Exif\0\0" + b"y" * 900,
        "dpi": (72, 72),
    },
    "restarts": {"quality": 40, "restart_marker_rows": 1},
}


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])  # those that Pillow writes
@pytest.mark.parametrize("way", WAYS)
def test_header_gives_operator_that_made_file(way, sampling, tmp_path):
    data = encode((PHOTO[0] * 255).round().byte(), sampling, **WAYS[way])
    f = JPEG.from_file(data)
    assert f.subsampling == sampling
    assert torch.equal(f(PHOTO)[0], decode(data).float() / 255)
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    assert JPEG.from_file(path) == JPEG.from_file(str(path)) == f == parse(str(f))


@pytest.mark.parametrize("options", [{"quality": 35}, {"qtables": [[9] * 64, [300] * 64]}])
def test_header_of_a_440_file_gives_its_operator(options):
    data = encode((PHOTO[0] * 255).round().byte(), "4:4:0", **options)
    f = JPEG.from_file(data)
    assert f.subsampling == "4:4:0"
    assert torch.equal(f(PHOTO)[0], decode(data).float() / 255)


def test_header_of_grayscale_has_one_table():
    gray = PHOTO[:, :1]
    data = encode((gray[0] * 255).round().byte(), quality=33)
    f = JPEG.from_file(data, surrogate="cubic")
    assert len(f.tables) == 1 and f.surrogate == "cubic"
    assert torch.equal(f(gray)[0], decode(data).float() / 255)


BYTES = encode((PHOTO[0] * 255).round().byte(), quality=30)
FRAME, SCAN = BYTES.index(b"\xff\xc0"), BYTES.index(b"\xff\xda")


def patched(at: int, value: int) -> bytes:
    return BYTES[:at] + bytes([value]) + BYTES[at + 1 :]


def cmyk() -> bytes:
    file = io.BytesIO()
    Image.new("CMYK", (8, 8)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    "data, message",
    [
        (cmyk(), "CMYK"),
        (encode((PHOTO[0] * 255).round().byte(), "4:4:4", quality=50, keep_rgb=True), "RGB"),
        (patched(FRAME + 1, 0xC9), "arithmetic"),
        (patched(FRAME + 1, 0xC3), "lossless"),
        (patched(FRAME + 1, 0xC5), "hierarchical"),
        (patched(FRAME + 4, 12), "12 bits"),
        (patched(FRAME + 11, 0x41), "4x1"),  # 4:1:1
        (patched(FRAME + 14, 0x21), "2x1"),  # Cb and Cr differ
        (patched(FRAME + 12, 3), "lacks quantisation table 3"),
        (patched(BYTES.index(b"\xff\xdb") + 5, 0), "0"),
        (b"", "no JPEG"),
        (b"\x89PNG\r\n\x1a\n", "no JPEG"),
        (b"\xff\xd8", "truncated"),
        (b"\xff\xd8\xff\xd9", "truncated"),
        (b"\xff\xd8\xff\xda\x00\x02", "no frame"),
        (b"\xff\xd8\xff\xe0\x00\x01", "damaged"),
        (b"\xff\xd8garbage", "truncated"),
    ],
)
def test_header_error_names_damage_or_limit(data, message):
    with pytest.raises(ValueError, match=message):
        JPEG.from_file(data)


def test_header_rejects_truncation_before_scan():
    whole = SCAN + 2 + int.from_bytes(BYTES[SCAN + 2 : SCAN + 4], "big")
    for end in range(whole):
        with pytest.raises(ValueError, match="JPEG"):
            JPEG.from_file(BYTES[:end])
    assert JPEG.from_file(BYTES[:whole]) == JPEG.from_file(BYTES)


@cases(300)
@given(st.integers(2, SCAN), st.binary(min_size=1, max_size=8))
def test_header_with_garbage_is_read_or_rejected(at, garbage):
    try:
        f = JPEG.from_file(BYTES[:at] + garbage + BYTES[at + len(garbage) :])
    except ValueError:
        return
    assert parse(str(f)) == f


def test_missing_file_raises_oserror(tmp_path):
    with pytest.raises(OSError):
        JPEG.from_file(tmp_path / "none.jpg")


# Files put together by hand: Pillow decides what they mean ----------------------------------------

APP14 = 0xEE, b"Adobe\0\x64\0\0\0\0"


PARTS, DATA = taken_apart(BYTES)
TABLES = [body for marker, body in PARTS if marker == 0xDB]
WITHOUT_TABLES = [part for part in PARTS if part[0] != 0xDB]


def wide(body, first=None):
    values = body[1:65] if first is None else [first, *body[2:65]]
    return bytes([0x10 | body[0]]) + b"".join(v.to_bytes(2, "big") for v in values)


def renamed(parts, idents):
    """The components with other ids."""
    out = []
    for marker, body in parts:
        body = bytearray(body)
        if marker == 0xC0:
            body[6:15:3] = idents
        elif marker == 0xDA:
            body[1:7:2] = idents
        out.append((marker, bytes(body)))
    return out


def made_of(parts, data=DATA):
    return b"\xff\xd8" + segments(*parts) + data


MARK = BYTES[FRAME:]
READ = {
    "one segment for both tables": made_of(
        [PARTS[0], (0xDB, b"".join(TABLES)), *WITHOUT_TABLES[1:]]
    ),
    "16 bits": made_of([PARTS[0], (0xDB, wide(TABLES[0]) + TABLES[1]), *WITHOUT_TABLES[1:]]),
    "a table said twice": made_of([PARTS[0], (0xDB, b"\0" + b"\1" * 64), *PARTS[1:]]),
    "tables after the frame": made_of(
        [*WITHOUT_TABLES[:-1], *((0xDB, body) for body in TABLES), WITHOUT_TABLES[-1]]
    ),
    "fill bytes": BYTES[:FRAME] + b"\xff" * 7 + BYTES[FRAME:],
    "a restart before the header": b"\xff\xd8\xff\xd0" + BYTES[2:],
    "bytes between segments": BYTES[:FRAME] + b"abc\0" + BYTES[FRAME:],
    "a thumbnail": made_of([PARTS[0], (0xE1, b"Exif\0\0" + BYTES), *PARTS[1:]]),
    "no JFIF": made_of(PARTS[1:]),
    "Adobe, YCbCr": made_of([(APP14[0], APP14[1] + b"\1"), *PARTS[1:]]),
    "JFIF and Adobe's RGB": made_of([PARTS[0], (APP14[0], APP14[1] + b"\0"), *PARTS[1:]]),
    "Adobe, too short": made_of([APP14, *PARTS[1:]]),
    "JFIF and ids RGB": made_of(renamed(PARTS, b"RGB")),
    "Adobe's YCbCr and ids RGB": made_of(
        [(APP14[0], APP14[1] + b"\1"), *renamed(PARTS[1:], b"RGB")]
    ),
    "ids rgb": made_of(renamed(PARTS[1:], b"rgb")),
}


@pytest.mark.parametrize("kind", READ)
def test_header_is_read_as_pillow_reads_it(kind):
    assert torch.equal(JPEG.from_file(READ[kind])(PHOTO)[0], decode(READ[kind]).float() / 255)


def test_table_redefined_between_scans():
    """Three scans, table 0 said anew between the first two, or table 1 for the first time."""
    planes = (
        Image.fromarray((PHOTO[0] * 255).round().byte().permute(1, 2, 0).numpy())
        .convert("YCbCr")
        .split()
    )
    gray = []
    for plane, quality in zip(planes, (90, 10, 10), strict=True):
        file = io.BytesIO()
        plane.save(file, "JPEG", quality=quality)
        gray.append(taken_apart(file.getvalue()))
    (first, *_), (second, *_), _ = (
        [body for marker, body in parts if marker == 0xDB] for parts, _ in gray
    )
    huffman = [part for part in gray[0][0] if part[0] == 0xC4]
    luma, coarse = (JPEG.from_file(made_of(parts)).tables[0] for parts, _ in gray[:2])
    said = {}
    for table, again, early in (
        (0, second, False),
        (1, b"\1" + second[1:], False),
        (1, b"\1" + second[1:], True),
    ):
        tables = bytes([0, table, table])
        frame = (
            b"\x08"
            + bytes([0, 45, 0, 70, 3])
            + b"".join(bytes([i + 1, 0x11, tables[i]]) for i in range(3))
        )
        tables = [(0xDB, first), (0xDB, again)] if early else [(0xDB, first)]
        data = made_of([gray[0][0][0], *tables, (0xC0, frame), *huffman], b"")
        for i, (_, scan) in enumerate(gray):
            new = [(0xDB, again)] if i == 1 and not early else []
            data += segments(*new, (0xDA, bytes([1, i + 1, 0, 0, 63, 0]))) + scan.removesuffix(
                b"\xff\xd9"
            )
        said[table, early] = decode(data + b"\xff\xd9")
        assert JPEG.from_file(data) == JPEG(tables=(luma, coarse), subsampling="4:4:4")
    assert torch.equal(said[0, False], said[1, True]) and torch.equal(said[1, False], said[1, True])


def frame_with(at, *values):
    return BYTES[: FRAME + at] + bytes(values) + BYTES[FRAME + at + len(values) :]


@pytest.mark.parametrize(
    "data, message",
    [
        (made_of([(APP14[0], APP14[1] + b"\0"), *PARTS[1:]]), "RGB"),
        (made_of(renamed(PARTS[1:], b"RGB")), "RGB"),
        (
            made_of([PARTS[0], (0xDB, wide(TABLES[0], 40000) + TABLES[1]), *WITHOUT_TABLES[1:]]),
            "40000",
        ),
        (made_of([PARTS[0], (0xDB, b"\x20" + b"\1" * 192), *PARTS[1:]]), "no known kind"),
        (made_of([PARTS[0], (0xDB, b"\x05" + b"\1" * 64), *PARTS[1:]]), "no known kind"),
        (made_of([PARTS[0], (0xDB, TABLES[0][:30]), *PARTS[1:]]), "incomplete"),
        (
            made_of([*PARTS[:-1], PARTS[-4], *(p for p in PARTS if p[0] == 0xC0), PARTS[-1]]),
            "two frame headers",
        ),
        (frame_with(1, 0xF7), "JPEG-LS"),
        (frame_with(1, 0xDE), "hierarchical"),
        (frame_with(1, 0xC8), "an extension"),
        (frame_with(5, 0, 0), "does not say its size"),
        (frame_with(7, 0, 0), "does not say its size"),
        (frame_with(9, 2), "frame header has 15 bytes"),
        (frame_with(11, 0x44, 0, 2, 0x22, 1, 3, 0x22), "4x4"),
        (
            made_of([p if p[0] != 0xC0 else (0xC0, p[1][:5] + b"\2" + p[1][6:12]) for p in PARTS]),
            "2 components",
        ),
        (frame_with(11, 0x00, 0, 2, 0x00, 1, 3, 0x00), "0x0"),
        (
            made_of(PARTS, b"")[:-9] + segments((0xDA, b"\1\1\0\0\0\0")),
            "truncated",
        ),  # Cb and Cr never come
    ],
)
def test_header_rejects_what_pillow_rejects(data, message):
    with pytest.raises(ValueError, match=message):
        JPEG.from_file(data)
