"""Run deepinv's own tests of linear physics on operators.

python tests/benchmarks/deepinv_physics.py

Needs deepinv, whose package holds its tests. Prints each test with the operators that fail it.
"""

import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import deepinv
import torch

import degrade

OPERATORS = [
    "blur:gaussian,1.5",
    "blur:motion,5,angle=30",
    "sinc:1.5,size=9",
    "downsample:2",
    "resize:16,filter=bicubic",
    "resize:scale=0.7,filter=cv2-area",
    "pool:2",
    "subsample:2,1.2",
    "blur:gaussian,1 >> downsample:2",
    "box",
    "strokes:4",
    "pixels:0.5",
    "uncrop:0.3",
    "deadpixels:0.2",
    "gray",
    "brightness:0.7",
    "contrast:0.6",
    "saturation:0.5",
    "crop:2,3,12,14",
    "shift:2,-3",
    "turn:1,1",
    "affine:15,dx=1.5,scale=0.9",
    "perspective:corners=0.1|0|0|0.05|0|0|0|0",
    "place:20|0|3|0|20|2,28x28",
    "compressedsensing:0.5",
]
# Names of deepinv's tests, and the arguments that pytest would give
TESTS = [
    ("test_operators_adjointness", {"rng": True}),
    ("test_pseudo_inverse", {"rng": True, "implicit_backward_solver": True}),
    ("test_pseudo_inverse", {"rng": True, "implicit_backward_solver": False}),
    ("test_decomposable", {"rng": True}),
    ("test_concatenation", {}),
    ("test_operators_differentiability", {}),
    ("test_physics_state_dict", {}),
    ("test_adjoint_autograd", {}),
    ("test_clone", {}),
    ("test_operator_cropper", {"rng": True}),
    ("test_device_consistency", {"device": False}),
]
SIZE = (3, 24, 20)


def find_operator(name: str, device: object, get_physics_param: bool = False, **_: object):
    """What deepinv's tests ask for: physics, image size, norm, dtype."""
    physics = degrade.parse(name).to_deepinv(SIZE)
    found = (physics, SIZE, 1.0, torch.float32)
    return (*found, []) if get_physics_param else found


def problem_of(test: Callable, name: str, options: dict) -> str | None:
    """The first line of the error of a test on an operator, or None."""
    arguments: dict = {"name": name, "device": torch.device("cpu"), **options}
    if options.get("rng"):
        arguments["rng"] = torch.Generator().manual_seed(0)
    if options.get("device") is False:
        del arguments["device"]
    torch.manual_seed(0)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            test(**arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def main() -> None:
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(Path(deepinv.__file__).parent / "tests"))
    import test_physics

    test_physics.find_operator = find_operator
    test_physics.OPERATORS = OPERATORS
    passed = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # where a test writes
        for test_name, options in TESTS:
            print(test_name, options)
            for name in OPERATORS:
                problem = problem_of(getattr(test_physics, test_name), name, options)
                if problem is None:
                    passed += 1
                else:
                    print(f"    {name}: {problem}")
    print(f"{passed} of {len(TESTS) * len(OPERATORS)} passed, deepinv {deepinv.__version__}")


if __name__ == "__main__":
    main()
