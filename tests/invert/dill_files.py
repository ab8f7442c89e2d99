"""Write `tests/data/dill-VERSION*.pkl`: files as StyleGAN-XL's authors write them, with dill.

The tests only read these files. To write them again, once per version of dill:

    pip install --target FOLDER dill==0.3.4
    PYTHONPATH=FOLDER:. python -m tests.invert.dill_files

Version 0.3.4 is the one that StyleGAN-XL's authors pin; every version names numpy's builders in
another way. A version before 0.4 names `_create_array` only for a file that is an array.
"""

import sys
from pathlib import Path
from unittest import mock

import numpy

from .checkpoints import Call, conditional_xl, foreign_discriminator, nvidia

DATA = Path(__file__).parent.parent / "data"
VERSIONS = ("0.3.4", "0.3.5.1", "0.4.1")


def array():
    return numpy.arange(6, dtype="int32").reshape(2, 3)


def checkpoint():
    return {
        "G": None,
        "D": foreign_discriminator(),
        "G_ema": nvidia(conditional_xl()),
        "augment_pipe": None,
        "training_set_kwargs": Call("dnnlib.util", "EasyDict"),
        "cur_nimg": numpy.int64(1000),
    }


def main():
    import dill

    name = f"dill-{dill.__version__}"
    content = checkpoint()
    with mock.patch.dict(sys.modules, Call.stubs):
        (DATA / f"{name}.pkl").write_bytes(dill.dumps(content))
    (DATA / f"{name}-array.pkl").write_bytes(dill.dumps(array()))


if __name__ == "__main__":
    main()
