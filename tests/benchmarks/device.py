"""Measure an accelerator: bits beside the CPU's, speed of JPEG, of a chain and of a search, memory.

    python tests/benchmarks/device.py [PART …] [--device cuda] [--small] [--json FILE]

It prints one JSON object. It takes at most 8 minutes on an H100; the parts are
operators: every operator with its middle strength of docs/explore.py, forward and backward; the
    largest difference to the CPU, and the names of those whose bits differ.
jpeg: images per second forward and backward at 512² and 1024², beside kornia's, and beside
    torchvision's encoder and decoder (nvJPEG), which have no gradient.
chain: images per second of `real-esrgan-x4`, beside four augmentations of kornia.
search: steps per second of `robust` in W, W+ and W++, of a plain port of Algorithm 1 and of ours,
    at 128², 256² and 1024²; batch sizes; peak memory; the plain port with TF32, bfloat16 and
    torch.compile.
waits: how often the host waits for the device in a step of a search.
`--small` takes tiny sizes, so that the script can be tried without an accelerator. A part that
fails is reported with its error, and the others go on.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import kornia
import torch
import torchvision
from torch import Tensor

import degrade
import invert
from degrade.registry import REGISTRY
from invert.latent import extend
from invert.published_searches import ROBUST

sys.path.insert(0, str(Path(__file__).parents[2]))
from docs.explore import STRENGTHS
from tests.benchmarks import solve

CHAIN = "real-esrgan-x4"
OPERATORS_SIDE = 96
MIDDLE = 2  # of the five strengths
QUALITY = 75
ROUNDS = 5


@dataclass(frozen=True)
class Setting:
    """Where the parts run, and how large they are."""

    device: str
    small: bool

    @property
    def has_queue(self) -> bool:
        """Whether calls return before the device has finished."""
        return self.device == "cuda"

    def wait(self) -> None:
        if self.has_queue:
            torch.cuda.synchronize()

    def seconds(self, run: Callable[[], object]) -> float:
        """The median time of a call after one that does not count."""
        run()
        times = []
        for _ in range(ROUNDS):
            self.wait()
            started = time.perf_counter()
            run()
            self.wait()
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    def mebibytes(self, run: Callable[[], object]) -> float | None:
        """The peak memory of a call above what is in use before."""
        if not self.has_queue:
            return None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        self.wait()
        return (torch.cuda.max_memory_allocated() - before) / 2**20


def pictures(count: int, side: int, device: str) -> Tensor:
    """Smooth random pictures with some grain, of values k/255."""
    draws = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=draws)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    grain = torch.randn(smooth.shape, generator=draws) * 0.02
    levels = (smooth + grain).clamp(0, 1).mul(255).round()
    return levels.div(255).to(device)


# Operators


def operator_text(name: str) -> str:
    """A registered operator at its middle strength."""
    form, *strengths = STRENGTHS[name]
    if "{" not in form:
        return STRENGTHS[name][MIDDLE]
    return form.format(strengths[MIDDLE])


def applied(f: degrade.Operator, x: Tensor) -> tuple[Tensor, Tensor]:
    """The result of an operator and the gradient of the mean square of it, on the CPU."""
    x = x.clone().requires_grad_()
    y = f(x, torch.Generator().manual_seed(1))
    if not y.requires_grad:
        return y.detach().cpu(), torch.zeros(())
    (gradient,) = torch.autograd.grad(y.square().mean(), x)
    return y.detach().cpu(), gradient.cpu()


def operators(setting: Setting) -> dict:
    """Every operator on the CPU and on the device."""
    x = pictures(1, OPERATORS_SIDE, "cpu")
    outputs: dict[str, float] = {}
    gradients: dict[str, float] = {}
    failed: dict[str, str] = {}
    names = sorted(name for name in REGISTRY if name in STRENGTHS)
    for name in names:
        f = degrade.parse(operator_text(name))
        try:
            y, gradient = applied(f, x)
            y_there, gradient_there = applied(f, x.to(setting.device))
        except (RuntimeError, ValueError, ImportError) as error:
            failed[name] = f"{error}".splitlines()[0]
            continue
        outputs[name] = (y - y_there).abs().max().item()
        gradients[name] = (gradient - gradient_there).abs().max().item()
    return {
        "operators": len(names),
        "equal outputs": sum(value == 0 for value in outputs.values()),
        "other outputs": {name: value for name, value in outputs.items() if value},
        "equal gradients": sum(value == 0 for value in gradients.values()),
        "other gradients": {name: value for name, value in gradients.items() if value},
        "failed": failed,
    }


# JPEG and a chain


def forward_and_backward(function: Callable[[Tensor], Tensor], x: Tensor) -> None:
    x = x.detach().requires_grad_()
    function(x).sum().backward()


def with_kornia(x: Tensor) -> Tensor:
    quality = torch.full((len(x),), float(QUALITY), device=x.device)
    return kornia.enhance.jpeg_codec_differentiable(x, quality)


def with_torchvision(x: Tensor) -> None:
    """Encode and decode; on a GPU by nvJPEG."""
    levels = x.mul(255).round().byte()
    files = torchvision.io.encode_jpeg(list(levels), quality=QUALITY)
    on_host = [file.cpu() for file in files]
    torchvision.io.decode_jpeg(on_host, device=x.device)


def jpeg(setting: Setting) -> dict:
    """Images per second, forward and backward."""
    batch = 2 if setting.small else 16
    rates = {}
    for side in (64,) if setting.small else (512, 1024):
        x = pictures(batch, side, setting.device)
        runs = {
            "degrade": partial(forward_and_backward, partial(degrade.jpeg, quality=QUALITY), x),
            "kornia": partial(forward_and_backward, with_kornia, x),
            "torchvision, no gradient": partial(with_torchvision, x),
        }
        rates[f"{side}²"] = per_second(setting, runs, batch)
    return rates


def chain(setting: Setting) -> dict:
    """Images per second of a training chain, without a gradient."""
    batch = 2 if setting.small else 16
    side = 64 if setting.small else 512
    x = pictures(batch, side, setting.device)
    ours = degrade.pipelines[CHAIN]
    theirs = kornia.augmentation.AugmentationSequential(
        kornia.augmentation.RandomGaussianBlur((21, 21), (0.2, 3.0), p=1.0),
        kornia.augmentation.RandomGaussianNoise(std=0.05, p=1.0),
        kornia.augmentation.Resize((side // 4, side // 4)),
        kornia.augmentation.RandomJPEG((30.0, 95.0), p=1.0),
    )
    seeds = torch.Generator().manual_seed(0)
    runs = {
        CHAIN: partial(ours, x, seeds),
        "blur, noise, resize and JPEG of kornia": partial(theirs, x),
    }
    return per_second(setting, runs, batch)


def per_second(setting: Setting, runs: dict[str, Callable[[], object]], batch: int) -> dict:
    """How many images each run handles in a second."""
    return {name: batch / setting.seconds(run) for name, run in runs.items()}


# The search


def search(setting: Setting) -> dict:
    """Steps per second and image of each phase."""
    steps = 2 if setting.small else 20
    results: dict[str, dict] = {}
    network = solve.plain_lpips()
    for side in (128,) if setting.small else (128, 256, 1024):
        of_side: dict[str, dict] = {}
        for phase in ROBUST.phases:
            short = replace(phase, steps=steps)
            scene = solve.scene(side, 1, "noise, JPEG")
            of_phase = plain_rates(setting, short, scene, network)
            for batch in (1,) if setting.small else (1, 4, 8):
                label = f"ours, batch {batch}"
                scene = solve.scene(side, batch, "noise, JPEG")
                run = partial(solve.our_solve, short, *scene)
                of_phase[label] = batch * steps / setting.seconds(run)
                of_phase[f"{label}, MiB"] = setting.mebibytes(run)
            of_side[phase.name] = of_phase
        results[f"{side}²"] = of_side
    return results


def plain_rates(setting: Setting, phase: invert.Phase, scene: tuple, network: object) -> dict:
    """Steps per second of the plain port, with each means that PyTorch has to make it faster."""
    run = partial(solve.plain_solve, phase, *scene, network)
    rates: dict[str, float | str | None] = {"plain": phase.steps / setting.seconds(run)}
    rates["plain, MiB"] = setting.mebibytes(run)
    if setting.has_queue:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        rates["plain, TF32"] = phase.steps / setting.seconds(run)
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
    with torch.autocast(setting.device, torch.bfloat16):
        rates["plain, bfloat16"] = phase.steps / setting.seconds(run)
    if not setting.small:
        generator = scene[0]
        rates["generator, eager"] = draws_per_second(setting, phase, generator, compiled=False)
        rates["generator, compiled"] = draws_per_second(setting, phase, generator, compiled=True)
    return rates


def draws_per_second(
    setting: Setting, phase: invert.Phase, generator: invert.Generator, compiled: bool
) -> float | str:
    """Images with a gradient per second, with CUDA graphs where torch.compile can use them."""
    w = generator.w_avg[None]
    latent = extend(w, phase.space.name, generator)
    draw = generator.synthesize
    if compiled:
        draw = torch.compile(draw, mode="reduce-overhead")
    try:
        return 1 / setting.seconds(partial(forward_and_backward, draw, latent))
    except Exception as error:  # what a compiler refuses is a result, too
        return f"{error}".splitlines()[0]


def waits(setting: Setting) -> dict:
    """Synchronisations of the host with the device, in the steps beyond the first ten."""
    if not setting.has_queue:
        return {"not measured": "only CUDA tells"}
    counts = {}
    for phase in ROBUST.phases:
        scene = solve.scene(128, 1, "noise, JPEG")
        few = synchronisations(partial(solve.our_solve, replace(phase, steps=10), *scene))
        more = synchronisations(partial(solve.our_solve, replace(phase, steps=30), *scene))
        counts[phase.name] = (more - few) / 20
    return counts


def synchronisations(run: Callable[[], object]) -> int:
    """How many calls made the host wait."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in raised)


PARTS: dict[str, Callable[[Setting], dict]] = {
    "operators": operators,
    "jpeg": jpeg,
    "chain": chain,
    "search": search,
    "waits": waits,
}


def machine(setting: Setting) -> dict:
    """What the numbers were measured on."""
    name = torch.cuda.get_device_name() if setting.has_queue else platform.processor()
    return {
        "device": name,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "kornia": kornia.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART")
    parser.add_argument("--device", default=solve.DEVICE)
    parser.add_argument("--small", action="store_true", help="tiny sizes")
    parser.add_argument("--json", type=Path, help="write it to this file, too")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {min(unknown)!r}; there are {', '.join(PARTS)}")
    setting = Setting(options.device, options.small)
    solve.DEVICE = options.device
    report: dict[str, dict] = {"machine": machine(setting)}
    for name in options.parts:
        started = time.perf_counter()
        try:
            report[name] = PARTS[name](setting)
        except Exception as error:
            report[name] = {"error": f"{type(error).__name__}: {error}"}
        report[name]["seconds"] = time.perf_counter() - started
        print(f"{name}: {report[name]['seconds']:.0f} s", file=sys.stderr, flush=True)
    text = json.dumps(report, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
