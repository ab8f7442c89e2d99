"""Make jpeg.json: what JPEG libraries do to pictures that a formula defines, as SHA-256 digests.

    python tests/golden/make_jpeg.py

It asks the libraries themselves, not this package: those that jpeglib holds, and Pillow. Its
formulas and digests, which the test uses too, are described in docs/jpeg.md.
"""

import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy
import PIL
from numpy import ndarray
from PIL import Image, features

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("jpeg.json")
KINDS = ("noise", "gradient", "checkerboard", "waves")
SIZES = ((8, 8), (24, 41), (33, 16), (37, 50), (1, 23), (48, 3))  # height, width
QUALITIES = (10, 35, 50, 75, 90, 95, 100)
MODES: tuple[dict[str, bool], ...] = ({}, {"optimize": True}, {"progressive": True})
CASES_PER_SAMPLING = 2


def picture(kind: str, height: int, width: int, channels: int, seed: int) -> ndarray:
    """The picture that a case names: uint8 [height, width, channels]."""
    if kind == "noise":
        return _noise(height, width, channels, seed)
    rows, columns, channel = numpy.indices((height, width, channels))
    if kind == "gradient":
        levels = 5 * rows + 3 * columns + 85 * channel + seed
    elif kind == "checkerboard":
        cell = 1 + seed % 4
        levels = 255 * ((rows // cell + columns // cell + channel) % 2)
    else:
        position = (7 + seed % 5) * rows + (11 - seed % 3) * columns + 60 * channel
        levels = abs(position % 510 - 255)  # a triangular wave
    return (levels % 256).astype(numpy.uint8)


def _noise(height: int, width: int, channels: int, seed: int) -> ndarray:
    """The high bytes of a linear congruential generator, row by row, channels last."""
    state = seed
    values = bytearray()
    for _ in range(height * width * channels):
        state = (1664525 * state + 1013904223) % 2**32
        values.append(state >> 24)
    return numpy.frombuffer(bytes(values), numpy.uint8).reshape(height, width, channels)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_of_coefficients(components: Iterable[ndarray]) -> str:
    """Of [rows, columns, 8, 8] of each component: one after the other, int16, low byte first."""
    parts = [numpy.ascontiguousarray(component, "<i2").tobytes() for component in components]
    return digest(b"".join(parts))


def digest_of_pixels(pixels: ndarray) -> str:
    """Of uint8 [height, width, channels], row by row."""
    return digest(numpy.ascontiguousarray(pixels, numpy.uint8).tobytes())


# sampling: colour
OF_OTHER_COMPONENTS = {
    "2x2:1x2:1x1": "ycbcr",
    "4:4:4": "cmyk",
    "2x2:1x1:1x1:1x1": "cmyk",
    "4:2:0": "ycck",
    "1x4:1x2:1x1:1x1": "ycck",
}


def _settings(samplings: Iterable[str], first: int) -> Iterator[dict]:
    """Some pictures and qualities for each sampling, other ones for each `first`."""
    number = first
    for sampling in samplings:
        for _ in range(CASES_PER_SAMPLING):
            height, width = SIZES[number % len(SIZES)]
            yield {
                "kind": KINDS[number % len(KINDS)],
                "size": [height, width],
                "channels": 1 if sampling == "grayscale" else 3,
                "seed": number,
                "quality": QUALITIES[number % len(QUALITIES)],
                "subsampling": "4:2:0" if sampling == "grayscale" else sampling,
            }
            number += 1


def _settings_of_other_components(first: int) -> Iterator[dict]:
    """One picture for each sampling of unequal chroma and of CMYK."""
    for number, (sampling, colour) in enumerate(OF_OTHER_COMPONENTS.items(), first):
        height, width = SIZES[number % len(SIZES)]
        yield {
            "kind": KINDS[number % len(KINDS)],
            "size": [height, width],
            "channels": 3 if colour == "ycbcr" else 4,
            "seed": number,
            "quality": QUALITIES[number % len(QUALITIES)],
            "subsampling": sampling,
            "colour": colour,
        }


def picture_of(case: dict) -> ndarray:
    return picture(case["kind"], *case["size"], case["channels"], case["seed"])


def _library_cases() -> Iterator[dict]:
    """What the libraries in jpeglib store, and what they show again."""
    import jpeglib
    import torch

    from tests.jpeg_libraries import FAST_DCT, LIBRARIES, SAMPLINGS, WITHOUT_TRELLIS, opened, write

    runs = []
    for library, (encoder, decoder) in LIBRARIES.items():
        runs.append((library, encoder, decoder, {}))
    for library in ("6b", "turbo210"):
        runs.append((library, "turbojpeg-fast", None, FAST_DCT))
    for library in ("mozjpeg300", "mozjpeg403"):
        runs.append((library, "mozjpeg-notrellis", None, WITHOUT_TRELLIS))
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/image.jpg"
        for number, (library, encoder, decoder, options) in enumerate(runs):
            all_settings = list(_settings([*SAMPLINGS, "grayscale"], 17 * number))
            all_settings += _settings_of_other_components(17 * number)
            for settings in all_settings:
                pixels = picture_of(settings)
                x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
                with jpeglib.version(library):
                    quality, sampling = settings["quality"], settings["subsampling"]
                    colour = settings.get("colour", "ycbcr")
                    write(path, x, quality, sampling, colour=colour, **options)
                    stored = jpeglib.read_dct(path)
                    y = opened(path)
                shown = (y[0] * 255).round().byte().permute(1, 2, 0).numpy()
                components = [stored.Y]
                if stored.has_chrominance:
                    components += [stored.Cb, stored.Cr]
                if stored.has_black:
                    components.append(stored.K)
                case = {"library": library, "encoder": encoder, **settings}
                case["coefficients"] = digest_of_coefficients(components)
                if decoder is not None:
                    case["decoder"] = decoder
                    case["pixels"] = digest_of_pixels(shown)
                yield case


def _pillow_cases() -> Iterator[dict]:
    """The files that Pillow writes, and what it shows again."""
    for number, mode in enumerate(MODES):
        samplings = ["4:4:4", "4:2:2", "4:2:0", "grayscale"] * 2
        for settings in _settings(samplings, 1000 + 17 * number):
            pixels = picture_of(settings)
            is_grayscale = settings["channels"] == 1
            image = Image.fromarray(pixels[..., 0] if is_grayscale else pixels)
            file = io.BytesIO()
            image.save(
                file,
                "JPEG",
                quality=settings["quality"],
                subsampling=settings["subsampling"],
                **mode,
            )
            case = {"library": "Pillow", "encoder": "libjpeg-turbo", **settings, **mode}
            case["decoder"] = "libjpeg-turbo"
            case["bytes"] = digest(file.getvalue())
            case["pixels"] = digest_of_pixels(numpy.array(Image.open(file)))
            yield case
        for number_of_case in range(2):
            seed = 2000 + 17 * number + number_of_case
            yield _pillow_case_of_cmyk(seed, mode)


def _pillow_case_of_cmyk(seed: int, mode: dict) -> dict:
    """A file of CMYK that Pillow writes, and what it shows again."""
    case = next(_settings(["4:4:4"], seed)) | {"channels": 4, "colour": "cmyk"}
    file = io.BytesIO()
    image = Image.fromarray(picture_of(case), "CMYK")
    image.save(file, "JPEG", quality=case["quality"], **mode)
    return {
        "library": "Pillow",
        "encoder": "libjpeg-turbo",
        **case,
        **mode,
        "decoder": "libjpeg-turbo",
        "bytes": digest(file.getvalue()),
        "pixels": digest_of_pixels(numpy.array(Image.open(file))),
    }


def main() -> None:
    import jpeglib

    versions = {
        "jpeglib": jpeglib.__version__,
        "Pillow": PIL.__version__,
        "libjpeg-turbo in Pillow": features.version("libjpeg_turbo"),
    }
    lines = []
    for case in [*_library_cases(), *_pillow_cases()]:
        lines.append(json.dumps(case))
    cases = ",\n".join(lines)
    FILE.write_text(f'{{"versions": {json.dumps(versions)},\n"cases": [\n{cases}\n]}}\n')
    print(f"{FILE.relative_to(ROOT)}: {len(lines)} cases")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
