"""Photos: the bundled photo prior beside the restorers that people have.

    pip install scikit-image bm3d opencv-python-headless; apt install jpegqs
    python tests/benchmarks/photos.py [--side 256] [--tasks "jpeg:20;…"] [--methods pnp,diffpir]

The pictures are scikit-image's coffee, chelsea, astronaut and rocket; no prior was trained or tuned
on them. Each is damaged once per task, and every restorer sees the same pixels. A rival that is not
installed, or that does not know the task, has no number. Prints PSNR in dB (more is better) and
LPIPS-alex (less is better), means over the pictures, and the seconds of our restorations.
"""

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy
import torch
from torch import Tensor

import degrade
import invert
from invert.linear_model import with_known_filters
from pipelines import files

NAMES = ("coffee", "chelsea", "astronaut", "rocket")
TASKS = (
    "jpeg:10",
    "jpeg:20",
    "jpeg:40",
    "gaussian:0.0588",
    "gaussian:0.098",
    "gaussian:0.196",
    "downsample:2",
    "downsample:4",
    "strokes:6,width=0.03",
    "pixels:0.3",
    "gaussian:0.05 >> jpeg:40",
    "downsample:2 >> jpeg:40",
    "downsample:2 >> poisson:48 >> deadpixels:0.08 >> jpeg:18 >> strokes:5",
)
Restorer = Callable[[Tensor, degrade.Operator], Tensor | None]


def pictures(side: int) -> list[Tensor]:
    """The centre of each photo, [1, 3, side, side]."""
    from skimage import data

    crops = []
    for name in NAMES:
        photo = numpy.asarray(getattr(data, name)())[..., :3]
        top = (photo.shape[0] - side) // 2
        left = (photo.shape[1] - side) // 2
        crop = photo[top : top + side, left : left + side]
        crops.append(torch.from_numpy(crop.copy()).permute(2, 0, 1)[None].float() / 255)
    return crops


def as_it_is(y: Tensor, f: degrade.Operator) -> Tensor:
    """The damaged picture, enlarged by Pillow's bicubic filter if it was reduced."""
    size = f.input_shape(y.shape)[2:]
    return y if size == y.shape[2:] else degrade.Resize(size)(y)


def lanczos(y: Tensor, f: degrade.Operator) -> Tensor | None:
    size = f.input_shape(y.shape)[2:]
    return None if size == y.shape[2:] else degrade.Resize(size, filter="lanczos")(y)


def jpeg_quant_smooth(y: Tensor, f: degrade.Operator, clean: Tensor) -> Tensor | None:
    """jpegqs at its best quality, on the file that Pillow writes of the clean picture."""
    if len(f) > 1 or not isinstance(f[0], degrade.JPEG) or shutil.which("jpegqs") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "a.jpg", Path(folder) / "b.jpg"
        picture = files.to_pil(clean)
        picture.save(source, quality=int(f[0].quality), subsampling="4:2:0")
        assert torch.equal(files.read_image(source), y)  # the file that was degraded
        subprocess.run(["jpegqs", "-q", "6", source, target], check=True, capture_output=True)
        # jpegqs writes a JPEG of finer steps
        return files.read_image(target)


def bm3d(y: Tensor, f: degrade.Operator) -> Tensor | None:
    """Colour BM3D, told the true sigma."""
    if len(f) > 1 or not isinstance(f[0], degrade.Gaussian):
        return None
    array = y[0].permute(1, 2, 0).double().numpy()
    return tensor(smooth_bm3d(array, float(f[0].sigma)))


def non_local_means(y: Tensor, f: degrade.Operator) -> Tensor | None:
    """scikit-image's, told the true sigma."""
    if len(f) > 1 or not isinstance(f[0], degrade.Gaussian):
        return None
    array = y[0].permute(1, 2, 0).numpy()
    return tensor(smooth_nl_means(array, float(f[0].sigma)))


def hidden(y: Tensor, f: degrade.Operator) -> numpy.ndarray | None:
    """The mask of missing pixels, if that is all that the operator does."""
    visible = f.visible(y.shape)
    if len(f) > 1 or visible is None:
        return None
    return visible[0, 0].numpy() < 1


def biharmonic(y: Tensor, f: degrade.Operator) -> Tensor | None:
    mask = hidden(y, f)
    if mask is None:
        return None
    from skimage.restoration import inpaint_biharmonic

    array = y[0].permute(1, 2, 0).numpy()
    return tensor(inpaint_biharmonic(array, mask, channel_axis=2))


def telea(y: Tensor, f: degrade.Operator) -> Tensor | None:
    mask = hidden(y, f)
    if mask is None:
        return None
    import cv2

    array = (y[0].permute(1, 2, 0).numpy() * 255).round().astype(numpy.uint8)
    filled = cv2.inpaint(array, mask.astype(numpy.uint8), 3, cv2.INPAINT_TELEA)
    return tensor(filled / 255)


def in_steps(y: Tensor, f: degrade.Operator, smooth: Callable) -> Tensor | None:
    """A chain undone in steps: strokes by Telea, dead pixels by a median, noise, then the size.

    smooth: takes an array [H, W, 3] and the standard deviation of its noise, here an estimate.
    """
    if len(f) == 1:
        return None
    import cv2
    from skimage.restoration import estimate_sigma

    levels = (y[0].permute(1, 2, 0).numpy() * 255).round().astype(numpy.uint8)
    visible = f[len(f) - 1].visible(y.shape)
    if visible is not None:
        mask = (visible[0, 0].numpy() < 1).astype(numpy.uint8)
        levels = cv2.inpaint(levels, mask, 3, cv2.INPAINT_TELEA)
    if any(isinstance(stage, degrade.DeadPixels) for stage in f):
        levels = cv2.medianBlur(levels, 3)
    array = levels / 255
    sigma = float(estimate_sigma(array, channel_axis=2, average_sigmas=True))
    return as_it_is(tensor(smooth(array, sigma)), f)


def smooth_bm3d(array: numpy.ndarray, sigma: float) -> numpy.ndarray:
    from bm3d import bm3d_rgb

    return bm3d_rgb(array, sigma)


def smooth_nl_means(array: numpy.ndarray, sigma: float) -> numpy.ndarray:
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(array, h=0.6 * sigma, sigma=sigma, channel_axis=2)


def tensor(array: numpy.ndarray) -> Tensor:
    return torch.from_numpy(numpy.asarray(array)).permute(2, 0, 1)[None].float().clamp(0, 1)


RIVALS: dict[str, Restorer] = {
    "as it is": as_it_is,
    "lanczos": lanczos,
    "bm3d": bm3d,
    "nl means": non_local_means,
    "biharmonic": biharmonic,
    "telea": telea,
    "steps, nl means": partial(in_steps, smooth=smooth_nl_means),
    "steps, bm3d": partial(in_steps, smooth=smooth_bm3d),
}


def psnr(x: Tensor, clean: Tensor) -> float:
    return float(-10 * (x.clamp(0, 1) - clean).square().mean().log10())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--tasks", default=None, help="operators, separated by ;")
    parser.add_argument("--methods", default="pnp", help="separated by ,")
    parser.add_argument("--prior", default="photo")
    parser.add_argument("--sheets", type=Path, default=None)
    arguments = parser.parse_args()
    prior = invert.load_prior(arguments.prior)

    def restore(y: Tensor, f: degrade.Operator, method: str) -> Tensor:
        assumed = with_known_filters(f, f.input_shape(y.shape))
        return invert.restore(y, assumed, prior, method).image

    ours = {}
    for method in arguments.methods.split(","):
        ours[f"{method} (ours)"] = partial(restore, method=method)
    clean_pictures = pictures(arguments.side)
    tasks = arguments.tasks.split(";") if arguments.tasks else TASKS
    for task in tasks:
        scores: dict[str, list[tuple[float, float, float]]] = {}
        for number, clean in enumerate(clean_pictures):
            f = degrade.parse(task).sample(clean.shape, number)
            y = f(clean, number)
            tiles = {"clean": clean}
            jpegqs = partial(jpeg_quant_smooth, clean=clean)
            for name, restorer in {**RIVALS, "jpegqs": jpegqs, **ours}.items():
                started = time.perf_counter()
                result = None
                with suppress(ImportError):
                    result = restorer(y, f)
                if result is None:
                    continue
                seconds = time.perf_counter() - started
                distance = float(invert.perceptual.lpips(result, clean, net="alex"))
                scores.setdefault(name, []).append((psnr(result, clean), distance, seconds))
                tiles[name] = result
            if arguments.sheets:
                from pipelines.sheet import sheet

                drawn = {caption: files.to_pil(tile) for caption, tile in tiles.items()}
                arguments.sheets.mkdir(parents=True, exist_ok=True)
                label = task.replace(" ", "").replace(">", "_").replace(":", "-")
                sheet(drawn).save(arguments.sheets / f"{label}-{NAMES[number]}.png")
        print(task)
        for name, rows in scores.items():
            mean_psnr, mean_lpips, mean_seconds = torch.tensor(rows).mean(0).tolist()
            print(f"  {name:18} {mean_psnr:6.2f} dB  {mean_lpips:.3f}  {mean_seconds:6.1f} s")


if __name__ == "__main__":
    main()
