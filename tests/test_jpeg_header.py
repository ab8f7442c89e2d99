"""Test which operator a JPEG's header gives, and which headers are refused."""

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
PIXELS = (PHOTO[0] * 255).round().byte()
SAVE_OPTIONS = {
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
@pytest.mark.parametrize("options", SAVE_OPTIONS.values(), ids=SAVE_OPTIONS)
def test_header_gives_operator_that_made_file(options, sampling, tmp_path):
    data = encode(PIXELS, sampling, **options)
    f = JPEG.from_file(data)
    assert f.subsampling == sampling
    assert torch.equal(f(PHOTO)[0], decode(data).float() / 255)
    assert parse(str(f)) == f
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    assert JPEG.from_file(path) == f
    assert JPEG.from_file(str(path)) == f


@pytest.mark.parametrize("sampling", ["4:4:0", "4:1:1", "4:1:0", "4:4:1"])
@pytest.mark.parametrize("options", [{"quality": 35}, {"qtables": [[9] * 64, [300] * 64]}])
def test_header_of_rare_sampling_gives_its_operator(options, sampling):
    data = encode(PIXELS, sampling, **options)
    f = JPEG.from_file(data)
    assert f.subsampling == sampling
    assert torch.equal(f(PHOTO)[0], decode(data).float() / 255)


def test_header_of_grayscale_has_one_table():
    data = encode(PIXELS[:1], quality=33)
    f = JPEG.from_file(data, surrogate="cubic")
    assert len(f.tables) == 1
    assert f.surrogate == "cubic"
    assert torch.equal(f(PHOTO[:, :1])[0], decode(data).float() / 255)


BYTES = encode(PIXELS, quality=30)
FRAME = BYTES.index(b"\xff\xc0")  # where the frame header begins
SCAN = BYTES.index(b"\xff\xda")  # where the scan begins


def with_byte(position: int, value: int) -> bytes:
    """BYTES with another value at one position."""
    return BYTES[:position] + bytes([value]) + BYTES[position + 1 :]


@pytest.mark.parametrize(
    "data, message",
    [
        (with_byte(FRAME + 1, 0xC9), "arithmetic"),
        (with_byte(FRAME + 1, 0xC3), "lossless"),
        (with_byte(FRAME + 1, 0xC5), "hierarchical"),
        (with_byte(FRAME + 4, 12), "12 bits"),
        (with_byte(FRAME + 11, 0x33), "3x3"),  # 11 blocks of an MCU
        (with_byte(FRAME + 14, 0x31), "2x2, which does not divide 3x2"),  # Cb has 3x1
        (with_byte(FRAME + 12, 3), "lacks quantisation table 3"),
        (with_byte(BYTES.index(b"\xff\xdb") + 5, 0), "0"),
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
    size = int.from_bytes(BYTES[SCAN + 2 : SCAN + 4], "big")
    end_of_header = SCAN + 2 + size
    for end in range(end_of_header):
        with pytest.raises(ValueError, match="JPEG"):
            JPEG.from_file(BYTES[:end])
    assert JPEG.from_file(BYTES[:end_of_header]) == JPEG.from_file(BYTES)


@cases(300)
@given(st.integers(2, SCAN), st.binary(min_size=1, max_size=8))
def test_header_with_garbage_is_read_or_rejected(position, garbage):
    rest = BYTES[position + len(garbage) :]
    try:
        f = JPEG.from_file(BYTES[:position] + garbage + rest)
    except ValueError:
        return
    assert parse(str(f)) == f


def test_header_of_missing_file_raises_oserror(tmp_path):
    with pytest.raises(OSError):
        JPEG.from_file(tmp_path / "none.jpg")


# Files that are composed of segments; Pillow decides what they mean -------------------------------

SOF0, DHT, SOS, DQT, APP1, APP14 = 0xC0, 0xC4, 0xDA, 0xDB, 0xE1, 0xEE  # markers of segments
ADOBE = b"Adobe\0\x64\0\0\0\0"
ADOBE_RGB = (APP14, ADOBE + b"\0")
ADOBE_YCC = (APP14, ADOBE + b"\1")

PARTS, DATA = taken_apart(BYTES)
JFIF, *AFTER_JFIF = PARTS
TABLES = [body for marker, body in PARTS if marker == DQT]
AFTER_JFIF_WITHOUT_TABLES = [part for part in AFTER_JFIF if part[0] != DQT]


def in_16_bits(table, first_entry=None):
    """A quantisation table of 16 bits per entry, from one of 8 bits."""
    entries = list(table[1:65])
    if first_entry is not None:
        entries[0] = first_entry
    ident = bytes([0x10 | table[0]])
    return ident + b"".join(entry.to_bytes(2, "big") for entry in entries)


def with_idents(parts, idents):
    """The segments with other ids of the three components."""
    changed = []
    for marker, body in parts:
        body = bytearray(body)
        if marker == SOF0:
            body[6:15:3] = idents
        elif marker == SOS:
            body[1:7:2] = idents
        changed.append((marker, bytes(body)))
    return changed


def file_of(parts, data=DATA):
    return b"\xff\xd8" + segments(*parts) + data


def file_with_tables(body):
    """The file with one segment of quantisation tables."""
    return file_of([JFIF, (DQT, body), *AFTER_JFIF_WITHOUT_TABLES])


*BEFORE_SCAN, SCAN_HEADER = AFTER_JFIF_WITHOUT_TABLES
SEGMENTS_OF_TABLES = [(DQT, body) for body in TABLES]
READABLE_FILES = {
    "one segment for both tables": file_with_tables(b"".join(TABLES)),
    "16 bits": file_with_tables(in_16_bits(TABLES[0]) + TABLES[1]),
    "a table defined twice": file_of([JFIF, (DQT, b"\0" + b"\1" * 64), *AFTER_JFIF]),
    "tables after the frame": file_of([JFIF, *BEFORE_SCAN, *SEGMENTS_OF_TABLES, SCAN_HEADER]),
    "fill bytes": BYTES[:FRAME] + b"\xff" * 7 + BYTES[FRAME:],
    "a restart before the header": b"\xff\xd8\xff\xd0" + BYTES[2:],
    "bytes between segments": BYTES[:FRAME] + b"abc\0" + BYTES[FRAME:],
    "a thumbnail": file_of([JFIF, (APP1, b"Exif\0\0" + BYTES), *AFTER_JFIF]),
    "no JFIF": file_of(AFTER_JFIF),
    "Adobe, YCbCr": file_of([ADOBE_YCC, *AFTER_JFIF]),
    "JFIF and Adobe's RGB": file_of([JFIF, ADOBE_RGB, *AFTER_JFIF]),
    "Adobe, too short": file_of([(APP14, ADOBE), *AFTER_JFIF]),
    "JFIF and ids RGB": file_of(with_idents(PARTS, b"RGB")),
    "Adobe's YCbCr and ids RGB": file_of([ADOBE_YCC, *with_idents(AFTER_JFIF, b"RGB")]),
    "ids rgb": file_of(with_idents(AFTER_JFIF, b"rgb")),
}


@pytest.mark.parametrize("data", READABLE_FILES.values(), ids=READABLE_FILES)
def test_header_is_read_as_pillow_reads_it(data):
    f = JPEG.from_file(data)
    assert torch.equal(f(PHOTO)[0], decode(data).float() / 255)


def test_table_redefined_between_scans():
    """Three scans, table 0 said anew between the first two, or table 1 for the first time."""
    grey_files = files_of_planes((90, 10, 10))
    fine_table, coarse_table, _ = (table_of_file(parts) for parts, _ in grey_files)
    coarse_as_second = b"\1" + coarse_table[1:]  # as table 1
    fine = JPEG.from_file(file_of(grey_files[0][0])).tables[0]
    coarse = JPEG.from_file(file_of(grey_files[1][0])).tables[0]
    expected = JPEG(tables=(fine, coarse), subsampling="4:4:4")
    new_table_0 = file_of_scans(grey_files, (0, 0, 0), [fine_table], [coarse_table])
    new_table_1 = file_of_scans(grey_files, (0, 1, 1), [fine_table], [coarse_as_second])
    both_first = file_of_scans(grey_files, (0, 1, 1), [fine_table, coarse_as_second], [])
    for data in (new_table_0, new_table_1, both_first):
        assert JPEG.from_file(data) == expected
        assert torch.equal(decode(data), decode(both_first))


def files_of_planes(qualities):
    """Three grayscale files, of Y, Cb and Cr, taken apart."""
    image = Image.fromarray(PIXELS.permute(1, 2, 0).numpy())
    planes = image.convert("YCbCr").split()
    files = []
    for plane, quality in zip(planes, qualities, strict=True):
        file = io.BytesIO()
        plane.save(file, "JPEG", quality=quality)
        files.append(taken_apart(file.getvalue()))
    return files


def table_of_file(parts):
    return next(body for marker, body in parts if marker == DQT)


def file_of_scans(grey_files, table_numbers, first_tables, later_tables):
    """A 4:4:4 file of the scans of three grayscale files.

    table_numbers: the quantisation table of each component. later_tables: those that are defined
    between the first two scans.
    """
    parts_of_luma, _ = grey_files[0]
    frame = bytes([8, 0, 45, 0, 70, 3])
    for i, number in enumerate(table_numbers):
        frame += bytes([i + 1, 0x11, number])
    tables = [(DQT, table) for table in first_tables]
    huffman_tables = [part for part in parts_of_luma if part[0] == DHT]
    data = file_of([parts_of_luma[0], *tables, (SOF0, frame), *huffman_tables], b"")
    for i, (_, scan) in enumerate(grey_files):
        if i == 1:
            data += segments(*((DQT, table) for table in later_tables))
        scan_header = bytes([1, i + 1, 0, 0, 63, 0])
        data += segments((SOS, scan_header)) + scan.removesuffix(b"\xff\xd9")
    return data + b"\xff\xd9"


def frame_with(position, *values):
    """BYTES with other values in its frame header."""
    start = FRAME + position
    return BYTES[:start] + bytes(values) + BYTES[start + len(values) :]


FRAME_HEADER = next(part for part in PARTS if part[0] == SOF0)
TWO_COMPONENTS = (SOF0, FRAME_HEADER[1][:5] + b"\2" + FRAME_HEADER[1][6:12])


@pytest.mark.parametrize(
    "data, message",
    [
        (file_with_tables(in_16_bits(TABLES[0], 40000) + TABLES[1]), "40000"),
        (file_of([JFIF, (DQT, b"\x20" + b"\1" * 192), *AFTER_JFIF]), "no known kind"),
        (file_of([JFIF, (DQT, b"\x05" + b"\1" * 64), *AFTER_JFIF]), "no known kind"),
        (file_of([JFIF, (DQT, TABLES[0][:30]), *AFTER_JFIF]), "incomplete"),
        (file_of([*PARTS[:-1], FRAME_HEADER, SCAN_HEADER]), "two frame headers"),
        (frame_with(1, 0xF7), "JPEG-LS"),
        (frame_with(1, 0xDE), "hierarchical"),
        (frame_with(1, 0xC8), "an extension"),
        (frame_with(5, 0, 0), "does not say its size"),
        (frame_with(7, 0, 0), "does not say its size"),
        (frame_with(9, 2), "frame header has 15 bytes"),
        (frame_with(11, 0x44, 0, 2, 0x22, 1, 3, 0x22), "4x4"),
        (file_of([JFIF, *SEGMENTS_OF_TABLES, TWO_COMPONENTS, SCAN_HEADER]), "2 components"),
        (frame_with(11, 0x00, 0, 2, 0x00, 1, 3, 0x00), "0x0"),
        # a scan of luma alone: no scan holds Cb and Cr
        (file_of([*PARTS[:-1], (SOS, b"\1\1\0\0\0\0")], b""), "truncated"),
    ],
)
def test_header_rejects_what_pillow_rejects(data, message):
    with pytest.raises(ValueError, match=message):
        JPEG.from_file(data)
