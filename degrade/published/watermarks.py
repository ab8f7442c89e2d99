"""What watermarks are trained to survive."""

from __future__ import annotations

from .entry import Pipeline, one_of

_BLUR = one_of(
    (0.5, "identity"),
    (0.25, "blur:gaussian,1..3,side=7,edge=black"),
    (0.25, "blur:line,0.25..1,angle=0..360,edge=black"),
)

WITHOUT_COVER = {
    "hidden": (
        "needs the cover image too, from which its dropout and cropout take pixels, and its JPEG "
        "keeps 25, 9 and 9 coefficients, which no operator does; for its layers of one image, "
        "write oneof(identity ; resize:scale=0.5..1,filter=nearest ; diffjpeg:50..100)"
    )
}

PIPELINES = {
    "stegastamp": Pipeline(
        f"perspective:jitter=0..0.1 >> {_BLUR} >> gaussian:0..0.02 >> clamp >> brightness:0.5..1.5"
        " >> offset:red=-0.1..0.1,green=-0.1..0.1,blue=-0.1..0.1,every=-0.3..0.3 >> clamp"
        " >> saturation:0..1,weights=0.3|0.6|0.1 >> diffjpeg:25..100,rounding=cube",
        "Tancik et al. 2020, StegaStamp: transform_net and train.py, after all ramps",
        (
            "The corners of the image move, and black comes in. The authors move those of the part "
            "that then fills the image, and fill what is uncovered in other ways, too.",
            "Blur, noise, saturation and quality are drawn for each image, by the authors for each "
            "batch.",
            "In JPEG, sides that 16 does not divide are continued with black, theirs mirrored; "
            "their images have 400 x 400 pixels.",
        ),
    )
}
