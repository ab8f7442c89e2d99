"""Estimate what happened to a file, as a chain of operators, from its pixels and its header.

The chain has the usual order: enlarged, noisy, saved as JPEG, cropped, saved again.
docs/forensics.md says how each stage is detected, how well, and what cannot be known.
"""

from __future__ import annotations

import io
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy
import torch
from torch import Tensor
from torch.nn import functional

from ..choice import Identity
from ..codec import Codec
from ..geometry import Shift, Turn
from ..imagefile import contents
from ..jpeg import JPEG
from ..jpeg_header import quality_tables, read_header
from ..levels import Clamp, Quantize
from ..noise import Gaussian, PoissonGaussian
from ..operator import Operator, compose
from ..params import show
from ..photofile import EXIF_TURNS, decode_photo, upright
from ..resample import Resize
from .blocks import LUMA, blocks_of, coefficients
from .comb import ORDER, TABLES, Comb, aligned_comb, comb_nats, shifted_comb
from .grain import Grain, Law, fit_law, grains, weighted_mean
from .lattice import lattice
from .webp import is_lossless, quantiser, webp_quality

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 1536  # pixels: only the middle of a larger picture is examined
_BLUE = torch.tensor([-0.168736, -0.331264, 0.5], dtype=torch.float64)  # Cb
_UNROUNDED = 0.5  # levels: the step of coefficients that no JPEG has rounded
_LEAST = 0.45  # noise with a lower confidence is not reported
_LEAST_FACTOR = 1.3  # smaller enlargements are not reported
_FEW_LINES = 160  # pixels: on a shorter side, the edges of a drawing line up by chance
_FAINTEST = 1.2  # levels: every picture has noise of a lower standard deviation
_CLEAR = 40  # nats: weaker evidence of an earlier JPEG is not reported
_FAINT = 10  # nats: weaker evidence of an earlier JPEG is no alternative either
_SHARP = 0.9  # levels: a comb that is blurred more than this had noise added after its JPEG
_NEAR = 0.2  # an alternative is at least this likely, relative to the likeliest history
_MOST_ALTERNATIVES = 2
_PART = 400  # pixels: the side of the part on which kinds of chroma sampling are tried
_MOST_BLOCKS = 4000  # in which a comb of chroma is searched
_ROUNDING = 1 / 12  # variance of rounding to 8 bits, in levels²
_ORIENTATION = 0x0112  # EXIF tag
# An opponent colour has less texture than luma, but a JPEG hardly keeps it.
_OPPONENT = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64)


@dataclass(frozen=True)
class Finding:
    """One thing that happened to the file.

    stage: its operator as text, or "" where no operator describes it. why: the evidence.
    confidence: in [0, 1]. 200 random chains that the method was not developed on gave 159 findings;
    those of 0.8 or more were right in 98 % of cases, the others in 92 % (docs/forensics.md). What a
    header says has 1; what compression may hide has 0.5.
    """

    stage: str
    confidence: float
    why: str


@dataclass(frozen=True)
class Alternative:
    """Another history of the same file, which differs from the likeliest one in one stage.

    likelihood: relative to the likeliest history, from 0.2 to 1; a rough number, since it takes the
    confidence of a finding as its probability. stage: the one that differs. added: whether this
    history has the stage, or lacks it. kind: of the stage; "enlargement", "noise" or "jpeg".
    """

    operator: Operator
    likelihood: float
    stage: str
    added: bool
    kind: str


@dataclass(frozen=True)
class Guess:
    """What happened to a file.

    operator: maps a clean picture of the file's displayed size to the file's pixels. findings: in
    the order of the chain. clipped: the share of pixels in areas of at least 3×3 pixels at 0 or
    255. alternatives: other histories whose evidence is nearly as strong, the likeliest first.
    """

    operator: Operator
    findings: tuple[Finding, ...]
    clipped: float
    alternatives: tuple[Alternative, ...] = ()


def guess(file: str | Path | bytes) -> Guess:
    """Estimate what happened to the picture in `file`, which is a path or the file's bytes.

    It detects an enlargement (1.3 to 8 times), noise, an earlier JPEG with libjpeg's tables on any
    block grid, and how the file itself was saved: for a JPEG, the header gives the tables and the
    orientation exactly; for a WebP, it gives the quality nearly. Each is one finding. A stage that
    is not detected may still have happened. The result is deterministic. Only the middle `SIDE`²
    pixels of a large picture are examined. Raises ValueError, which names the file, if it cannot be
    read as a picture.
    """
    name, data = _name_and_data(file)
    photo = decode_photo(data, name)
    displayed = photo.rgb8
    saved = _last_save(data, displayed)
    hidden = photo.hidden
    if hidden is not None:
        hidden = _middle(hidden)
    view = _View(_middle(saved.pixels), hidden)

    earlier, comb = _earlier_jpeg(view, saved.table)
    grid, table = _coarsest_jpeg(comb, saved.table)
    compressed = saved.other_codec or table is not None
    height, width = saved.pixels.shape[:2]
    enlargement = _enlargement(view, (height, width), compressed)
    if comb is not None and comb.blur > _SHARP:
        noise = _noise(view, (0, 0), saved.table)
        evidence = [*enlargement, *earlier, *noise, *saved.stages]
    else:
        noise = _noise(view, grid, table)
        evidence = [*enlargement, *noise, *earlier, *saved.stages]
    reported = [piece for piece in evidence if piece.reported]
    operator = _chain(reported, saved.turn)
    findings = tuple(piece.finding for piece in reported)
    alternatives = _alternatives(evidence, operator, saved.turn)
    clipped = _clipped_share(displayed)
    return Guess(operator, findings, clipped, alternatives)


def _name_and_data(file: str | Path | bytes) -> tuple[str, bytes]:
    """Return the name of a file for messages, and its bytes."""
    if isinstance(file, bytes):
        return "file", file
    if not isinstance(file, (str, Path)):
        raise ValueError(f"file={show(file)} must be a path or the bytes of a picture")
    name = f"file={file}"
    return name, contents(file, name)


@dataclass(frozen=True)
class _Evidence:
    """One finding with its operator; None where no operator describes it.

    reported: whether the evidence is strong enough for the likeliest history. kind: as in
    `Alternative`.
    """

    stage: Operator | None
    finding: Finding
    reported: bool = True
    kind: str = ""

    @property
    def odds(self) -> float:
        """The likelihood of the opposite decision relative to this one, at most 1."""
        happened = self.finding.confidence
        did_not_happen = 1 - happened
        if self.reported:
            odds = did_not_happen / max(happened, 1e-9)
        else:
            odds = happened / max(did_not_happen, 1e-9)
        return min(1.0, odds)


def _alternatives(
    evidence: list[_Evidence], likeliest: Operator, turn: Turn | None
) -> tuple[Alternative, ...]:
    """The histories that decide on one uncertain piece of the evidence differently."""
    alternatives = []
    for doubtful in evidence:
        if doubtful.stage is None or doubtful.odds < _NEAR:
            continue
        pieces = []
        for piece in evidence:
            is_included = piece.reported
            if piece is doubtful:
                is_included = not piece.reported
            if is_included:
                pieces.append(piece)
        operator = _chain(pieces, turn)
        if operator == likeliest:
            continue
        alternative = Alternative(
            operator=operator,
            likelihood=round(doubtful.odds, 3),
            stage=doubtful.finding.stage,
            added=not doubtful.reported,
            kind=doubtful.kind,
        )
        alternatives.append(alternative)
    alternatives.sort(key=lambda alternative: -alternative.likelihood)
    return tuple(alternatives[:_MOST_ALTERNATIVES])


def _chain(evidence: list[_Evidence], turn: Turn | None) -> Operator:
    """Chain the stages in order. A picture that was saved on its side is turned and turned back."""
    stages: list[Operator] = []
    for piece in evidence:
        if piece.stage is not None:
            stages.extend(piece.stage)
    if not stages:
        return Identity()
    if turn is not None:
        stages = [*turn.inverse, *stages, *turn]
    return compose(stages)


def _coarsest_jpeg(
    earlier: Comb | None, last_table: Tensor | None
) -> tuple[tuple[int, int], Tensor | None]:
    """(block grid, luma's table) of the JPEG with the larger steps; None without a JPEG."""
    if earlier is None:
        return (0, 0), last_table
    table = TABLES[earlier.quality - 1]
    if last_table is not None and last_table.sum() > table.sum():
        return (0, 0), last_table
    return (earlier.dy, earlier.dx), table


class _View:
    """The planes of a picture [h, w, 3], in levels; a grey picture has one plane.

    hidden: which pixels are fully transparent, [h, w]. They count as clipped.
    """

    def __init__(self, pixels: numpy.ndarray, hidden: numpy.ndarray | None = None):
        x = torch.tensor(pixels, dtype=torch.float64)
        red = x[..., :1]
        self.mix = LUMA
        if torch.equal(x, red.expand_as(x)):
            x = red
            self.mix = torch.ones(1, dtype=torch.float64)
        self.colours = x.movedim(2, 0)
        # Rounded luma is what a JPEG decoder had before it made colours.
        luma = x @ self.mix
        self.luma = luma.round() - 128
        is_at_end = (x <= 0) | (x >= 255)
        self.clipped = is_at_end.any(2)
        if hidden is not None:
            self.clipped |= torch.tensor(hidden)


def _middle(pixels: numpy.ndarray) -> numpy.ndarray:
    """Crop to the middle. The crop starts at a multiple of 16, so that blocks keep their grid."""
    height, width = pixels.shape[:2]
    top = max(0, height - SIDE) // 32 * 16
    left = max(0, width - SIDE) // 32 * 16
    return pixels[top : top + SIDE, left : left + SIDE]


@dataclass(frozen=True)
class _LastSave:
    """What the file itself says about how it was saved.

    pixels: as they were saved, before `turn` made them upright. table: of luma, for a JPEG.
    other_codec: whether another lossy codec wrote the file.
    """

    pixels: numpy.ndarray
    stages: list[_Evidence]
    table: Tensor | None = None
    turn: Turn | None = None
    other_codec: bool = False


def _last_save(data: bytes, displayed: numpy.ndarray) -> _LastSave:
    """Read how the file was saved; `displayed` holds its pixels as a viewer shows them."""
    from PIL import Image as PillowImage

    with PillowImage.open(io.BytesIO(data)) as image:
        codec = image.format
        if codec == "WEBP":
            return _last_webp(data, displayed, image)
        if codec in ("JPEG", "MPO"):
            return _last_jpeg(data, displayed, image)
    if codec in ("AVIF", "JPEG2000"):
        why = (
            f"the file is {codec}, whose settings its pixels do not tell; "
            f"codec:{codec.lower()},75 would be a guess"
        )
        return _unknown_codec(displayed, why)
    return _LastSave(displayed, [])


def _last_jpeg(data: bytes, displayed: numpy.ndarray, image: Image) -> _LastSave:
    """Describe a JPEG file by the tables, the sampling and the orientation of its header."""
    orientation = image.getexif().get(_ORIENTATION)
    try:
        tables, subsampling = read_header(data)
        jpeg = _with_quality(JPEG(tables=tables, subsampling=subsampling))
    except ValueError as error:
        return _unknown_codec(displayed, f"the file is a JPEG, but {error}")
    pixels = numpy.asarray(image.convert("RGB"))
    is_grey = jpeg.tables is not None and len(jpeg.tables) == 1
    why = "the file's own tables" if is_grey else "the file's own tables and sampling"
    turn = None
    if orientation in EXIF_TURNS:
        turn = Turn(*EXIF_TURNS[orientation])
        why += "; it was compressed as it lay, and EXIF turns it upright"
    if not numpy.array_equal(upright(pixels, orientation or 1), displayed):
        why += "; its pixels are shown through a colour profile, which no operator holds"
    finding = Finding(str(jpeg), 1.0, why)
    table = torch.tensor(tables[0]).double()
    return _LastSave(pixels, [_Evidence(jpeg, finding)], table, turn)


def _last_webp(data: bytes, displayed: numpy.ndarray, image: Image) -> _LastSave:
    """Describe a WebP file by its quality, which follows from the quantiser in its header."""
    coarseness = quantiser(data)
    if coarseness is None:
        if is_lossless(data):
            return _LastSave(displayed, [])
        return _unknown_codec(displayed, "the file is a WEBP whose header says no quantiser")
    quality = webp_quality(image.convert("RGB"), coarseness)
    codec = Codec("webp", quality)
    why = f"the quantiser in the file's header is that of about quality {quality}"
    finding = Finding(str(codec), 0.95, why)
    return _LastSave(displayed, [_Evidence(codec, finding)], other_codec=True)


def _unknown_codec(displayed: numpy.ndarray, why: str) -> _LastSave:
    """Describe a lossy file whose settings are not known."""
    evidence = _Evidence(None, Finding("", 1.0, why))
    return _LastSave(displayed, [evidence], other_codec=True)


def _with_quality(jpeg: JPEG) -> JPEG:
    """Write a JPEG by its quality if its tables are those of libjpeg."""
    qualities = torch.arange(1.0, 101, dtype=torch.float32, device="cpu")
    tables_of_qualities = quality_tables(qualities).flatten(2)
    tables = torch.tensor(jpeg.tables, dtype=tables_of_qualities.dtype, device="cpu")
    count = len(tables)
    if count > 2:
        return jpeg
    is_equal = tables_of_qualities[:, :count] == tables
    has_tables = is_equal.flatten(1).all(1)
    indices = has_tables.nonzero()
    if len(indices) == 0:
        return jpeg
    quality = int(indices[-1]) + 1
    return JPEG(quality, jpeg.subsampling)


def _earlier_jpeg(view: _View, last_table: Tensor | None) -> tuple[list[_Evidence], Comb | None]:
    """Find a JPEG before the last one, on its own block grid; return its comb if it is clear."""
    comb = _clearest_comb(view, last_table)
    if comb is None:
        return [], None
    is_clear = _strength(comb) > _CLEAR
    saving = _Saving(JPEG(comb.quality), _corner_of_mcus(comb.dy), _corner_of_mcus(comb.dx))
    if last_table is None and len(view.colours) == 3:
        saving = _sampling(view.colours, comb)
    dy = _shorter_shift(saving.top)
    dx = _shorter_shift(saving.left)
    chain: Operator = saving.jpeg
    why = f"its coefficients are multiples of the steps of quality {comb.quality}"
    if dy or dx:
        chain = Shift(dy, dx) >> saving.jpeg >> Shift(-dy, -dx)
        why += (
            f", in blocks that begin {dy % 8} rows and {dx % 8} columns outside: "
            "it was cropped since"
        )
    confidence = _confidence(_strength(comb), 60)
    finding = Finding(str(chain), confidence, why)
    evidence = _Evidence(chain, finding, is_clear, "jpeg")
    return [evidence], comb if is_clear else None


def _clearest_comb(view: _View, last_table: Tensor | None) -> Comb | None:
    """The earlier JPEG with the clearest evidence, on a grid of its own or on the last one's."""
    is_jpeg = last_table is not None
    combs = [shifted_comb(view.luma, view.clipped, is_jpeg)]
    if last_table is not None:
        is_clipped = blocks_of(view.clipped).flatten(2).any(2)
        blocks = blocks_of(view.luma)
        c = coefficients(blocks[~is_clipped])
        combs.append(aligned_comb(c, last_table))
    clear = []
    for comb in combs:
        if comb is not None and _strength(comb) > _FAINT:
            clear.append(comb)
    return max(clear, key=_clearness, default=None)


def _clearness(comb: Comb) -> tuple[bool, float]:
    """The order of combs: clear ones come first, then those with a larger margin."""
    return _strength(comb) > _CLEAR, comb.margin


def _strength(comb: Comb) -> float:
    """The weaker of a comb's two pieces of evidence, in nats."""
    return min(comb.nats, comb.margin)


def _corner_of_mcus(corner: int) -> int:
    """Where the blocks of 16 begin on a grid of blocks of 8, on the side nearer to the edge."""
    return corner + 8 if corner > 4 else corner


def _shorter_shift(corner: int) -> int:
    """The shift that puts the corner of the grid on the edge. The shorter of two loses less."""
    return 8 - (corner + 8) % 16


class _Saving(NamedTuple):
    """A JPEG, and the row and column where its blocks of 16×16 begin."""

    jpeg: JPEG
    top: int
    left: int

    def change(self, colours: Tensor) -> float:
        """The mean square by which one more saving changes a part of the picture."""
        rows = slice(self.top, self.top + _PART)
        columns = slice(self.left, self.left + _PART)
        part = colours[None, :, rows, columns].float() / 255
        difference = self.jpeg(part) - part
        return float(difference.square().mean())


def _sampling(colours: Tensor, comb: Comb) -> _Saving:
    """Find how chroma was sampled: one more saving in the same way changes little."""
    if _has_full_chroma(colours, comb):
        jpeg = JPEG(comb.quality, "4:4:4")
        return _Saving(jpeg, _corner_of_mcus(comb.dy), _corner_of_mcus(comb.dx))
    tops = (comb.dy, comb.dy + 8)
    lefts = (comb.dx, comb.dx + 8)
    candidates = []
    for subsampling, top, left in itertools.product(("4:2:0", "4:2:2"), tops, lefts):
        jpeg = JPEG(comb.quality, subsampling)
        candidates.append(_Saving(jpeg, top, left))
    return min(candidates, key=lambda candidate: candidate.change(colours))


def _has_full_chroma(colours: Tensor, comb: Comb) -> bool:
    """Whether chroma has a comb on the grid of luma, so that it was not enlarged."""
    blue = torch.tensordot(_BLUE, colours, 1)
    blocks = blocks_of(blue.round(), comb.dy, comb.dx).flatten(0, 1)
    c = coefficients(blocks)[None, :_MOST_BLOCKS]
    quality = torch.tensor([float(comb.quality)])
    tables = quality_tables(quality)
    chroma_table = tables[:, 1].flatten(1).double()
    nats = comb_nats(c, chroma_table, ORDER[:20], (0.35, 0.7))
    return bool(nats.max() > _CLEAR)


def _noise(view: _View, grid: tuple[int, int], table: Tensor | None) -> list[_Evidence]:
    """Measure noise in the flattest blocks, on the grid and at the steps of the coarsest JPEG."""
    measurement = _quietest(view, grid, table)
    noise = []
    if measurement is not None and measurement.is_loud:
        noise.append(_noise_of(measurement))
    if table is None or any(piece.reported for piece in noise):
        return noise
    hidden = Finding("", 0.5, "noise, if there was any, is hidden by compression")
    return [_Evidence(None, hidden), *noise]


def _noise_of(measurement: _Measurement) -> _Evidence:
    """Express measured noise as an operator. Files hold clamped and rounded values."""
    law, confidence = measurement
    read_variance = max(0.0, law.base - _ROUNDING)
    sigma = _three_digits(math.sqrt(read_variance) / 255)
    if law.slope > 0:
        peak = _three_digits(255 / law.slope)
        noise: Operator = PoissonGaussian(peak, sigma)
        why = (
            "the flattest blocks are rough at all frequencies alike, "
            "and the rougher, the brighter they are"
        )
    else:
        noise = Gaussian(sigma)
        why = "the flattest blocks are rough at all frequencies and brightnesses alike"
    chain = noise >> Clamp() >> Quantize()
    finding = Finding(str(chain), round(confidence, 3), why)
    is_clear = confidence >= _LEAST
    return _Evidence(chain, finding, is_clear, "noise")


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


class _Measurement(NamedTuple):
    """The law of the noise, and the confidence that it is noise."""

    law: Law
    confidence: float

    @property
    def middle_variance(self) -> float:
        """The variance of the noise at middle brightness, with that of rounding."""
        return self.law.at(128)

    @property
    def is_loud(self) -> bool:
        """Whether the noise is stronger than in every picture."""
        variance = self.middle_variance - _ROUNDING
        return bool(variance > _FAINTEST**2)


def _quietest(view: _View, grid: tuple[int, int], table: Tensor | None) -> _Measurement | None:
    """Measure the lowest noise of any mixture of the channels; None if none can be measured."""
    mixes = [view.mix]
    steps = table
    if steps is None:
        steps = torch.full((64,), _UNROUNDED, dtype=torch.float64)
        if len(view.colours) == 3:
            mixes.append(_OPPONENT)
    measurements = []
    for mix in mixes:
        measurement = _measure_noise(view, grid, mix, steps)
        if measurement is not None:
            measurements.append(measurement)
    return min(measurements, key=lambda measurement: measurement.middle_variance, default=None)


def _measure_noise(
    view: _View, grid: tuple[int, int], mix: Tensor, steps: Tensor
) -> _Measurement | None:
    """Measure the noise of a channel in a mixture of the channels; None if that is impossible."""
    scale = float(mix.norm())
    weights = mix / scale
    plane = view.luma
    if mix is not view.mix:
        plane = torch.tensordot(mix, view.colours, 1)
    blocks = blocks_of(plane, *grid).flatten(0, 1)
    c = coefficients(blocks) / scale
    means = _block_means(view.colours, grid)
    brightness = means @ weights.square()
    distance_to_ends = torch.minimum(means, 255 - means).amin(1)
    clipped = blocks_of(view.clipped, *grid).flatten(0, 1)
    clipped_share = clipped.double().mean((1, 2))
    usable = clipped_share <= 0.05
    for _ in range(2):
        measured, share = grains(c[usable], steps / scale, brightness[usable])
        if not measured:
            return None
        law = fit_law(measured)
        # Nearer to 0 or 255, clipping took some of the noise.
        deviation = math.sqrt(law.at(128))
        usable &= distance_to_ends > 2 * deviation
    confidence = _confidence_in_noise(measured, law, share)
    return _Measurement(law, confidence)


def _block_means(colours: Tensor, grid: tuple[int, int]) -> Tensor:
    """The mean of each block and colour, [blocks, colours]."""
    means = []
    for plane in colours:
        blocks = blocks_of(plane, *grid)
        means.append(blocks.mean((2, 3)).flatten())
    return torch.stack(means, 1)


def _confidence_in_noise(measured: list[Grain], law: Law, share: float) -> float:
    """How much the grains of a share of the bins look like noise and not like texture."""
    _, _, weights, whites, band_counts, all_tails = zip(*measured, strict=True)
    white = weighted_mean(whites, weights)
    tails = weighted_mean(all_tails, weights)
    bands = weighted_mean(band_counts, weights)
    heavy_tails = max(0.0, tails - 1)
    doubt = 1 - white + heavy_tails / 2 + law.spread
    from_bands = min(1.0, bands / 2)
    from_weight = _confidence(sum(weights), 200)
    return share * from_bands * math.exp(-doubt) * from_weight


def _enlargement(view: _View, size: tuple[int, int], compressed: bool) -> list[_Evidence]:
    """Find an enlargement of the whole picture of `size`, by the pattern of its lines."""
    if _repeats_lines(view.luma):
        why = "lines of pixels are repeated: enlarged by nearest, or drawn so"
        finding = Finding("", 1.0, why)
        return [_Evidence(None, finding)]
    estimate = lattice(view.luma, compressed)
    if estimate is None or estimate.factor < _LEAST_FACTOR:
        return []
    clear_contrast, clear_margin = 0.1, 3.2
    if compressed or min(size) < _FEW_LINES:
        clear_contrast, clear_margin = 0.25, 4
    if estimate.contrast < clear_contrast / 2:
        return []
    if estimate.margin < clear_margin / 2:
        return []
    is_clear = estimate.contrast >= clear_contrast and estimate.margin >= clear_margin
    factor = f"{estimate.factor:.2f}"
    confidence = _confidence(estimate.margin, 3)
    height, width = size
    small_height = max(1, round(height / estimate.factor))
    small_width = max(1, round(width / estimate.factor))
    try:
        chain = Resize((small_height, small_width)) >> Resize(size, filter=estimate.filter)
    except ValueError as error:  # Resize limits the number of pixels
        finding = Finding("", confidence, f"enlarged by {factor}, but {error}")
        return [_Evidence(None, finding, is_clear)]
    why = f"its lines lie near those enlarged by {factor}, at one phase of the small grid only"
    finding = Finding(str(chain), confidence, why)
    return [_Evidence(chain, finding, is_clear, "enlargement")]


def _repeats_lines(luma: Tensor) -> bool:
    """Whether, in both directions, at least a fifth of the lines equal the line before them.

    Lines that are almost constant do not count.
    """
    return _repeats_rows(luma) and _repeats_rows(luma.T)


def _repeats_rows(plane: Tensor) -> bool:
    """Whether at least a fifth of the rows equal the row before them."""
    variance = plane.var(1, correction=0)
    rows = plane[variance > 1]
    if len(rows) < 16:
        return False
    steps = rows.diff(dim=0)
    is_repeated = (steps == 0).all(1)
    share = is_repeated.double().mean()
    return float(share) >= 0.2


def _confidence(evidence: float, scale: float) -> float:
    """Map evidence to [0, 1]; `scale` is the evidence that gives 1 - 1/e."""
    doubt = math.exp(-evidence / scale)
    return round(1 - doubt, 3)


def _clipped_share(displayed: numpy.ndarray) -> float:
    """The share of clipped pixels in areas of at least 3×3; noise also clips single pixels."""
    if min(displayed.shape[:2]) < 3:
        return 0.0
    is_at_end = (displayed == 0) | (displayed == 255)
    is_clipped = is_at_end.any(2)
    mask = torch.from_numpy(is_clipped)[None].float()
    eroded = -functional.max_pool2d(-mask, 3, 1)
    padded = functional.pad(eroded, (2, 2, 2, 2))
    opened = functional.max_pool2d(padded, 3, 1)
    return round(float(opened.mean()), 4)
