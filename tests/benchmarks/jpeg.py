"""Compare JPEG with other libraries: exact pixels, speed, memory, descent with each surrogate.

    python tests/benchmarks/jpeg.py [exact] [speed] [memory] [descent] [bytes] [encode] [codec]
        [libraries]

Speed: 4×3×512×512 float32, 2 threads (or OMP_NUM_THREADS), quality 75, 4:2:0, in alternating runs;
medians with quartiles.
Descent: x* from y = codec(x*), minimising ‖jpeg(x) - y‖² from mid-grey with Adam, learning rate
0.02, 200 steps; the error of the true codec at the result, on levels 0 to 255.
Bytes: 10,000 random pictures of random size, content and options; how many files differ from
Pillow's. Encode and codec: CPU time of a 512² photo on 1 thread, in turn with Pillow's. Libraries:
random pictures up to 60², all samplings, qualities from 10 to 100; how many differ in jpeglib's
libraries. Exact, bytes and libraries use the model alone, without Pillow's library in it.
"""

import io
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import kornia
import numpy
import torch
import torchvision.io
from PIL import Image
from torch import Tensor

from degrade import jpeg, jpeg_bytes, jpeg_coefficients
from degrade.jpeg import CLAMPS, SURROGATES, pillow
from degrade.jpeg.layout import SAMPLINGS

sys.path.insert(0, str(Path(__file__).parents[2]))  # for the pictures of the tests
from tests.jpeg_reference import KINDS, content

ROOT = Path(__file__).parents[2]
AVATARS = sorted((ROOT / "examples" / "avatars").glob("*.png"))
ASTRONAUT = ROOT / "examples" / "photos" / "astronaut.jpg"
Q_EXACT, Q_DESCENT = (12, 50, 95), (9, 50, 90)
THREADS = int(os.environ.get("OMP_NUM_THREADS", 2))


def pictures(count: int, size: int = 128, first: int = 0) -> Tensor:
    """Avatars [count, 3, size, size] of k/255, with some grain where they are enlarged."""
    images = [
        Image.open(path).convert("RGB").resize((size, size), Image.BICUBIC)
        for path in AVATARS[first : first + count]
    ]
    pixels = (
        torch.stack([torch.from_numpy(numpy.array(image)) for image in images])
        .permute(0, 3, 1, 2)
        .float()
    )
    grain = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0)) * 6 * (size > 128)
    return ((pixels + grain).round().clamp(0, 255) / 255).contiguous()


def with_pillow(x: Tensor, quality: int) -> Tensor:
    out = []
    for pixels in (x * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        out.append(torch.from_numpy(numpy.array(Image.open(file))))
    return torch.stack(out).permute(0, 3, 1, 2).float() / 255


def with_torchvision(x: Tensor, quality: int) -> Tensor:
    files = torchvision.io.encode_jpeg(list((x * 255).round().byte()), quality)
    return torch.stack(torchvision.io.decode_jpeg(files)).float() / 255


def with_kornia(x: Tensor, quality: int) -> Tensor:
    return kornia.enhance.jpeg_codec_differentiable(
        x, torch.tensor([float(quality)], device=x.device)
    )


def model_alone() -> mock._patch:
    """JPEG by the model, without Pillow's own library in it."""
    return mock.patch.object(pillow, "files", lambda *_, **__: None)


@model_alone()
def exact() -> None:
    x = pictures(6)
    print(f"\nvalues (channels of pixels) that equal Pillow's, at quality {Q_EXACT}")
    for name, f in {
        "degrade": jpeg,
        "kornia": with_kornia,
        "torchvision.io": with_torchvision,
    }.items():
        equal = [((f(x, q) * 255).round() == (with_pillow(x, q) * 255).round()) for q in Q_EXACT]
        print(f"{name:28}", *(f"{share.float().mean():7.1%}" for share in equal))


def step(f, x: Tensor, quality: int) -> None:
    x = x.detach().requires_grad_()
    f(x, quality).sum().backward()


def speed(rounds: int = 15) -> None:
    torch.set_num_threads(THREADS)
    x = pictures(4, 512)
    runs = {
        "Pillow": with_pillow,
        "torchvision.io": with_torchvision,
        "kornia forward": with_kornia,
    }
    runs["kornia forward + backward"] = partial(step, with_kornia)
    runs["degrade forward"] = jpeg
    for surrogate in SURROGATES:
        runs[f"degrade forward + backward, {surrogate}"] = partial(
            step, partial(jpeg, surrogate=surrogate)
        )
    runs["degrade forward + backward, residual, clamp ste"] = partial(
        step, partial(jpeg, surrogate="residual", clamp="ste")
    )
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run(x, 75)
            times[name] += [(time.perf_counter() - start) * 1e3 / len(x)] if i else []
    fastest = {name: min(each) for name, each in times.items()}
    print(
        f"\nms per 512² image, {torch.get_num_threads()} threads, {rounds} rounds: "
        "median (quartiles), fastest;"
    )
    print("the fastest as a multiple of kornia's same pass, and of Pillow's codec")
    for name, each in times.items():
        low, middle, high = statistics.quantiles(each, n=4)
        rival = "kornia forward + backward" if "+" in name else "kornia forward"
        ratios = f"{fastest[name] / fastest[rival]:5.2f} {fastest[name] / fastest['Pillow']:6.2f}"
        print(f"{name:48} {middle:7.2f} ({low:.2f}-{high:.2f}) {fastest[name]:7.2f} {ratios}")


def memory() -> None:
    x = pictures(4, 512).requires_grad_()
    print(
        "\npeak of extra memory, forward + backward, as a multiple of the input "
        "(its gradient and output included)"
    )
    for surrogate in SURROGATES:
        with torch.profiler.profile(profile_memory=True) as profile:
            y = jpeg(x, 75, surrogate=surrogate)
            torch.autograd.grad(y, x, torch.ones_like(y))
        held, peak = 0, 0
        records = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
        for event in sorted(records, key=lambda e: e.start_ns()):
            held += event.nbytes()
            peak = max(peak, held)
        print(f"{surrogate:28} {peak / x.nbytes:5.1f}")


def random_options(draw: random.Random) -> dict:
    """Options of Pillow's `save` and of `jpeg_bytes`, but for quality and tables."""
    options: dict = {"subsampling": draw.choice(["4:4:4", "4:2:2", "4:2:0"])}
    options["optimize"] = draw.random() < 0.3
    options["progressive"] = draw.random() < 0.5
    if draw.random() < 0.25:
        options["restart_marker_blocks"] = draw.randint(1, 30)
    if draw.random() < 0.25:
        options["restart_marker_rows"] = draw.randint(1, 4)
    return options


def random_tables(draw: random.Random) -> list[list[int]]:
    largest = draw.choice([3, 40, 255, 2000])
    count = draw.randint(1, 3)
    return [[draw.randint(1, largest) for _ in range(64)] for _ in range(count)]


@model_alone()
def compare_bytes(count: int = 10_000) -> None:
    draw = random.Random(0)
    different = unwritten = 0
    for seed in range(count):
        kind = draw.choice(KINDS)
        channels = draw.choice([1, 3, 4])
        height, width = draw.randint(1, 90), draw.randint(1, 90)
        x = content(kind, height, width, min(channels, 3), seed)
        if channels == 4:  # CMYK
            x = torch.cat([x, content(kind, height, width, 1, seed + 1)], 1)
        options = random_options(draw)
        if draw.random() < 0.3:
            tables = random_tables(draw)
            ours, pillows = {"tables": tables}, {"qtables": tables}
        else:
            ours = pillows = {"quality": draw.randint(1, 100)}
        pixels = (x[0] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        mode = {1: "L", 3: "RGB", 4: "CMYK"}[channels]
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode)
        file = io.BytesIO()
        try:
            image.save(file, "JPEG", **pillows, **options)
        except OSError:  # the buffer of Pillow is too small
            unwritten += 1
            continue
        if channels == 4:
            luma = SAMPLINGS[options["subsampling"]]
            factors = f"{luma[0]}x{luma[1]}:1x1:1x1:1x1"
            ours = ours | {"colour": "cmyk"}
            options = options | {"subsampling": factors}
        if jpeg_bytes(x, **ours, **options) != [file.getvalue()]:
            different += 1
            print("different:", kind, list(x.shape), seed, options)
    print(f"\n{count} random pictures: {different} files differ from Pillow's")
    print(f"{unwritten} of them Pillow could not write")


@model_alone()
def libraries(count: int = 120) -> None:
    """Compare the models of JPEG libraries with the libraries in jpeglib."""
    import jpeglib

    from tests.jpeg_libraries import FAST_DCT, LIBRARIES, WITHOUT_TRELLIS, opened, stores, write

    runs = [(name, encoder, decoder, {}) for name, (encoder, decoder) in LIBRARIES.items()]
    runs += [(name, "turbojpeg-fast", None, FAST_DCT) for name in ("6b", "turbo210")]
    without_trellis = ("mozjpeg300", "mozjpeg403")
    runs += [(name, "mozjpeg-notrellis", None, WITHOUT_TRELLIS) for name in without_trellis]
    print("\nrandom pictures whose file holds other coefficients, and those that open differently")
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/image.jpg"
        for name, encoder, decoder, options in runs:
            coefficients_differ = pixels_differ = 0
            for seed in range(count):
                size = draw.randint(1, 60), draw.randint(1, 60)
                x = content(draw.choice(KINDS), *size, draw.choice([1, 3, 3]), seed)
                sampling = draw.choice(list(SAMPLINGS))
                quality = draw.choice([draw.randint(10, 100), draw.randint(90, 100)])
                with jpeglib.version(name):
                    write(path, x, quality, sampling, **options)
                    coefficients = jpeg_coefficients(x, quality, sampling, encoder=encoder)
                    coefficients_differ += not stores(path, coefficients)
                    if decoder is not None:
                        y = jpeg(x, quality, sampling, encoder=encoder, decoder=decoder)
                        pixels_differ += not torch.equal(y, opened(path))
            print(
                f"{name:12} {encoder:18} {decoder or '':18} {count} pictures: "
                f"{coefficients_differ} and {pixels_differ}",
                flush=True,
            )


def cpu_ms(runs: dict[str, Callable[[], object]], rounds: int = 60) -> dict[str, float]:
    """The median CPU time of each run, all in turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(each) * 1e3 for name, each in times.items()}


def photo_of_512() -> tuple[Image.Image, Tensor]:
    """A photo as Pillow's image, and as a tensor [1, 3, 512, 512]."""
    photo = Image.open(ASTRONAUT).convert("RGB")
    pixels = torch.from_numpy(numpy.array(photo)).permute(2, 0, 1)
    return photo, pixels[None].contiguous().float() / 255


def file_of_model(x: Tensor, quality: int, **mode: bool) -> bytes:
    return jpeg_coefficients(x, quality).encode(**mode)[0]


def encode_speed() -> None:
    torch.set_num_threads(1)
    photo, x = photo_of_512()
    print("\nmedian CPU ms per file of a 512² photo, 4:2:0, 1 thread: Pillow from its image,")
    print("Pillow from a tensor, jpeg_bytes, the model, and jpeg_bytes and the model / the first")
    for quality in (50, 75, 95):
        for mode in ({}, {"optimize": True}, {"progressive": True}):
            options = {"quality": quality, **mode}

            def save(image: Image.Image = photo, options: dict = options) -> None:
                image.save(io.BytesIO(), "JPEG", **options)

            def save_tensor(options: dict = options) -> None:
                levels = (x * 255).round().byte()
                pixels = levels[0].permute(1, 2, 0).contiguous().numpy()
                Image.fromarray(pixels).save(io.BytesIO(), "JPEG", **options)

            runs = {
                "image": save,
                "tensor": save_tensor,
                "jpeg_bytes": partial(jpeg_bytes, x, **options),
                "model": partial(file_of_model, x, **options),
            }
            times = list(cpu_ms(runs).values())
            columns = [f"{each:7.2f}" for each in times]
            columns += [f"{each / times[0]:7.1f}" for each in times[2:]]
            print(f"{quality} {' '.join(mode):16}", *columns, flush=True)


def codec_speed() -> None:
    torch.set_num_threads(1)
    _, x = photo_of_512()
    runs = {"Pillow": partial(with_pillow, x, 75), "forward": partial(jpeg, x, 75)}
    for surrogate in SURROGATES:
        runs[f"forward + backward, {surrogate}"] = partial(
            step, partial(jpeg, surrogate=surrogate), x, 75
        )

    def by_model() -> None:
        with model_alone():
            jpeg(x, 75)

    runs["forward by the model"] = by_model
    times = cpu_ms(runs)
    print("\nmedian CPU ms of a 512² photo, quality 75, 4:2:0, 1 thread, and / Pillow's codec")
    for name, each in times.items():
        print(f"{name:32} {each:7.2f} {each / times['Pillow']:7.2f}")


def descend(f, x: Tensor, quality: int, loss) -> float:
    y, z = with_pillow(x, quality), torch.full_like(x, 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([z], lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        loss((f(z, quality) - y).square()).backward()
        optimizer.step()
    result = (z.detach().clamp(0, 1) * 255).round() / 255
    return (with_pillow(result, quality) - y).mul(255).square().mean().item()


def descent(count: int = 6) -> None:
    x = pictures(count)
    methods = {"kornia": with_kornia, "real codec, identity": partial(jpeg, surrogate="identity")}
    for surrogate in SURROGATES[1:]:
        methods |= {
            f"{surrogate}, {clamp}": partial(jpeg, surrogate=surrogate, clamp=clamp)
            for clamp in CLAMPS
        }
    print(
        f"\nmean squared error after descent on {count} pictures, at quality {Q_DESCENT}: "
        "summed loss | mean loss"
    )
    for name, f in methods.items():
        columns = [
            [f"{descend(f, x, q, loss):7.2f}" for q in Q_DESCENT]
            for loss in (torch.sum, torch.mean)
        ]
        print(f"{name:28}", *columns[0], " |", *columns[1], flush=True)


if __name__ == "__main__":
    PARTS = {
        "exact": exact,
        "speed": speed,
        "memory": memory,
        "descent": descent,
        "bytes": compare_bytes,
        "encode": encode_speed,
        "codec": codec_speed,
        "libraries": libraries,
    }
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
