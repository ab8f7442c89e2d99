"""Measure what each part of a method contributes: change one choice at a time, on five tasks.

    python tests/benchmarks/methods.py OUT [--images 2] [--steps 100] [--perceptual alex]
        [--only "robust;ilo, MSE"] [--tasks upsampling/M,UNAP]

Without --steps, every method has its own number of steps.

The rules are those of `degrade bench`, which also decide the files in OUT. A stopped run resumes.
`python docs/make_methods.py OUT` prints the tables of docs/methods.md.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import invert
from invert import METHODS, Method
from invert.latent import GaussianCodes
from invert.loss import L1, MSE, Deep, Lpips, Term
from invert.optim import Adam
from invert.prior import OffsetNorm
from invert.published_searches import cri
from invert.stopping import Patience
from pipelines import files, report
from pipelines.bench import Bench
from pipelines.bench_job import BenchSettings, Cell
from pipelines.engine import Local
from pipelines.progress import BenchBar
from pipelines.solver import Solvers

AVATARS = Path(__file__).parents[2] / "examples" / "avatars"
TASKS = ["upsampling/M", "denoising/M", "deartifacting/M", "inpainting/M", "UNAP"]


def variants() -> dict[str, Method]:
    """One choice changed at a time."""
    robust, ilo = METHODS["robust"], METHODS["ilo"]

    def changed(method: Method, **change) -> Method:
        return replace(method, phases=tuple(replace(phase, **change) for phase in method.phases))

    def adam(factor: float, **change) -> Method:
        rates = (0.05 * factor, 0.01 * factor, 0.002 * factor)
        phases = zip(robust.phases, rates, strict=True)
        return Method(tuple(replace(phase, optimiser=Adam(lr), **change) for phase, lr in phases))

    def reaching(times: float) -> Method:
        phases = (replace(p, optimiser=p.optimiser.over(1 / times)) for p in robust.phases)
        return replace(robust, phases=tuple(phases))

    found = {
        "robust": robust,
        "robust, a third of the reach": reaching(1 / 3),
        "robust, three times the reach": reaching(3),
        "robust, Adam": adam(1),
        "robust, Adam, a third of the rates": adam(1 / 3),
        "robust, Adam, patience 15": adam(1, stop=Patience(15)),
        "robust, patience 15": changed(robust, stop=Patience(15)),
        "robust, LPIPS at one scale": changed(robust, loss=(Lpips(enlarge=True), L1(0.1))),
        "robust, no L1": changed(robust, loss=(Lpips(levels=6),)),
    }
    parts = {
        "W": slice(1),
        "W, W+": slice(2),
        "W+": slice(1, 2),
        "W+, W++": slice(1, 3),
        "W++": slice(2, 3),
    }
    for name, part in parts.items():
        found[f"robust, {name} only"] = Method(robust.phases[part])  # as many steps in all
    found["cri"] = METHODS["cri"]
    for count in (1, 5, 15):
        found[f"cri, {count} centre{'s' * (count > 1)}"] = cri(count)
    found["cri, centres through the operator"] = cri(through_operator=True)
    found["cri, no term for the offset"] = cri(offset=())
    found["cri, L1 of the offset"] = cri(offset=(OffsetNorm(0.01, order=1),))
    found["cri, MSE in [-1, 1]"] = cri(unit=2)
    found["cri, as before"] = cri(offset=(), unit=2, through_operator=True)
    found["ilo"] = ilo  # LPIPS and MSE
    found["ilo-text"] = METHODS["ilo-text"]
    found["ilo, rate 0.4"] = ilo.tuned({"lr": 4})
    found["ilo, as before"] = ilo_from_the_input()
    terms = ilo.phases[0].loss
    found["ilo, MSE"] = changed(
        ilo, loss=tuple(term for term in terms if not isinstance(term, Lpips))
    )
    lpips = tuple(term for term in terms if not isinstance(term, MSE))
    found["ilo, LPIPS"] = changed(ilo, loss=lpips, keep="lpips")
    found |= rivals_before()
    return found


def ilo_from_the_input() -> Method:
    """Rounds counted from the input, whatever the size of the image, each kept at its best."""
    phases = []
    for block, phase in enumerate(METHODS["ilo"].phases):
        space = GaussianCodes(block=block, noises=5 + 2 * block)
        phases.append(replace(phase, space=space, keep="mse"))
    return replace(METHODS["ilo"], phases=tuple(phases))


def rivals_before() -> dict[str, Method]:
    """The corrected methods, and what they were before."""
    methods = {name: METHODS[name] for name in ("brgm", "lbrgm", "pti", "pti-original", "dgp")}
    for name in ("brgm", "lbrgm"):
        method = METHODS[name]
        before = []
        for phase in method.phases:
            before.append(replace(phase, loss=tuple(map(at_own_side, phase.loss))))
        start = method.start
        if name == "lbrgm":
            start = replace(start, by=at_own_side(start.by))
        methods[f"{name}, as before"] = replace(method, phases=tuple(before), start=start)
    dgp = METHODS["dgp"]
    phases = []
    for phase in dgp.phases:
        deep, mse, normal = phase.loss
        loss = (Deep(deep.weight), replace(mse, enlarge=False), normal)
        phases.append(replace(phase, loss=loss))
    start = replace(dgp.start, by=Deep(), deviation=1.0)
    methods["dgp, as before"] = replace(dgp, phases=tuple(phases), start=start)
    return methods


def at_own_side(term: Term) -> Term:
    """LPIPS at the side of the observation, in place of 256²."""
    if isinstance(term, Lpips):
        return replace(term, at=None, at_most=256, enlarge=True)
    return term


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--steps", type=int, help="in all")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--perceptual", default="alex")
    parser.add_argument("--only", help="some of them, with semicolons")
    options = parser.parse_args()
    methods = variants()
    if options.only:
        methods = {name.strip(): methods[name.strip()] for name in options.only.split(";")}
    results = Bench(options.out, BenchSettings(perceptual=options.perceptual, steps=options.steps))
    generator, sources = (
        invert.load_generator("avatars-128"),
        files.gather([AVATARS])[: options.images],
    )
    cells = [
        Cell(task, label, method)
        for task in options.tasks.split(",")
        for label, method in methods.items()
    ]
    with BenchBar(quiet=False) as bar:
        solver = Solvers({"generator": generator}, step=bar.step)
        results.run(
            sources,
            cells,
            Local(),
            solver,
            generator.resolution,
            batch=options.images,
            report=bar.report,
        )
    print(report.write(results.results(), generator.resolution))


if __name__ == "__main__":
    main()
