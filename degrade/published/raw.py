"""The noise of a camera's sensor, added to an image that is taken back to its raw values."""

from __future__ import annotations

from .entry import Pipeline

PIPELINES = {
    "unprocess": Pipeline(
        "camera(shotread:0.0001..0.012^0)",
        "Brooks et al. 2019, Unprocessing Images for Learned Raw Denoising: unprocess.py, "
        "process.py",
        (
            "Images of odd sides are taken too, and continued by a pixel.",
            "The drawn brightening is kept within 0.1 to 10.",
            "Crops are left to the loader. The authors' network sees the raw values; here the "
            "noisy raw values are developed, as they do it to compare results.",
        ),
    )
}
