"""Compare `robust` with a plain port of the paper's Algorithm 1: time, memory, work, quality.

    python tests/benchmarks/solve.py [speed] [work] [quality] [--steps 8] [--sides 128,256]

Plain: LPIPS of the `lpips` package at every scale of prediction and observation in every step; one
weight per image in every layer; float32, batch 1, default memory format. Ours: `invert.restore`.
speed: seconds per step and image of each phase in its published length; alternating; medians of 3,
and peak memory.
work: floating-point operations of a step, and their rate relative to the machine's matrix product.
quality: VGG-LPIPS to the clean picture, 4 pictures on 5 tasks; three seeds say how much is chance.
"""

import argparse
import itertools
import statistics
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import lpips
import numpy
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import degrade
import invert
from invert import METHODS, Method, Phase, perceptual
from invert.bundled import bundled
from invert.generator import stylegan2
from invert.latent import extend
from invert.loss import FILLS
from invert.optim import ngd

AVATARS = Path(__file__).parents[2] / "examples" / "avatars"
TASKS = ("upsampling/M", "denoising/M", "deartifacting/M", "inpainting/M", "UNAP")
DAMAGES = {
    "noise, JPEG": "poisson:48 >> jpeg:30",
    "and strokes": "poisson:48 >> jpeg:30 >> strokes:3,seed=1",
}
SEEDS = (0, 1000, 2000)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def plain_convolve(
    x: Tensor, weight: Tensor, styles: Tensor, up: bool = False, demodulate: bool = False
) -> Tensor:
    """Modulate one copy of the weight per image, demodulate it, convolve in groups.

    Written out once more, so that it stays what it is when ours gets faster.
    """
    batch, (out, features, k, _) = len(x), weight.shape
    own = weight[None] * styles[..., None, None]
    if demodulate:
        own = own * (own.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, batch * features, *x.shape[2:])
    if up:
        own = own.transpose(1, 2).reshape(batch * features, out, k, k)
        y = F.conv_transpose2d(x, own, stride=2, groups=batch)
    else:
        y = F.conv2d(x, own.reshape(batch * out, features, k, k), padding=k // 2, groups=batch)
    return y.view(batch, out, *y.shape[2:])


@contextmanager
def plain_generator():
    ours = stylegan2.convolve
    stylegan2.convolve = plain_convolve
    try:
        yield
    finally:
        stylegan2.convolve = ours


def plain_lpips() -> lpips.LPIPS:
    net = lpips.LPIPS(net="vgg", pnet_rand=True, pretrained=False, verbose=False)
    weights = {k: v.float() for k, v in load_file(bundled("lpips-vgg")).items()}
    trunk = {name: weights[f"features.{name.split('.', 1)[1]}"] for name in net.net.state_dict()}
    net.net.load_state_dict(trunk)
    for i, head in enumerate(net.lins):
        head.model[-1].weight.data.copy_(weights[f"lin{i}"].view_as(head.model[-1].weight))
    return net.requires_grad_(False).eval().to(DEVICE)


def plain_phase(
    space: str, lr: float, steps: int, latent: Tensor, y: Tensor, f, G, net, seed: int
) -> Tensor:
    """One phase of Algorithm 1 for one image; the multi-resolution loss of its published code."""
    rng = torch.Generator().manual_seed(seed)
    latent = extend(latent, space, G)
    visible = f.visible((1, 3, G.resolution, G.resolution))
    for _ in range(steps):
        latent = latent.detach().requires_grad_()
        x, target = f(G.synthesize(latent), rng), y
        seen, loss = visible, 0.0
        while min(x.shape[2:]) > 16:
            shown = x, target
            if seen is not None:
                fill = (0.25 + 0.5 * torch.randn(x.shape, generator=rng).to(x)) * (1 - seen.to(x))
                shown = x + fill, target + fill
            loss = loss + net(*shown, normalize=True).sum()
            x, target = F.avg_pool2d(x, 2), F.avg_pool2d(target, 2)
            seen = None if seen is None else F.avg_pool2d(seen.float(), 2)
        loss = loss + 0.1 * (x - target).abs().mean()
        (grad,) = torch.autograd.grad(loss, latent)
        latent = ngd(latent.detach(), grad, lr)
    return latent


def scene(side: int, batch: int, damage: str):
    """A generator of this resolution, an observation, and the operator that a solver assumes."""
    if side == 128:
        G = invert.load_generator("avatars-128", DEVICE)
    else:
        torch.manual_seed(0)
        G = stylegan2.StyleGAN2(
            512, 512, side, mapping={"num_layers": 2}, synthesis={"channel_base": 16384}
        )
        for weight in G.parameters():
            torch.nn.init.normal_(weight)
        for name, buffer in G.named_buffers():
            if name.endswith("resample_filter"):
                buffer.copy_(torch.tensor([1.0, 3, 3, 1]).outer(torch.tensor([1.0, 3, 3, 1])) / 64)
        G = G.eval().requires_grad_(False).to(DEVICE)
    f = degrade.parse(DAMAGES[damage]).approx()
    with torch.no_grad():
        y = f(G.synthesize(G.some_w(batch)[0]).clamp(0, 1), torch.Generator().manual_seed(0))
    return G, y, f


def seconds(run, *args) -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    run(*args)
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def peak(run, *args) -> float:
    """MiB that a call needs above what is there."""
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(*args)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = resident("VmRSS")
    run(*args)
    return resident("VmHWM") - before


def resident(name: str) -> float:
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)
    )
    return int(line.split()[1]) / 1024


def speed(sides: list[int], damages: list[str], steps: int) -> None:
    net = plain_lpips()
    print(
        "| generator | phase | plain, s per step | ours, batch 1 | ratio | ours, batch 8 | ratio "
        "| peak MiB of each |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for side, damage in itertools.product(sides, damages):
        one, eight = scene(side, 1, damage), scene(side, 8, damage)
        totals = {"plain": 0.0, "1": 0.0, "8": 0.0}
        new = (
            FILLS if one[2].visible((1, 3, side, side)) is not None else 0
        )  # steps unlike those that follow
        for phase in METHODS["robust"].phases:
            first, more = (replace(phase, steps=n) for n in (new, new + steps))
            runs = {
                "plain": (partial(plain_solve, replace(phase, steps=steps), *one, net), None),
                "1": (partial(our_solve, more, *one), partial(our_solve, first, *one)),
                "8": (partial(our_solve, more, *eight), partial(our_solve, first, *eight)),
            }
            memory = {name: peak(run) for name, (run, _) in runs.items()}  # and warm
            times = {name: [] for name in runs}
            for _ in range(3):
                for name, (run, begun) in runs.items():
                    before = seconds(begun) if begun else 0.0
                    each, unlike = (seconds(run) - before) / steps, new if begun else 0
                    taken = (before + (phase.steps - unlike) * each) / phase.steps
                    times[name].append(taken / (8 if name == "8" else 1))
            medians = {name: statistics.median(values) for name, values in times.items()}
            totals = {name: totals[name] + medians[name] for name in medians}
            row(f"{side}², {damage} | {phase.name}", medians, memory)
        row(f"{side}², {damage} | all", totals, {})


def plain_solve(phase: Phase, G, y: Tensor, f, net) -> None:
    with plain_generator():
        plain_phase(phase.name, phase.optimiser.lr, phase.steps, G.w_avg[None], y, f, G, net, 0)


def our_solve(phase: Phase, G, y: Tensor, f) -> None:
    start = G.w_avg.expand(len(y), -1)
    invert.restore(y, f, G, Method((phase,)), list(range(len(y))), init=start, steps=phase.steps)


def row(name: str, t: dict, memory: dict) -> None:
    shown = " / ".join(f"{v:.0f}" for v in memory.values())
    one, eight = (
        f"{t['1']:.3f} | {t['plain'] / t['1']:.2f}",
        f"{t['8']:.3f} | {t['plain'] / t['8']:.2f}",
    )
    print(f"| {name} | {t['plain']:.3f} | {one} | {eight} | {shown} |", flush=True)


def work(sides: list[int], steps: int) -> None:
    """Of our solve: where a step's operations are, and how fast they go."""
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(2048, 2048, device=DEVICE).to(dtype)
        torch.mm(a, a)
        rates[dtype] = 2 * 2048**3 / min(seconds(torch.mm, a, a) for _ in range(5))
        print(f"matrix product, {dtype}: {rates[dtype] / 1e9:.0f} Gflop/s")
    dtype = perceptual.fastest_dtype(torch.device(DEVICE))
    plain, network = perceptual.load("vgg", DEVICE), perceptual.for_losses("vgg", DEVICE, dtype)
    for side in sides:
        counts = {}  # per image; the counter ignores groups and oneDNN
        for batch in (1, 8):
            G, y, _ = scene(side, batch, next(iter(DAMAGES)))
            target = network.maps(y)

            def look(y=y, target=target):
                network.distance_to(target, y.clone().requires_grad_()).sum().backward()

            def count_look(y=y):
                sum(m.sum() for m in plain.maps(y.clone().requires_grad_())).backward()

            def draw(space, G=G, batch=batch):
                w = extend(G.w_avg.expand(batch, -1), space, G).clone().requires_grad_()
                G.synthesize(w).sum().backward()

            parts = [(f"VGG, {dtype}", look, count_look, dtype)]
            drawn = [
                (f"generator, {s}", partial(draw, s), torch.float32) for s in ("W", "W+", "W++")
            ]
            parts += [(name, run, run, kind) for name, run, kind in drawn]
            for name, run, counted, kind in parts:
                with FlopCounterMode(display=False) as counter:
                    counted()
                run()
                count = counts.setdefault(name, counter.get_total_flops()) * batch
                took = statistics.median(seconds(run) for _ in range(steps))
                print(
                    f"{side}², batch {batch}, {name}: "
                    f"{count / 1e9:.1f} Gflop in {took * 1e3:.0f} ms, "
                    f"{count / took / rates[kind]:.0%} of the matrix product",
                    flush=True,
                )


def quality(steps: int) -> None:
    G, net = invert.load_generator("avatars-128", DEVICE), plain_lpips()
    pixels = [numpy.array(Image.open(AVATARS / f"{i:03}.png").convert("RGB")) for i in range(4)]
    clean = torch.stack([torch.from_numpy(p).permute(2, 0, 1).float() / 255 for p in pixels]).to(
        DEVICE
    )
    method = invert.methods.method_of("robust", steps)
    found: dict[tuple[str, int], list[float]] = {
        (name, seed): [] for seed in SEEDS for name in ("plain", "ours")
    }

    def streams() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(i) for i in range(4)]

    def plain(y: Tensor, f, seed: int) -> Tensor:
        latent = G.w_avg[None]
        for number, phase in enumerate(method.phases):
            own = phase.space.name, phase.optimiser.lr * G.w_spread / 9.5, phase.steps
            latent = plain_phase(*own, latent, y, f, G, net, seed + number)
        return G.synthesize(latent).clamp(0, 1)

    for task in TASKS:
        true = degrade.tasks[task].sample(clean.shape, streams())
        y, f = true(clean, streams()), true.approx()
        for (name, seed), values in found.items():
            seeds = [seed + 10 * i for i in range(4)]
            if name == "ours":
                image = invert.restore(y, f, G, method, seeds).image
            else:
                with plain_generator():
                    image = torch.cat(
                        [plain(y[i : i + 1], f.row(i, 4), s) for i, s in enumerate(seeds)]
                    )
            values += perceptual.lpips(image, clean).tolist()
            print(f"{task}, {name}, seed {seed}: {statistics.mean(values[-4:]):.4f}", flush=True)
    means = {
        name: [statistics.mean(found[name, seed]) for seed in SEEDS] for name in ("plain", "ours")
    }
    for name, each in means.items():
        print(
            f"{name}: {statistics.mean(each):.4f}, "
            f"by seed {', '.join(f'{mean:.4f}' for mean in each)}"
        )
    away = abs(statistics.mean(means["plain"]) - statistics.mean(means["ours"]))
    spread = max(max(each) - min(each) for each in means.values())
    print(f"plain and ours differ by {away:.4f}, the seeds of one by up to {spread:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=["speed", "work", "quality"])
    parser.add_argument(
        "--steps",
        type=int,
        default=8,
        help="timed in each phase; for quality, six times as many in all",
    )
    parser.add_argument("--sides", default="128,256")
    parser.add_argument(
        "--damage", default="", help="time only that whose name has this in it, such as strokes"
    )
    options = parser.parse_args()
    sides = [int(side) for side in options.sides.split(",")]
    print(
        f"{DEVICE}, {torch.get_num_threads()} threads, "
        f"LPIPS in {perceptual.fastest_dtype(torch.device(DEVICE))}"
    )
    if "speed" in options.what:
        speed(sides, [damage for damage in DAMAGES if options.damage in damage], options.steps)
    if "work" in options.what:
        work(sides, options.steps)
    if "quality" in options.what:
        quality(6 * options.steps)


if __name__ == "__main__":
    main()
