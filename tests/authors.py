"""The arithmetic of published degradations, restated in numpy, scipy, torch and Pillow.

Images are float64 [H, W, 3] in [0, 1], RGB. Nothing here uses degrade. Each function takes what its
authors draw as arguments.
"""

import io
import math

import numpy
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import fft, ndimage, special

TORCH_MODES = {"torch-area": "area", "torch-bilinear": "bilinear", "torch-bicubic": "bicubic"}


def bivariate_kernel(kind, side, sigma_x, sigma_y, theta, beta):
    """BasicSR's kernels by their inverse covariance matrix; rows grow downwards."""
    turn = numpy.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    covariance = turn @ numpy.diag([sigma_x**2, sigma_y**2]) @ turn.T
    inverse = numpy.linalg.inv(covariance)
    position = numpy.arange(side) - side // 2
    points = numpy.stack(numpy.meshgrid(position, position), -1)
    q = numpy.einsum("yxi,ij,yxj->yx", points, inverse, points)
    kernel = numpy.exp(-(q**beta) / 2) if kind == "gaussian" else 1 / (1 + q**beta)
    return kernel / kernel.sum()


def sinc_kernel(cutoff, side):
    """BasicSR's circular_lowpass_kernel."""
    position = numpy.arange(side) - side // 2
    r = numpy.hypot(position[:, None], position)
    r[side // 2, side // 2] = 1
    kernel = cutoff * special.j1(cutoff * r) / (2 * numpy.pi * r)
    kernel[side // 2, side // 2] = cutoff**2 / (4 * numpy.pi)
    return kernel / kernel.sum()


def correlate(image, kernel):
    """filter2D of OpenCV and BasicSR: a correlation, edges reflected without repeating them."""
    return ndimage.correlate(image, kernel[:, :, None], mode="mirror")


def convolve(image, kernel):
    """scipy's convolve, as BSRGAN calls it."""
    return ndimage.convolve(image, kernel[:, :, None], mode="mirror")


def interpolate(image, mode, **size_or_scale):
    """torch's interpolate; its bilinear and bicubic are also OpenCV's."""
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    result = F.interpolate(planes, mode=TORCH_MODES[mode], **size_or_scale)
    return result[0].permute(1, 2, 0).numpy()


def area_shrinking(size, out):
    """OpenCV's area for shrinking: the mean over each cell, on a raster of exact fractions."""
    matrix = numpy.zeros((out, size))
    for cell in range(out):
        for fine in range(cell * size, (cell + 1) * size):  # out fine pixels in each pixel
            matrix[cell, fine // out] += 1 / size
    return matrix


def area_enlarging(size, out):
    """OpenCV's area where a side grows: in doubles, and the share in float32."""
    matrix = numpy.zeros((out, size))
    growth = out / size
    for i in range(out):
        first = math.floor(i * (1 / growth))
        share = float(numpy.float32((i + 1) - (first + 1) * growth))
        share = 0.0 if share <= 0 else share - math.floor(share)
        if first >= size - 1:
            first, share = size - 1, 0.0
        matrix[i, first] += 1 - share
        matrix[i, min(first + 1, size - 1)] += share
    return matrix


def cv2_resize(image, size, filter):
    """cv2.resize with INTER_LINEAR, INTER_CUBIC or INTER_AREA."""
    if filter != "cv2-area":
        return interpolate(image, filter, size=size)
    (height, width), (out_height, out_width) = image.shape[:2], size
    shrinks = height >= out_height and width >= out_width
    law = area_shrinking if shrinks else area_enlarging
    rows, columns = law(height, out_height), law(width, out_width)
    return numpy.einsum("iy,yxc,jx->ijc", rows, image, columns)


def matlab_row(values, scale):
    """MATLAB's imresize of a row of pixels [N, …]: bicubic, antialiased, mirrored edges."""

    def cubic(t):
        t = abs(t)
        if t <= 1:
            return 1.5 * t**3 - 2.5 * t**2 + 1
        return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t <= 2 else 0.0

    size = len(values)
    mirrored = [*range(size), *reversed(range(size))]
    shrink = min(scale, 1.0)
    result = []
    for i in range(1, math.ceil(size * scale) + 1):
        centre = i / scale + 0.5 * (1 - 1 / scale)  # counted from 1
        width = 4 / shrink
        left = math.floor(centre - width / 2)
        total, weights = 0.0, 0.0
        for pixel in range(left, left + math.ceil(width) + 2):
            weight = shrink * cubic(shrink * (centre - pixel))
            total = total + weight * values[mirrored[(pixel - 1) % (2 * size)]]
            weights += weight
        result.append(total / weights)
    return numpy.array(result)


def imresize(image, scale):
    """imresize_np of BSRGAN and KAIR."""
    rows = matlab_row(image, scale)
    return matlab_row(rows.swapaxes(0, 1), scale).swapaxes(0, 1)


def usm(image):
    """USMSharp of BasicSR with its constants: a Gaussian of 51 pixels with sigma 8."""
    kernel = bivariate_kernel("gaussian", 51, 8, 8, 0, 1)
    residual = image - correlate(image, kernel)
    soft_mask = correlate((abs(residual) * 255 > 10).astype(float), kernel)
    sharp = numpy.clip(image + 0.5 * residual, 0, 1)
    return soft_mask * sharp + (1 - soft_mask) * image


def level_count_noise(image, scale, gray, counted):
    """add_poisson_noise of BasicSR (torch). counted: rate → the counts that were drawn."""
    source = image
    if gray:
        source = (image @ [0.2989, 0.587, 0.114])[:, :, None]
    levels = numpy.clip((source * 255).round(), 0, 255) / 255
    peak = 2 ** math.ceil(math.log2(len(numpy.unique(levels))))
    noise = counted(levels * peak) / peak - levels
    return image + scale * noise


LUMA_TABLE = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100
103 99
"""
CHROMA_TABLE = "17 18 24 47 18 21 26 66 24 26 56 99 47 66 99 99"


def diffjpeg(image, quality):
    """DiffJPEG with rounded coefficients, block by block; its luma table lies transposed."""
    height, width = image.shape[:2]
    factor = (5000 / quality if quality < 50 else 200 - 2 * quality) / 100
    luma_table = numpy.array(LUMA_TABLE.split(), float).reshape(8, 8).T * factor
    chroma_table = numpy.full((8, 8), 99.0)
    chroma_table[:4, :4] = numpy.array(CHROMA_TABLE.split(), float).reshape(4, 4)
    chroma_table *= factor
    padded = numpy.pad(image * 255, ((0, -height % 16), (0, -width % 16), (0, 0)))
    red, green, blue = numpy.moveaxis(padded, 2, 0)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    cb = -0.168736 * red - 0.331264 * green + 0.5 * blue + 128
    cr = 0.5 * red - 0.418688 * green - 0.081312 * blue + 128
    y = _through_table(y, luma_table)
    cb, cr = (_through_table(_halved(plane), chroma_table) - 128 for plane in (cb, cr))
    cb, cr = (plane.repeat(2, 0).repeat(2, 1) for plane in (cb, cr))
    rgb = [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]
    return numpy.clip(numpy.stack(rgb, 2)[:height, :width], 0, 255) / 255


def _halved(plane):
    return (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4


def _through_table(plane, table):
    result = numpy.empty_like(plane)
    for top in range(0, len(plane), 8):
        for left in range(0, plane.shape[1], 8):
            block = plane[top : top + 8, left : left + 8] - 128
            coefficients = fft.dctn(block, norm="ortho")
            rounded = numpy.round(coefficients / table) * table
            result[top : top + 8, left : left + 8] = fft.idctn(rounded, norm="ortho") + 128
    return result


def jpeg(image, quality):
    """cv2.imencode and imdecode: libjpeg with 4:2:0 on pixels rounded to 8 bits, by Pillow."""
    pixels = numpy.clip(image * 255, 0, 255).round().astype(numpy.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file) as decoded:
        return numpy.asarray(decoded, dtype=numpy.float64) / 255


def shifted_gaussian(sigma, factor):
    """fspecial's Gaussian of 25 pixels, moved to the upper left by BSRGAN's shift_pixel."""
    kernel = bivariate_kernel("gaussian", 25, sigma, sigma, 0, 1)
    at = numpy.clip(numpy.arange(25) + (factor - 1) / 2, 0, 24)
    moved = numpy.empty_like(kernel)
    for row in range(25):
        for column in range(25):
            place = [[at[row]], [at[column]]]
            moved[row, column] = ndimage.map_coordinates(kernel, place, order=1)[0]
    return moved / moved.sum()


def color_change(name, image, amount):
    """torchvision's adjust_brightness, adjust_contrast and adjust_saturation."""
    luma = (image @ [0.2989, 0.587, 0.114])[:, :, None]
    other = {"brightness": 0 * image, "contrast": luma.mean(), "saturation": luma}[name]
    return numpy.clip(amount * image + (1 - amount) * other, 0, 1)


def hue_change(image, turn):
    """torchvision's adjust_hue, pixel by pixel with the standard library's HSV."""
    import colorsys

    result = numpy.empty_like(image)
    for place in numpy.ndindex(image.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[place])
        result[place] = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
    return numpy.clip(result, 0, 1)
