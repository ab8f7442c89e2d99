"""Samplers on a prior whose posterior is known: what each reaches of it.

    python tests/benchmarks/samplers.py [--methods ddnm,daps] [--chains 200] [--steps 60]

The prior is a mixture of Gaussians on 16 pixels; the observation is the mean of 2×2 blocks with
noise. Prints, for a prior of one mode and one of two: the error of the samples' mean in posterior
standard deviations, the ratio of their variance to the posterior's, the rms residual y − A x beside
that of exact samples, and how often the first mode was chosen beside its probability.
"""

import argparse
import time

from invert.methods import METHODS, method_of
from invert.sampler import Sampler
from tests.invert.test_samplers import moments, one_mode, samples, two_modes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [name for name, method in METHODS.items() if isinstance(method, Sampler)]
    parser.add_argument("--methods", default=",".join(names))
    parser.add_argument("--chains", type=int, default=200)
    parser.add_argument("--steps", type=int, default=None, help="in all; as published by default")
    arguments = parser.parse_args()
    for name in arguments.methods.split(","):
        method = method_of(name, arguments.steps)
        for label, means in (("one mode", one_mode()), ("two modes", two_modes())):
            started = time.perf_counter()
            drawn, posterior, a, y = samples(method, means, count=arguments.chains)
            error, ratio = moments(drawn, posterior)
            residual = (drawn @ a.T - y).square().mean().sqrt()
            spread = (a @ posterior.covariance @ a.T).diagonal()
            exact = (spread + (a @ posterior.mean - y).square()).mean().sqrt()
            text = f"mean {error:.2f}  variance {ratio:.2f}  residual {residual:.3f} ({exact:.3f})"
            if len(means) > 1:
                distances = (drawn[:, None] - posterior.modes).square().sum(2)
                share = (distances.argmin(1) == 0).float().mean()
                text += f"  first mode {share:.2f} ({posterior.weights[0]:.2f})"
            seconds = time.perf_counter() - started
            print(f"{name:20} {label:10} {text}  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
