import io
import math
import pickle

import numpy
import pytest
import torch
import torch.nn.functional as nn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from degrade import JPEG, Gaussian, Range, jpeg, parse
from degrade.jpeg import CLAMPS, SURROGATES, _exact_dtype
from degrade.jpeg_header import SAMPLINGS, STANDARD
from degrade.jpeg_stages import M

from .conftest import picture, rng

LUMA, CHROMA = (tuple(table.flatten().tolist()) for table in STANDARD)


# What Pillow does ---------------------------------------------------------------------------------


def encode(pixels: torch.Tensor, subsampling: str = "4:2:0", **options) -> bytes:
    """JPEG bytes of uint8 [C, H, W]."""
    array = pixels.permute(1, 2, 0).numpy()
    image = Image.fromarray(array[..., 0] if len(pixels) == 1 else numpy.ascontiguousarray(array))
    file = io.BytesIO()
    image.save(file, "JPEG", subsampling=subsampling, **options)
    return file.getvalue()


def decode(data: bytes) -> torch.Tensor:
    """uint8 [C, H, W]."""
    pixels = torch.from_numpy(numpy.array(Image.open(io.BytesIO(data))))
    return pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels[None]


def codec(x: torch.Tensor, subsampling: str = "4:2:0", **options) -> torch.Tensor:
    """x [B, C, H, W] of k/255 through Pillow."""
    pixels = (x * 255).round().byte()
    return torch.stack([decode(encode(image, subsampling, **options)) for image in pixels]).to(x) / 255


KINDS = ("noise", "gradient", "saturated", "checkerboard", "flat", "smooth", "picture")


def content(kind: str, height: int, width: int, channels: int, seed: int) -> torch.Tensor:
    """uint8 values as [1, C, H, W] of k/255."""
    g, size = rng(seed), (channels, height, width)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    slopes = torch.randint(-9, 10, (2, channels, 1, 1), generator=g)
    cell = 1 + seed % 4
    pixels = {
        "noise": lambda: torch.randint(0, 256, size, generator=g),
        "gradient": lambda: (rows * slopes[0] + columns * slopes[1] + seed) % 256,
        "saturated": lambda: torch.randint(0, 2, size, generator=g) * 255,
        "checkerboard": lambda: (((rows // cell + columns // cell) % 2) * 255).expand(size),
        "flat": lambda: torch.randint(0, 256, (channels, 1, 1), generator=g).expand(size),
        "smooth": lambda: 128 + 127 * torch.sin(rows * slopes[0] / 40 + columns * slopes[1] / 40),
        "picture": lambda: picture(seed % 20)[0, :channels, 9 : 9 + height, 30 : 30 + width] * 255,
    }[kind]()
    return (pixels.float().round() / 255)[None]


# The same stages in float64, differentiated by autograd -------------------------------------------


class Stages:
    """The round trip written with other primitives: `values` as integers, `linear` without rounding.

    `linear` is the Jacobian J at the point where `values` was last called, coefficient c having
    the declared slope `slope(d)` of its distance d to an integer.
    """

    def __init__(self, steps, sampling, slopes):
        self.steps, (self.across, self.down), self.slopes = steps.double(), SAMPLINGS[sampling], slopes

    def values(self, x):
        self.exact, self.kept = True, []
        return self._round_trip((x.double() * 255).round())

    def linear(self, x):
        self.exact, self.todo = False, list(self.kept)
        return self._round_trip(x)

    def _round(self, x, offset):
        return torch.floor(x + offset) if self.exact else x

    def _round_trip(self, x):
        height, width = x.shape[2:]
        if x.shape[1] == 1:
            return self._plane(x[:, 0], 0, 128.0 * self.exact)[:, None, :height, :width]
        r, g, b = x.unbind(1)
        y = self._round((19595 * r + 38470 * g + 7471 * b) / 65536, 0.5)
        cb = self._round((-11059 * r - 21709 * g + 32768 * b) / 65536, 128 * self.exact + 32767 / 65536)
        cr = self._round((32768 * r - 27439 * g - 5329 * b) / 65536, 128 * self.exact + 32767 / 65536)
        y = self._plane(y, 0, 128.0 * self.exact)[:, :height, :width]
        cb, cr = (self._chroma(c, i, height, width) for i, c in ((1, cb), (2, cr)))
        red = y + self._round(91881 * cr / 65536, 0.5)
        green = y + self._round((-22554 * cb - 46802 * cr) / 65536, 0.5)
        return torch.stack([red, green, y + self._round(116130 * cb / 65536, 0.5)], 1)

    def _chroma(self, c, i, height, width):
        rows, columns = math.ceil(height / self.down), math.ceil(width / self.across)
        if self.across == 2:
            full = 16 * math.ceil(columns / 8)
            c = c[:, torch.arange(rows * self.down).clamp(max=height - 1)]
            c = c[:, :, torch.arange(full).clamp(max=width - 1)]
            c = nn.avg_pool2d(c[None], (self.down, 2))[0]
            bias = torch.arange(full // 2) % 2 + self.down - 1
            c = self._round(c, bias / (2 * self.down))
        c = self._plane(c, i, 128.0 * self.exact)[:, :rows, :columns] - 128.0 * self.exact
        if self.across == 2:
            mode = {"mode": "nearest"} if columns <= 2 else {"mode": "bilinear", "align_corners": False}
            c = nn.interpolate(c[None], (rows * self.down, columns * 2), **mode)[0]
            bias = torch.tensor([8, 7] if self.down == 2 else [4, 8]).repeat(columns) / 16
            c = self._round(c, 0 * bias if columns <= 2 else bias)
        return c[:, :height, :width]

    def _plane(self, x, i, level):
        height, width = x.shape[1:]
        x = x[:, torch.arange(8 * math.ceil(height / 8)).clamp(max=height - 1)]
        x = x[:, :, torch.arange(8 * math.ceil(width / 8)).clamp(max=width - 1)] - level
        blocks = x.unflatten(1, (-1, 8)).unflatten(3, (-1, 8))  # b i r j c
        m, q = M.double(), self.steps[:, i].view(-1, 1, 8, 1, 8)
        t = self._round(torch.einsum("uc,birjc->birju", m, blocks) / 2**11, 0.5)
        f = self._round(torch.einsum("vr,birju->bivju", m, t) / 2**15, 0.5)
        c = self._quantise(f / (8 * q), i) * q
        a = self._round(torch.einsum("vr,bivju->birju", m, c) / 2**11, 0.5)
        s = self._round(torch.einsum("uc,birju->birjc", m, a) / 2**18, 0.5)
        s = s.flatten(3, 4).flatten(1, 2) + level
        return s.clamp(0, 255) if self.exact else s

    def _quantise(self, t, i):
        if self.exact:
            k = t.sign() * (t.abs() + 0.5).floor()
            self.kept.append((t, k))
            return k
        then, k = self.todo.pop(0)
        return t * self.slopes[i](then - k)


def cubic(d):
    return 0.2 + 2.4 * d**2


def one(d):
    return torch.ones_like(d)


SLOPES = {"cubic": (cubic,) * 3, "ste": (one,) * 3, "residual": (cubic, one, one)}
SLOPES["identity"] = SLOPES["ste"]  # for tables; the image's gradient never meets them


def clamp_slope(levels, clamp):
    p = levels / 255
    sigmoid = torch.sigmoid(2 * p - 1)
    return {"sigmoid": 2 * sigmoid * (1 - sigmoid), "hard": ((p >= 0) & (p <= 1)).double(), "ste": torch.ones_like(p)}[
        clamp
    ]


def table_of(quality):
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((STANDARD * scale + 50) // 100).clamp(1, 255)[None, [0, 1, 1]]


def expected_gradient(x, g, steps, sampling, surrogate, clamp):
    stages = Stages(steps, sampling, SLOPES[surrogate])
    g = g * clamp_slope(stages.values(x), clamp)
    if surrogate == "residual":
        # an image's gradient treated as an image; chroma is not transformed to coefficients
        stages.steps = torch.ones_like(stages.steps)
        return without_blocks(stages, g)
    x = x.clone().requires_grad_()
    return torch.autograd.grad(stages.linear(x), x, g)[0]


def without_blocks(stages, g):
    plane = stages._plane
    stages._plane = lambda x, i, level: plane(x, i, level) if i == 0 else x
    return stages.linear(g)


def gradient(f, x, g):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x), x, g)[0]


# Values -------------------------------------------------------------------------------------------


@settings(max_examples=400)
@given(
    st.sampled_from(KINDS), st.integers(1, 50), st.integers(1, 50), st.sampled_from([1, 3]),
    st.sampled_from(list(SAMPLINGS)), st.integers(1, 100), st.integers(0, 999),
)  # fmt: skip
@example("noise", 1, 1, 3, "4:2:0", 1, 0)
@example("saturated", 17, 33, 3, "4:2:0", 1, 7)
@example("picture", 50, 50, 3, "4:2:2", 50, 3)
def test_every_pixel_equals_pillow_s(kind, height, width, channels, sampling, quality, seed):
    x = content(kind, height, width, channels, seed)
    assert torch.equal(jpeg(x, quality, sampling), codec(x, sampling, quality=quality))


@pytest.mark.parametrize("channels, sampling", [(1, "4:2:0"), (3, "4:4:4"), (3, "4:2:2"), (3, "4:2:0")])
def test_all_qualities_in_one_call_equal_pillow_s(channels, sampling):
    x = torch.cat([picture(5)[:, :channels, 20:65, 10:47], content("noise", 45, 37, channels, 1)])
    got = jpeg(x.repeat_interleave(100, 0), list(range(1, 101)) * 2, sampling).view(2, 100, channels, 45, 37)
    for quality in range(1, 101):
        assert torch.equal(got[:, quality - 1], codec(x, sampling, quality=quality)), quality


def test_a_large_picture_equals_pillow_s():
    x = nn.interpolate(picture(7), (517, 1033), mode="bicubic").clamp(0, 1).mul(255).round() / 255
    assert torch.equal(jpeg(x, 60), codec(x, quality=60))


@settings(max_examples=60)
@given(
    st.integers(1, 3), st.sampled_from([2, 40, 255, 2000, 8191]), st.sampled_from(list(SAMPLINGS)), st.integers(0, 99)
)
def test_own_tables_equal_pillow_s(count, largest, sampling, seed):
    tables = torch.randint(1, largest + 1, (count, 64), generator=rng(seed)).tolist()
    x = content("picture" if seed % 2 else "noise", 30, 41, 3, seed)
    assert torch.equal(JPEG(tables=tables, subsampling=sampling)(x), codec(x, sampling, qtables=tables))


def test_one_table_serves_grayscale():
    x = content("noise", 20, 20, 1, 0)
    assert torch.equal(JPEG(tables=[LUMA])(x), codec(x, qtables=[LUMA]))


def test_other_input_is_clamped_and_rounded_half_to_even_first():
    x = torch.randn(2, 3, 19, 21, generator=rng()) * 0.5 + 0.5
    x[0, 0, 0, :4] = torch.tensor([0.5, 1.5, 2.5, 3.5]) / 255
    assert torch.equal(jpeg(x, 40), jpeg((x * 255).clamp(0, 255).round() / 255, 40))


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_reduced_precision_of_matrix_products_changes_nothing(precision):
    """Some CPUs would not show it, so the type that the products are made in is looked at as well."""
    x, before = content("noise", 64, 64, 3, 0), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert torch.equal(jpeg(x, 95), codec(x, quality=95))
        assert (_exact_dtype(x.device) == torch.float32) == (precision == "highest")
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_dtype_is_kept_and_only_rounds_the_result(dtype):
    x = content("picture", 24, 31, 3, 2).to(dtype)
    y = jpeg(x, 30)
    assert y.dtype == dtype
    assert torch.equal(y, jpeg((x.float() * 255).round().double() / 255, 30).to(dtype))


def test_memory_layout_and_autocast_change_no_bit():
    x = content("noise", 24, 31, 3, 2).repeat(2, 1, 1, 1)
    y = jpeg(x, 30)
    assert torch.equal(jpeg(x.to(memory_format=torch.channels_last), 30), y)
    assert torch.equal(jpeg(x.mT.contiguous().mT, 30), y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(jpeg(x, 30), y)
        x.requires_grad_()
        inside = torch.autograd.grad(jpeg(x, 30, surrogate="cubic").sum(), x)[0]
    assert torch.equal(inside, torch.autograd.grad(jpeg(x, 30, surrogate="cubic").sum(), x)[0])


def test_the_input_is_not_changed():
    x = torch.rand(1, 3, 16, 16, generator=rng())
    before = x.clone()
    jpeg(x, 10)
    assert torch.equal(x, before)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("clamp", CLAMPS)
def test_no_surrogate_changes_the_values(surrogate, clamp):
    x = content("saturated", 17, 23, 3, 4)
    y = jpeg(x.clone().requires_grad_(), 20, surrogate=surrogate, clamp=clamp)
    assert torch.equal(y, codec(x, quality=20))


# Gradients ----------------------------------------------------------------------------------------

SIZES = [(8, 8), (16, 32), (13, 27), (9, 3), (2, 5), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sampling", [*SAMPLINGS, "gray"])
@pytest.mark.parametrize("surrogate, clamp", [("cubic", "sigmoid"), ("ste", "hard"), ("residual", "ste")])
def test_gradient_equals_the_stages_through_autograd(surrogate, clamp, sampling, size):
    channels, sampling = (1, "4:2:0") if sampling == "gray" else (3, sampling)
    x = torch.rand(2, channels, *size, generator=rng(), dtype=torch.float64) * 1.2 - 0.1
    g = torch.randn(x.shape, generator=rng(1), dtype=torch.float64)
    got = gradient(lambda x: jpeg(x, 35, sampling, surrogate=surrogate, clamp=clamp), x, g)
    want = expected_gradient(x.clamp(0, 1), g, table_of(35), sampling, surrogate, clamp)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("surrogate", ["cubic", "residual"])
def test_every_clamp_has_its_closed_form(surrogate, clamp):
    x = content("saturated", 24, 24, 3, 1).double()
    g = torch.randn(x.shape, generator=rng(1), dtype=torch.float64)
    got = gradient(lambda x: jpeg(x, 5, surrogate=surrogate, clamp=clamp), x, g)
    torch.testing.assert_close(got, expected_gradient(x, g, table_of(5), "4:2:0", surrogate, clamp), rtol=0, atol=1e-9)


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(list(SAMPLINGS)), st.integers(1, 100))
def test_straight_through_gradient_is_the_adjoint_of_the_linear_stages(height, width, sampling, quality):
    x, u, v = torch.rand(3, 1, 3, height, width, generator=rng(), dtype=torch.float64)
    stages = Stages(table_of(quality), sampling, SLOPES["ste"])
    stages.values(x)
    pulled = gradient(lambda x: jpeg(x, quality, sampling, surrogate="ste", clamp="ste"), x, v)
    torch.testing.assert_close((stages.linear(u) * v).sum(), (u * pulled).sum(), rtol=1e-9, atol=1e-9)


def test_identity_passes_the_gradient_as_it_is():
    x, g = torch.rand(2, 1, 3, 10, 11, generator=rng())
    assert torch.equal(gradient(lambda x: jpeg(x, 3, surrogate="identity"), x, g), g)


def test_float32_gradient_is_close_to_float64_s():
    x, g = torch.rand(2, 2, 3, 40, 33, generator=rng())
    for surrogate in SURROGATES:
        f = JPEG(60, surrogate=surrogate)
        torch.testing.assert_close(
            gradient(f, x, g).double(), gradient(f, x.double(), g.double()), rtol=1e-4, atol=1e-5
        )


def test_mixed_qualities_have_the_gradients_of_separate_calls():
    x, g = torch.rand(2, 3, 3, 21, 18, generator=rng(), dtype=torch.float64)
    together = gradient(lambda x: jpeg(x, torch.tensor([5, 50, 95])), x, g)
    for i, quality in enumerate((5, 50, 95)):
        alone = gradient(lambda x, quality=quality: jpeg(x, quality), x[i : i + 1], g[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize(
    "channels, sampling, clamp", [(1, "4:2:0", "ste"), (3, "4:2:0", "sigmoid"), (3, "4:4:4", "hard")]
)
def test_tables_get_the_gradient_of_the_declared_quantiser(channels, sampling, clamp, surrogate):
    x, g = torch.rand(2, 2, channels, 19, 26, generator=rng(), dtype=torch.float64)
    tables = table_of(30)[0].double().requires_grad_()
    y = jpeg(x.requires_grad_(), tables=tables, subsampling=sampling, surrogate=surrogate, clamp=clamp)
    got = torch.autograd.grad(y, tables, g)[0]

    class Trained(Stages):
        """C = K(F/8q)·q as a function of q alone."""

        def _quantise(self, t, i):
            if self.exact:
                return super()._quantise(t, i)
            q = self.steps[:, i].view(-1, 1, 8, 1, 8)
            t, k = self.todo.pop(0)
            return k + self.slopes[i](t - k) * (t * q.detach() / q - t)

    stages = Trained(tables[None], sampling, SLOPES[surrogate])
    with torch.no_grad():
        g = g * clamp_slope(stages.values(x), clamp)
    want = torch.autograd.grad(stages.linear(torch.zeros_like(x)), tables, g / 255)[0]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-9)


def test_tables_and_qualities_of_a_batch_get_their_own_gradients():
    x, g = torch.rand(2, 3, 3, 19, 26, generator=rng(), dtype=torch.float64)
    tables = torch.stack([table_of(q)[0, :2] for q in (20, 60, 90)]).double().requires_grad_()
    quality = torch.tensor([20.0, 60, 90], dtype=torch.float64, requires_grad=True)
    for name, value in (("tables", tables), ("quality", quality)):
        together = torch.autograd.grad(jpeg(x, **{name: value}, surrogate="ste"), value, g)[0]
        for i in range(3):
            y = jpeg(x[i : i + 1], **{name: value[i : i + 1]}, surrogate="ste")
            assert torch.equal(y, jpeg(x[i : i + 1], (20, 60, 90)[i]))
            alone = torch.autograd.grad(y, value, g[i : i + 1])[0]
            torch.testing.assert_close(together[i], alone[i])


@pytest.mark.parametrize("at, slope", [(20, -5000 / 20**2), (70, -2)])  # S = 5000/q below 50, else 200 - 2q
def test_quality_gets_a_gradient_through_the_tables(at, slope):
    x = content("picture", 40, 40, 3, 3).double()
    quality = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    tables = table_of(at)[0, :2].double().requires_grad_()
    y, z = jpeg(x, quality, surrogate="ste"), jpeg(x, tables=tables, surrogate="ste")
    assert torch.equal(y, z)
    to_quality, to_tables = (torch.autograd.grad((v - x).square().sum(), p)[0] for v, p in ((y, quality), (z, tables)))
    slope = STANDARD / 100 * slope * (tables < 255)
    torch.testing.assert_close(to_quality, (to_tables * slope).sum()[None])
    assert to_quality.item() < 0  # a better quality makes a smaller error


def test_a_clamped_table_gives_the_quality_no_gradient():
    x = torch.rand(1, 3, 16, 16, generator=rng(), dtype=torch.float64)
    for at, clamped in ((100.0, True), (99.0, False), (2.0, False), (1.0, True)):  # every entry is 1 at 100, 255 at 1
        quality = torch.tensor([at], dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad((jpeg(x, quality) - x).square().sum(), quality)
        assert (slope == 0) == clamped


def test_learned_parameters_are_rounded_with_or_without_a_gradient():
    x = torch.rand(2, 3, 16, 16, generator=rng())
    quality, tables = torch.tensor([30.4, 69.6]), table_of(30)[:, :2].float() + 0.3
    for q in (quality, quality.clone().requires_grad_(), quality.double(), quality[:, None]):
        assert torch.equal(jpeg(x, q), jpeg(x, (30, 70)))
    for t in (tables, tables.clone().requires_grad_(), table_of(30)[0, :2], table_of(30)[0, :2].flatten(1), tables[0]):
        assert torch.equal(jpeg(x, tables=t), jpeg(x, 30))
    integers = torch.cat([table_of(30), table_of(60)])[:, :2]  # [B, n, 8, 8]
    assert torch.equal(jpeg(x, tables=integers), jpeg(x, (30, 60)))


def test_a_second_derivative_is_refused():
    x = torch.rand(1, 3, 8, 8, generator=rng(), requires_grad=True)
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(jpeg(x, 50).square().sum(), x, create_graph=True)


def test_descent_finds_an_image_with_the_same_jpeg():
    x = picture(3)[:, :, 30:78, 30:78]
    y, z = jpeg(x, 9), torch.full_like(x, 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([z], lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        (jpeg(z, 9) - y).square().sum().backward()
        optimizer.step()
    assert (codec((z.detach().clamp(0, 1) * 255).round() / 255, quality=9) - y).mul(255).square().mean() < 1


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_compiles_without_a_graph_break(surrogate):
    x = torch.rand(2, 3, 20, 24, generator=rng())
    f = torch.compile(lambda x: jpeg(x, 30, surrogate=surrogate), backend="aot_eager", fullgraph=True)
    g = torch.rand(x.shape, generator=rng(1))
    assert torch.equal(f(x), jpeg(x, 30))
    torch.testing.assert_close(gradient(f, x, g), gradient(lambda x: jpeg(x, 30, surrogate=surrogate), x, g))


def test_every_kind_of_parameter_compiles_and_plain_ones_are_checked():
    x = torch.rand(2, 3, 20, 24, generator=rng())
    own = JPEG(tables=(LUMA, CHROMA))
    for f in (own, JPEG((20, 30)), lambda x: jpeg(x, tables=own.tables), lambda x: jpeg(x, torch.tensor([20, 30]))):
        assert torch.equal(torch.compile(f, backend="aot_eager", fullgraph=True)(x), f(x))
    vary = torch.compile(jpeg, backend="aot_eager", fullgraph=True)
    for quality in (20, 21, 22):
        assert torch.equal(vary(x, quality), jpeg(x, quality))
    for quality in (0, 500, 37.5):
        torch._dynamo.reset()
        with pytest.raises(Exception, match="quality="):  # torch wraps the ValueError
            torch.compile(lambda x, q=quality: jpeg(x, q), backend="aot_eager", fullgraph=True)(x)


# The operator -------------------------------------------------------------------------------------

TEXTS = [
    (JPEG(12), "jpeg:12"),
    (JPEG(12, "4:4:4"), "jpeg:12,subsampling=4:4:4"),
    (JPEG((12, 30)), "jpeg:12|30"),
    (JPEG(torch.tensor([12, 30]), surrogate="cubic", clamp="hard"), "jpeg:12|30,surrogate=cubic,clamp=hard"),
    (JPEG(tables=[LUMA]), "jpeg:tables=" + "|".join(map(str, LUMA))),
    (JPEG(tables=(LUMA, CHROMA), subsampling="4:2:2"), None),
]


@pytest.mark.parametrize("f, text", TEXTS)
def test_text_repr_hash_and_pickle_round_trip(f, text):
    assert str(f) == text or text is None
    assert parse(str(f)) == f == eval(repr(f)) == pickle.loads(pickle.dumps(f))
    assert hash(parse(str(f))) == hash(f)
    assert f.approx() is f


def test_keywords_and_places_in_the_text_mean_the_same():
    assert parse("jpeg:quality=12,subsampling=4:2:0") == parse("jpeg:12") == JPEG(12)
    assert (JPEG(12) >> Gaussian(0.1))[0] == JPEG(12)


def test_tables_are_kept_as_tuples_of_64():
    flat, nested, array = [*LUMA, *CHROMA], (LUMA, CHROMA), STANDARD.view(2, 8, 8).numpy()
    assert JPEG(tables=flat).tables == JPEG(tables=nested).tables == JPEG(tables=array).tables == (LUMA, CHROMA)


@pytest.mark.parametrize("text", [
    "jpeg", "jpeg:", "jpeg:0", "jpeg:quality=101", "jpeg:12.5", "jpeg:high", "jpeg:12,4:1:1",
    "jpeg:12,surrogate=best", "jpeg:12,clamp=soft", "jpeg:tables=1|2|3", "jpeg:12,tables=" + "|".join(["1"] * 64),
    "jpeg:tables=" + "|".join(["0"] * 64), "jpeg:tables=" + "|".join(["1.5"] * 64), "jpeg:tables=abc",
])  # fmt: skip
def test_a_wrong_text_is_refused(text):
    with pytest.raises(ValueError, match="jpeg"):
        parse(text)


@pytest.mark.parametrize("arguments, message", [
    ({"quality": 0}, "quality=0"), ({"quality": 37.5}, "quality=37.5"), ({"quality": [9, 9, 9]}, "3 values for 2"),
    ({"subsampling": "4:1:1"}, "4:4:4, 4:2:2, 4:2:0"), ({"surrogate": "none"}, "residual"),
    ({"clamp": "none"}, "sigmoid"), ({"quality": 9, "tables": (LUMA,)}, "exclude"),
    ({"tables": torch.ones(65)}, "[n, 8, 8]"), ({"tables": torch.ones(0, 8, 8)}, "[n, 8, 8]"),
    ({"tables": torch.full((1, 8, 8), math.nan)}, "from 1 to 32767"), ({"tables": torch.zeros(1, 8, 8)}, "from 1 to"),
    ({"tables": torch.full((1, 8, 8), 32768.0)}, "from 1 to"), ({"tables": torch.ones(3, 1, 8, 8)}, "3 values for 2"),
    ({"tables": [[40000] * 64]}, "40000"), ({"quality": torch.tensor(101)}, "from 1 to 100"),
    ({"quality": torch.tensor(0.4)}, "from 1 to 100"), ({"quality": torch.tensor([True])}, "torch.bool"),
    ({"quality": True}, "quality=True"), ({"quality": "75"}, "quality='75'"), ({"quality": 10**30}, "quality=1000"),
    ({"quality": [[1, 2], [3]]}, "quality=[[1, 2], [3]]"), ({"quality": 50 + 0j}, "quality=(50+0j)"),
    ({"quality": Range(5, 9)}, "quality=5..9"), ({"subsampling": ["4:2:0"]}, "subsampling=['4:2:0']"),
])  # fmt: skip
def test_a_wrong_argument_is_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        jpeg(torch.rand(2, 3, 8, 8), **arguments)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_are_refused(channels):
    with pytest.raises(ValueError, match=f"{channels} channels"):
        JPEG(50)(torch.rand(1, channels, 8, 8))
