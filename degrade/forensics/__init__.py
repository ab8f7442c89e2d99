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
from typing import TYPE_CHECKING

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
_ROUNDING = 1 / 12  # variance of rounding to 8 bits, in levels²
_ORIENTATION = 0x0112  # EXIF tag
# An opponent colour has less texture than luma, but a JPEG hardly keeps it.
_OPPONENT = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64)


@dataclass(frozen=True)
class Finding:
    """One thing that happened to the file.

    stage: its operator as text, or "" where no operator describes it. why: the evidence.
    confidence: in [0, 1]. In 200 random chains that the method was not developed on there were 159
    findings; those of 0.8 or more were right in 98 % of cases, the others in 92 %
    (docs/forensics.md). What a header says has 1; what compression may hide has 0.5.
    """

    stage: str
    confidence: float
    why: str


@dataclass(frozen=True)
class Alternative:
    """Another history of the same file, which differs from the likeliest in one stage.

    likelihood: relative to the likeliest history, from 0.2 to 1; a rough number, since it takes the
    confidence of a finding as its probability. stage: what it adds, or leaves out if not `added`.
    kind: of the stage; "enlargement", "noise" or "jpeg".
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
    the chain's order. clipped: share of pixels in areas of at least 3×3 pixels at 0 or 255.
    alternatives: other histories whose evidence is nearly as strong, the likeliest first.
    """

    operator: Operator
    findings: tuple[Finding, ...]
    clipped: float
    alternatives: tuple[Alternative, ...] = ()


def guess(file: str | Path | bytes) -> Guess:
    """Estimate what happened to the picture in `file`, which is a path or the file's bytes.

    It detects an enlargement (1.3 to 8 times), noise, an earlier JPEG with libjpeg's tables on any
    block grid, and the file's own JPEG, whose tables and orientation the header gives exactly, or
    WebP, whose quality it gives nearly. Each is one finding; a stage that is not found may have
    happened. The result is deterministic. Only the middle `SIDE`² pixels of a large picture are
    examined. Raises ValueError, which names the file, where it cannot be read as a picture.
    """
    if not isinstance(file, (str, Path, bytes)):
        raise ValueError(f"file={show(file)} must be a path or the bytes of a picture")
    if isinstance(file, bytes):
        name, data = "file", file
    else:
        name = f"file={file}"
        data = contents(file, name)
    photo = decode_photo(data, name)
    displayed = photo.rgb8
    saved = _last_save(data, displayed)
    hidden = None if photo.hidden is None else _middle(photo.hidden)
    view = _View(_middle(saved.pixels), hidden)

    earlier, comb = _earlier_jpeg(view, saved.table)
    grid, table = _coarsest_jpeg(comb, saved.table)
    compressed = saved.other_codec or table is not None
    enlargement = _enlargement(view, saved.pixels.shape[:2], compressed)
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
    return Guess(operator, findings, _clipped_share(displayed), alternatives)


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
        probability = self.finding.confidence
        if self.reported:
            return min(1.0, (1 - probability) / max(probability, 1e-9))
        return min(1.0, probability / max(1 - probability, 1e-9))


def _alternatives(
    evidence: list[_Evidence], likeliest: Operator, turn: Turn | None
) -> tuple[Alternative, ...]:
    """The histories that decide one uncertain piece of the evidence the other way."""
    alternatives = []
    for doubtful in evidence:
        if doubtful.stage is None or doubtful.odds < _NEAR:
            continue
        pieces = []
        for piece in evidence:
            is_doubtful = piece is doubtful
            if piece.reported != is_doubtful:
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
    """The stages in order; those of a picture that was saved on its side are turned first."""
    stages = [piece.stage for piece in evidence if piece.stage is not None]
    if not stages:
        return Identity()
    if turn is not None:
        stages = [turn.inverse, *stages, turn]
    parts: list[Operator] = []
    for stage in stages:
        parts.extend(stage)
    return compose(parts)


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

    hidden: which pixels are fully transparent [h, w]; they count as clipped.
    """

    def __init__(self, pixels: numpy.ndarray, hidden: numpy.ndarray | None = None):
        x = torch.tensor(pixels, dtype=torch.float64)
        is_grey = bool((x == x[..., :1]).all())
        if is_grey:
            x = x[..., :1]
        self.mix = torch.ones(1, dtype=torch.float64) if is_grey else LUMA
        self.colours = x.movedim(2, 0)
        # Rounded luma is what a JPEG decoder had before it made colours.
        self.luma = (x @ self.mix).round() - 128
        self.clipped = ((x <= 0) | (x >= 255)).any(2)
        if hidden is not None:
            self.clipped |= torch.tensor(hidden)


def _middle(pixels: numpy.ndarray) -> numpy.ndarray:
    """Crop to the middle, from a multiple of 16 on, so that blocks keep their grid."""
    height, width = pixels.shape[:2]
    top = max(0, height - SIDE) // 32 * 16
    left = max(0, width - SIDE) // 32 * 16
    return pixels[top : top + SIDE, left : left + SIDE]


@dataclass(frozen=True)
class _LastSave:
    """What the file itself says about how it was saved.

    pixels: as they were saved, before `turn` made them upright. table: luma's, of a JPEG.
    other_codec: whether a lossy codec wrote the file whose settings are not known.
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
        orientation = image.getexif().get(_ORIENTATION)
        if codec == "WEBP":
            return _last_webp(data, displayed, image)
        if codec in ("AVIF", "JPEG2000"):
            why = (
                f"the file is {codec}, whose settings its pixels do not tell; "
                f"codec:{codec.lower()},75 would be a guess"
            )
            return _unknown_codec(displayed, why)
        if codec not in ("JPEG", "MPO"):
            return _LastSave(displayed, [])
        try:
            tables, subsampling = read_header(data)
            jpeg = _with_quality(JPEG(tables=tables, subsampling=subsampling))
        except ValueError as error:
            return _unknown_codec(displayed, f"the file is a JPEG, but {error}")
        pixels = numpy.asarray(image.convert("RGB"))
    why = "the file's own tables"
    if len(jpeg.tables or (0, 0)) > 1:
        why += " and sampling"
    turn = None
    if orientation in EXIF_TURNS:
        turn = Turn(*EXIF_TURNS[orientation])
        why += "; it was compressed as it lay, and EXIF turns it upright"
    if not numpy.array_equal(upright(pixels, orientation or 1), displayed):
        why += "; its pixels are shown through a colour profile, which no operator holds"
    stages = [_Evidence(jpeg, Finding(str(jpeg), 1.0, why))]
    table = torch.tensor(tables[0]).double()
    return _LastSave(pixels, stages, table, turn)


def _last_webp(data: bytes, displayed: numpy.ndarray, image: Image) -> _LastSave:
    """A WebP file, whose quality follows from the quantiser in its header."""
    coarseness = quantiser(data)
    if coarseness is None:
        if is_lossless(data):
            return _LastSave(displayed, [])
        return _unknown_codec(displayed, "the file is a WEBP whose header says no quantiser")
    quality = webp_quality(image.convert("RGB"), coarseness)
    codec = Codec("webp", quality)
    why = f"the quantiser in the file's header is that of about quality {quality}"
    return _LastSave(
        displayed, [_Evidence(codec, Finding(str(codec), 0.95, why))], None, None, True
    )


def _unknown_codec(displayed: numpy.ndarray, why: str) -> _LastSave:
    """A lossy file whose settings no operator describes."""
    finding = Finding("", 1.0, why)
    return _LastSave(displayed, [_Evidence(None, finding)], other_codec=True)


def _with_quality(jpeg: JPEG) -> JPEG:
    """The same JPEG, written by its quality where its tables are libjpeg's."""
    tables_of_qualities = quality_tables(
        torch.arange(1.0, 101, dtype=torch.float32, device="cpu")
    ).flatten(2)
    tables = torch.tensor(jpeg.tables, dtype=tables_of_qualities.dtype, device="cpu")
    count = len(tables)
    if count > 2:
        return jpeg
    equal = (tables_of_qualities[:, :count] == tables).flatten(1).all(1)
    indices = equal.nonzero()
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
    jpeg = JPEG(comb.quality)
    top, left = _corner_of_mcus(comb.dy), _corner_of_mcus(comb.dx)
    if last_table is None and len(view.colours) == 3:
        jpeg, top, left = _sampling(view.colours, comb)
    dy, dx = _shorter_shift(top), _shorter_shift(left)
    chain: Operator = jpeg
    why = f"its coefficients are multiples of the steps of quality {comb.quality}"
    if dy or dx:
        chain = Shift(dy, dx) >> jpeg >> Shift(-dy, -dx)
        why += (
            f", in blocks that begin {dy % 8} rows and {dx % 8} columns outside: "
            "it was cropped since"
        )
    confidence = _confidence(_strength(comb), 60)
    finding = Finding(str(chain), confidence, why)
    return [_Evidence(chain, finding, is_clear, "jpeg")], comb if is_clear else None


def _clearest_comb(view: _View, last_table: Tensor | None) -> Comb | None:
    """The earlier JPEG with the clearest evidence, on a grid of its own or on the last one's."""
    combs = [shifted_comb(view.luma, view.clipped, last_table is not None)]
    if last_table is not None:
        clipped = blocks_of(view.clipped).flatten(0, 1).flatten(1).any(1)
        blocks = blocks_of(view.luma).flatten(0, 1)
        combs.append(aligned_comb(coefficients(blocks[~clipped]), last_table))
    clear = []
    for comb in combs:
        if comb is not None and _strength(comb) > _FAINT:
            clear.append(comb)
    return max(clear, key=_clearness, default=None)


def _clearness(comb: Comb) -> tuple[bool, float]:
    return _strength(comb) > _CLEAR, comb.margin


def _strength(comb: Comb) -> float:
    """The weaker of a comb's two pieces of evidence, in nats."""
    return min(comb.nats, comb.margin)


def _corner_of_mcus(corner: int) -> int:
    """Where the blocks of 16 begin on a grid of blocks of 8, on the side nearer to the edge."""
    return corner + 8 if corner > 4 else corner


def _shorter_shift(corner: int) -> int:
    """The shift that puts the grid's corner on the edge; the shorter one loses fewer pixels."""
    return 8 - (corner + 8) % 16


def _sampling(colours: Tensor, comb: Comb) -> tuple[JPEG, int, int]:
    """Find (JPEG with its chroma sampling, row and column where its blocks of 16×16 begin)."""
    if _has_full_chroma(colours, comb):
        jpeg = JPEG(comb.quality, "4:4:4")
        return jpeg, _corner_of_mcus(comb.dy), _corner_of_mcus(comb.dx)
    candidates: list[tuple[float, JPEG, int, int]] = []
    tops = (comb.dy, comb.dy + 8)
    lefts = (comb.dx, comb.dx + 8)
    for subsampling, top, left in itertools.product(("4:2:0", "4:2:2"), tops, lefts):
        jpeg = JPEG(comb.quality, subsampling)
        part = colours[None, :, top : top + 400, left : left + 400].float() / 255
        change = jpeg(part) - part  # one more saving with the true sampling changes little
        candidates.append((float(change.square().mean()), jpeg, top, left))
    _, jpeg, top, left = min(candidates, key=lambda candidate: candidate[0])
    return jpeg, top, left


def _has_full_chroma(colours: Tensor, comb: Comb) -> bool:
    """Whether chroma has a comb on luma's grid, so that it was not enlarged."""
    blue = torch.tensordot(_BLUE, colours, 1).round()
    blocks = blocks_of(blue, comb.dy, comb.dx).flatten(0, 1)
    quality = torch.tensor([float(comb.quality)])
    table = quality_tables(quality)[:, 1].flatten(1).double()
    c = coefficients(blocks)[None, :4000]
    nats = comb_nats(c, table, ORDER[:20], (0.35, 0.7))
    return bool(nats.max() > _CLEAR)


def _noise(view: _View, grid: tuple[int, int], table: Tensor | None) -> list[_Evidence]:
    """Measure noise in the flattest blocks, on the grid and at the steps of the coarsest JPEG."""
    measurement = _quietest(view, grid, table)
    evidence: list[_Evidence] = []
    is_loud = measurement is not None and _is_loud(measurement)
    is_clear = measurement is not None and measurement[1] >= _LEAST
    if table is not None and not (is_loud and is_clear):
        hidden = Finding("", 0.5, "noise, if there was any, is hidden by compression")
        evidence.append(_Evidence(None, hidden))
    if measurement is not None and is_loud:
        evidence.append(_noise_of(measurement, is_clear))
    return evidence


def _noise_of(measurement: _Measurement, is_clear: bool) -> _Evidence:
    """The noise of a measurement, as an operator; files hold what is clamped and rounded."""
    law, confidence = measurement
    read_variance = max(0.0, law.base - _ROUNDING)
    sigma = _three_digits(math.sqrt(read_variance) / 255)
    if law.slope > 0:
        noise: Operator = PoissonGaussian(_three_digits(255 / law.slope), sigma)
        why = (
            "the flattest blocks are rough at all frequencies alike, "
            "and the rougher, the brighter they are"
        )
    else:
        noise = Gaussian(sigma)
        why = "the flattest blocks are rough at all frequencies and brightnesses alike"
    chain = noise >> Clamp() >> Quantize()
    finding = Finding(str(chain), round(confidence, 3), why)
    return _Evidence(chain, finding, is_clear, "noise")


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


_Measurement = tuple[Law, float]  # law of the noise, confidence


def _is_loud(measurement: _Measurement) -> bool:
    """Whether the noise is stronger than that of every picture."""
    law, _ = measurement
    variance = law.at(128) - _ROUNDING
    return bool(variance > _FAINTEST**2)


def _quietest(view: _View, grid: tuple[int, int], table: Tensor | None) -> _Measurement | None:
    """The lowest noise that any mixture of the channels shows; None if none can be measured."""
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
    return min(measurements, key=lambda measurement: measurement[0].at(128), default=None)


def _measure_noise(
    view: _View, grid: tuple[int, int], mix: Tensor, steps: Tensor
) -> _Measurement | None:
    """The noise of one channel and its confidence, measured in a mixture of the channels."""
    scale = float(mix.norm())
    plane = view.luma if mix is view.mix else torch.tensordot(mix, view.colours, 1)
    c = coefficients(blocks_of(plane, *grid).flatten(0, 1)) / scale
    means = torch.stack([_block_means(colour, grid) for colour in view.colours], 1)
    brightness = means @ (mix / scale).square()
    distance_to_ends = torch.minimum(means, 255 - means).amin(1)
    clipped = blocks_of(view.clipped, *grid).flatten(0, 1).double()
    usable = clipped.mean((1, 2)) <= 0.05
    for _ in range(2):
        measured, share = grains(c[usable], steps / scale, brightness[usable])
        if not measured:
            return None
        law = fit_law(measured)
        # Nearer to 0 or 255, clipping took some of the noise.
        usable &= distance_to_ends > 2 * math.sqrt(law.at(128))
    return law, _confidence_in_noise(measured, law, share)


def _block_means(plane: Tensor, grid: tuple[int, int]) -> Tensor:
    return blocks_of(plane, *grid).mean((2, 3)).flatten()


def _confidence_in_noise(measured: list[Grain], law: Law, share: float) -> float:
    """How much the grains of a share of the bins look like noise and not like texture."""
    weights = [grain.weight for grain in measured]
    white = weighted_mean([grain.white for grain in measured], weights)
    tails = weighted_mean([grain.tails for grain in measured], weights)
    bands = weighted_mean([grain.bands for grain in measured], weights)
    doubt = 1 - white + max(0.0, tails - 1) / 2 + law.spread
    return share * min(1.0, bands / 2) * math.exp(-doubt) * _confidence(sum(weights), 200)


def _enlargement(view: _View, size: tuple[int, int], compressed: bool) -> list[_Evidence]:
    """Find an enlargement of the whole picture, as the distances between its lines show it."""
    if _repeats_lines(view.luma):
        why = "lines of pixels are repeated: enlarged by nearest, or drawn so"
        return [_Evidence(None, Finding("", 1.0, why))]
    estimate = lattice(view.luma, compressed)
    if estimate is None or estimate.factor < _LEAST_FACTOR:
        return []
    least_contrast, least_margin = 0.1, 3.2
    if compressed or min(size) < _FEW_LINES:
        least_contrast, least_margin = 0.25, 4
    if estimate.contrast < least_contrast / 2 or estimate.margin < least_margin / 2:
        return []
    is_clear = estimate.contrast >= least_contrast and estimate.margin >= least_margin
    factor = f"{estimate.factor:.2f}"
    confidence = _confidence(estimate.margin, 3)
    height = max(1, round(size[0] / estimate.factor))
    width = max(1, round(size[1] / estimate.factor))
    try:
        chain = Resize((height, width)) >> Resize(size, filter=estimate.filter)
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
    rows = plane[plane.var(1, correction=0) > 1]
    if len(rows) < 16:
        return False
    repeated = (rows.diff(dim=0) == 0).all(1)
    return float(repeated.double().mean()) >= 0.2


def _confidence(evidence: float, scale: float) -> float:
    """From 0 without evidence to 1; `scale` is the evidence that gives 1 - 1/e."""
    return round(1 - math.exp(-evidence / scale), 3)


def _clipped_share(displayed: numpy.ndarray) -> float:
    """The share of clipped pixels in areas of at least 3×3; noise also clips single pixels."""
    if min(displayed.shape[:2]) < 3:
        return 0.0
    clipped = ((displayed == 0) | (displayed == 255)).any(2)
    mask = torch.from_numpy(clipped)[None].float()
    eroded = -functional.max_pool2d(-mask, 3, 1)
    opened = functional.max_pool2d(functional.pad(eroded, (2, 2, 2, 2)), 3, 1)
    return round(float(opened.mean()), 4)
