"""Pictures made hazy to train what has to see through haze."""

from __future__ import annotations

from .entry import Pipeline

_STRENGTHS = " ; ".join(f"haze:{hundredths / 100}" for hundredths in range(5, 15))

PIPELINES = {
    "ia-yolo": Pipeline(
        f"maybe:0.666667(oneof({_STRENGTHS}) >> clamp >> quantize:rounding=down >> jpeg:95)",
        "Liu et al. 2022, Image-Adaptive YOLO: data_make.py and dataset.py, for fog",
        (
            "Flips, crops, shifts and the size of the network's input are left to the loader.",
            "In the corners of pictures with a side above 1250 the authors' distance is negative, "
            "so that their haze brightens; here it is 0.",
        ),
    )
}
