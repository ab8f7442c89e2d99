"""Measure what each part of a method contributes: change one choice at a time, on five tasks.

    python tests/benchmarks/methods.py OUT [--images 2] [--steps 100] [--perceptual alex]
        [--only "robust;ilo, MSE"]

The rules are those of `degrade bench`, which also decide the files in OUT. A stopped run resumes.
`python docs/make_methods.py OUT` prints the tables of docs/methods.md.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import invert
from invert import METHODS, Method
from invert.loss import L1, MSE, Lpips
from invert.methods import cri
from invert.optim import Adam, Patience
from invert.prior import OffsetNorm
from pipelines import files, report
from pipelines.bench import Bench, BenchSettings
from pipelines.engine import Local
from pipelines.progress import BenchBar
from pipelines.runner import Cell
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
    found["cri, centres as they are"] = cri(through_operator=False)
    found["cri, L1 of the offset"] = cri(offset=(OffsetNorm(0.01, order=1),))
    found["cri, L2 of the offset"] = cri(offset=(OffsetNorm(0.5),))
    found["ilo"] = ilo  # LPIPS and MSE
    terms = ilo.phases[0].loss
    found["ilo, MSE"] = changed(
        ilo, loss=tuple(term for term in terms if not isinstance(term, Lpips))
    )
    lpips = tuple(term for term in terms if not isinstance(term, MSE))
    found["ilo, LPIPS"] = changed(ilo, loss=lpips, keep="lpips")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100, help="in all")
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
    cells = [Cell(task, label, method) for task in TASKS for label, method in methods.items()]
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
