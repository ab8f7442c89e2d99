"""Test the size of JPEG files, its estimate, and the gradient of the estimate."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from degrade import jpeg_bytes, jpeg_size
from degrade.jpeg.header import STANDARD, ZIGZAG
from degrade.jpeg.layout import SAMPLINGS
from degrade.jpeg.rate import estimated_bits

from .conftest import cases, picture, rng
from .jpeg_reference import KINDS, Stages, content, decode, encode, one

pytestmark = pytest.mark.usefixtures("model_of_jpeg")

ASTRONAUT = Path(__file__).parent.parent / "examples" / "photos" / "astronaut.jpg"


@pytest.fixture(scope="module")
def photo():
    """A photo that was not used to fit the estimate, [1, 3, 256, 256].

    It is reduced, since its file is a JPEG: on the grid of an earlier JPEG the estimate is worse.
    """
    photo = decode(ASTRONAUT.read_bytes())[None] / 255
    return torch.nn.functional.avg_pool2d(photo, 2)


@cases(60)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 50),
    st.integers(1, 50),
    st.sampled_from([1, 3]),
    st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    st.integers(1, 100),
    st.integers(0, 99),
)
def test_jpeg_size_is_that_of_pillows_file(kind, height, width, channels, sampling, quality, seed):
    x = content(kind, height, width, channels, seed)
    pixels = (x[0] * 255).round().byte()
    expected = len(encode(pixels, sampling, quality=quality))
    assert jpeg_size(x, quality, sampling).tolist() == [expected]


def test_jpeg_size_per_image_is_that_of_the_files():
    x = torch.cat([content("picture", 30, 41, 3, 1), content("noise", 30, 41, 3, 2)])
    sizes = jpeg_size(x, [20, 80])
    assert sizes.tolist() == [len(file) for file in jpeg_bytes(x, [20, 80])]


QUALITIES = (10, 20, 35, 50, 65, 75, 85, 90, 95)


def error_of_estimate(x, quality, sampling="4:2:0"):
    estimate = jpeg_size(x, quality, sampling, exact=False)
    return (estimate / jpeg_size(x, quality, sampling) - 1).abs().item()


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", QUALITIES)
def test_estimate_is_within_1_percent_on_a_photo(photo, quality, sampling):
    assert error_of_estimate(photo, quality, sampling) < 0.01


def test_estimate_is_within_1_percent_on_grayscale(photo):
    """In the mean over qualities."""
    errors = [error_of_estimate(photo[:, :1], quality) for quality in QUALITIES]
    assert sum(errors) / len(errors) < 0.01


@pytest.mark.parametrize("count, largest", [(1, 99), (2, 99), (3, 99), (2, 900), (3, 900)])
@pytest.mark.parametrize("channels", [1, 3])
def test_estimate_counts_the_header(count, largest, channels):
    """A flat image has 6 bits per luma block and 4 per chroma block, and its first DC."""
    tables = torch.full((count, 8, 8), largest)
    x = torch.full((1, channels, 320, 320), 128 / 255)
    exact = jpeg_size(x, tables=tables, subsampling="4:4:4")
    estimate = jpeg_size(x, tables=tables, subsampling="4:4:4", exact=False)
    assert (exact - estimate).abs() < 2


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_estimate_counts_blocks_that_fill_mcus(sampling):
    """A flat image of odd numbers of blocks: all bits but a few are those of blocks' ends."""
    x = torch.full((1, 3, 8 * 31, 8 * 33), 128 / 255)
    exact = jpeg_size(x, 50, sampling)
    assert (exact - jpeg_size(x, 50, sampling, exact=False)).abs() < 2


@pytest.mark.parametrize("is_luma", [True, False])
@pytest.mark.parametrize("blocks_of_mcu", [(1, 1), (2, 2), (1, 2)])
def test_estimated_bits_have_their_gradient(is_luma, blocks_of_mcu):
    x = 2 * torch.randn(2, 2, 3, 64, generator=rng(0), dtype=torch.float64)
    x.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: estimated_bits(x, blocks_of_mcu, is_luma), x, fast_mode=True
    )


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_size_gradient_is_that_of_the_linear_stages(sampling, channels):
    """Against another program of the same stages, which autograd differentiates."""
    x = content("picture", 29, 37, channels, 6).double().requires_grad_()
    tables = (STANDARD[[0, 1, 1]][None, :channels]).double()
    size = jpeg_size(x, tables=tables, subsampling=sampling)
    gradient = torch.autograd.grad(size.sum(), x)[0]
    assert torch.allclose(gradient, gradient_by_reference(x, tables, sampling), atol=1e-6)


class Spectra(Stages):
    """Keep the coefficients in steps of each component, before they are rounded."""

    def _quantise(self, t, i):
        self.spectra.append(t)
        return t


def gradient_by_reference(x, tables, sampling):
    stages = Spectra(tables, sampling, (one,) * 3)
    stages.spectra = []
    stages.values(x.detach())
    spectra = [t.detach().requires_grad_() for t in stages.spectra]
    size = 0
    for i, t in enumerate(spectra):
        blocks = t.permute(0, 1, 3, 2, 4).flatten(3)  # b i v j u
        is_luma = i == 0
        across, down = SAMPLINGS[sampling] if is_luma and len(spectra) == 3 else (1, 1)
        size = size + estimated_bits(blocks[..., ZIGZAG], (across, down), is_luma).sum() / 8
    gradients = torch.autograd.grad(size, spectra)
    stages.spectra = []
    stages.linear(255 * x)
    products = [(t * g).sum() for t, g in zip(stages.spectra, gradients, strict=True)]
    return torch.autograd.grad(sum(products), x)[0]


def test_jpeg_size_gradient_predicts_smaller_files(photo):
    """Steps against the gradient shrink the real files faster than blur of the same size."""
    x = photo[..., :128, :128]
    variable = x.clone().requires_grad_()
    size = jpeg_size(variable, 75)
    gradient = torch.autograd.grad(size.sum(), variable)[0]
    step = 0.5 / 255 * gradient / gradient.square().mean().sqrt()
    smaller = jpeg_size((x - step).clamp(0, 1), 75)
    larger = jpeg_size((x + step).clamp(0, 1), 75)
    assert smaller < 0.98 * size
    assert larger > 1.02 * size


@pytest.mark.parametrize("quality", [20, 50, 80])
def test_jpeg_size_gradient_to_quality_is_the_slope(photo, quality):
    variable = torch.full((1,), float(quality), requires_grad=True)
    gradient = torch.autograd.grad(jpeg_size(photo, variable).sum(), variable)[0]
    higher = jpeg_size(photo, quality + 4)
    lower = jpeg_size(photo, quality - 4)
    slope = (higher - lower) / 8
    assert torch.allclose(gradient, slope, rtol=0.2)


def test_jpeg_size_gradient_to_tables_is_the_slope(photo):
    tables = STANDARD.float()[None].clone() / 2
    tables = tables.round().requires_grad_()
    gradient = torch.autograd.grad(jpeg_size(photo, tables=tables).sum(), tables)[0]
    for table, row, column in ((0, 0, 1), (0, 2, 2), (1, 1, 0), (0, 0, 0)):
        change = torch.zeros_like(tables)
        change[:, table, row, column] = 2
        difference = jpeg_size(photo, tables=tables + change)
        difference = difference - jpeg_size(photo, tables=tables - change)
        slope = difference.sum() / 4
        assert torch.allclose(gradient[:, table, row, column].sum(), slope, rtol=0.25)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_jpeg_size_under_torch_func(sampling, exact):
    x = torch.cat([content("picture", 20, 31, 3, 1), content("noise", 20, 31, 3, 2)])
    quality = torch.tensor([20.0, 80.0])
    variables = (x.clone().requires_grad_(), quality.clone().requires_grad_())
    sizes = jpeg_size(*variables, sampling, exact=exact)
    expected = torch.autograd.grad(sizes.sum(), variables)

    def size(image, quality):
        return jpeg_size(image[None], quality[None], sampling, exact=exact)[0]

    def total(x, quality):
        return jpeg_size(x, quality, sampling, exact=exact).sum()

    assert torch.equal(torch.func.vmap(size)(x, quality), sizes)
    gradients = torch.func.grad(total, (0, 1))(x, quality)
    by_image = torch.func.vmap(torch.func.grad(size, (0, 1)))(x, quality)
    for gradients_of_way in (gradients, by_image):
        for gradient, true in zip(gradients_of_way, expected, strict=True):
            assert torch.allclose(gradient, true, rtol=1e-4, atol=1e-4)


def test_jpeg_size_refuses_forward_mode():
    x = content("picture", 16, 16, 3, 0)
    with pytest.raises(ValueError, match="jpeg_size: it has no forward-mode derivative"):
        torch.func.jvp(jpeg_size, (x,), (x,))


def test_jpeg_size_refuses_second_derivatives():
    x = content("picture", 16, 16, 3, 0).requires_grad_()
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(jpeg_size(x, 50).sum(), x, create_graph=True)
    gradient = torch.func.grad(lambda x: jpeg_size(x, 50).sum())
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.func.grad(lambda x: gradient(x).sum())(x.detach())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_jpeg_size_of_every_dtype(dtype):
    x = picture(3).to(dtype).requires_grad_()
    size = jpeg_size(x, 50)
    size.sum().backward()
    assert size.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert x.grad.dtype == dtype
    assert size.tolist() == [len(jpeg_bytes(x.detach(), 50)[0])]
