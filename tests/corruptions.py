"""ImageNet-C's corruptions, restated in numpy, scipy and Pillow.

Images are float64 [H, W, 3] in [0, 1], RGB, with values k/255. Nothing here uses degrade. Each
function takes what its authors draw as arguments, and returns the values before they are made
whole levels from 0 to 255, in units of [0, 1].
"""

import colorsys
import heapq
import io
import math

import numpy
from PIL import Image
from scipy import ndimage


def whole(image):
    """Levels as numpy.uint8 makes them."""
    return numpy.floor(image * 255 + 1e-5)


def smooth(image, sigma, truncate=4, mode="nearest"):
    """skimage.filters.gaussian, channel by channel."""
    sigmas = (sigma, sigma, 0)[: image.ndim]
    return ndimage.gaussian_filter(image, sigmas, mode=mode, truncate=truncate)


def glass_blur(image, sigma, delta, offsets):
    """offsets: [passes, (right, down), H, W] in -delta … delta - 1."""
    levels = whole(smooth(image, sigma))
    height, width = levels.shape[:2]
    for right, down in offsets:
        for h in range(height - delta, delta, -1):
            for w in range(width - delta, delta, -1):
                levels[h, w] = levels[h + down[h, w], w + right[h, w]]
    return smooth(levels / 255, sigma)


def defocus_blur(image, radius, sigma):
    reach = max(8, radius)
    x = numpy.arange(-reach, reach + 1)
    disc = (x[:, None] ** 2 + x**2 <= radius**2).astype(float)
    taps = numpy.arange(-1, 2) if radius <= 8 else numpy.arange(-2, 3)
    bell = numpy.exp(-(taps**2) / (2 * sigma**2))
    bell /= bell.sum()
    kernel = disc / disc.sum()
    for axis in (0, 1):
        kernel = ndimage.correlate1d(kernel, bell, axis, mode="mirror")
    return ndimage.correlate(image, kernel[:, :, None], mode="mirror")


def trail(plane, length, sigma, angle):
    """ImageMagick's motion blur of levels, which it makes whole by way of 16 bits."""
    weights = numpy.exp(-(numpy.arange(length) ** 2) / (2 * sigma**2))
    padded = numpy.pad(plane, [(length, length)] * 2 + [(0, 0)] * (plane.ndim - 2), mode="edge")
    height, width = plane.shape[:2]
    total = 0
    for i, weight in enumerate(weights / weights.sum()):
        down = length + math.ceil(i * math.sin(math.radians(angle)) - 0.5)
        right = length + math.ceil(i * math.cos(math.radians(angle)) - 0.5)
        total = total + weight * padded[down : down + height, right : right + width]
    return numpy.round(total * 257) // 257


def clipped_zoom(image, factor):
    side = len(image)
    kept = math.ceil(side / factor)
    top = (side - kept) // 2
    part = image[top : top + kept, top : top + kept]
    factors = (factor, factor, 1)[: image.ndim]
    large = ndimage.zoom(part, factors, order=1)
    first = (len(large) - side) // 2
    return large[first : first + side, first : first + side]


def zoom_blur(image, first_excluded, step):
    """first_excluded: where numpy's arange ends, as the authors write it."""
    factors = numpy.arange(1, first_excluded, step)
    total = image + sum(clipped_zoom(image, factor) for factor in factors)
    return total / (len(factors) + 1)


def plasma(side, decay, draw):
    """The diamond-square algorithm point by point. draw: n → [n, n] of U[0, 1)."""
    heights = {(0, 0): 0.0}
    step, steepness = side, 100.0
    while step >= 2:
        half, count = step // 2, side // step
        for rows, columns, steps in [
            (half, half, [(-half, -half), (-half, half), (half, -half), (half, half)]),
            (0, half, [(-half, 0), (half, 0), (0, -half), (0, half)]),
            (half, 0, [(-half, 0), (half, 0), (0, -half), (0, half)]),
        ]:
            noise = draw(count)
            for i in range(count):
                for j in range(count):
                    y, x = rows + i * step, columns + j * step
                    around = [heights[(y + dy) % side, (x + dx) % side] for dy, dx in steps]
                    wobble = steepness * (2 * noise[i, j] - 1) * steepness
                    heights[y, x] = sum(around) / 4 + wobble
        step //= 2
        steepness /= decay
    result = numpy.array([[heights[y, x] for x in range(side)] for y in range(side)])
    result -= result.min()
    return result / result.max()


def fog(image, amount, decay, draw):
    side = 2 ** math.ceil(math.log2(len(image)))
    clouds = plasma(side, decay, draw)[: len(image), : len(image)]
    return (image + amount * clouds[:, :, None]) * image.max() / (image.max() + amount)


def snow(image, constants, normal, angle):
    """normal: N(0, 1) [H, W]. angle: of the fall, in ImageMagick's sense."""
    mean, deviation, factor, threshold, radius, sigma, keep = constants
    flakes = clipped_zoom(mean + deviation * normal, factor)
    flakes[flakes < threshold] = 0
    flakes = trail(whole(numpy.clip(flakes, 0, 1)), 2 * radius + 1, sigma, angle) / 255
    luma = (image @ [0.299, 0.587, 0.114])[:, :, None]
    image = keep * image + (1 - keep) * numpy.maximum(image, luma * 1.5 + 0.5)
    return image + flakes[:, :, None] + numpy.rot90(flakes, 2)[:, :, None]


def spatter(image, constants, normal):
    mean, deviation, sigma, threshold, amount, is_mud = constants
    liquid = smooth(mean + deviation * normal, sigma)
    if is_mud:
        drops = smooth((liquid > threshold).astype(float), amount)
        drops[drops < 0.8] = 0
        color = numpy.array([63, 42, 20]) / 255
        return image * (1 - drops[:, :, None]) + drops[:, :, None] * color
    levels = numpy.floor(numpy.where(liquid < threshold, 0, liquid) * 255)
    distance = numpy.minimum(chamfer(canny(levels, 50, 150)), 20)
    box = numpy.full((3, 3), 1 / 9)
    relief = equalized(whole(ndimage.correlate(distance, box, mode="mirror") / 255))
    emboss = numpy.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    light = numpy.clip(ndimage.correlate(relief, emboss, mode="mirror"), 0, 255)
    light = numpy.round(ndimage.correlate(light, box, mode="mirror")) * levels
    drops = amount * light / light.max()
    return image + drops[:, :, None] * numpy.array([175, 238, 238]) / 255


def canny(levels, low, high):
    """Edges by the angle of the gradient, in sectors of 45°."""
    dx = ndimage.sobel(levels, 1, mode="nearest")
    dy = ndimage.sobel(levels, 0, mode="nearest")
    strength = numpy.pad(abs(dx) + abs(dy), 1)
    candidates = numpy.zeros(levels.shape, bool)
    for y, x in zip(*numpy.nonzero(strength[1:-1, 1:-1] > low), strict=True):
        angle = math.degrees(math.atan2(dy[y, x], dx[y, x])) % 180
        sector = round(angle / 45) % 4
        down, right = [(0, 1), (1, 1), (1, 0), (1, -1)][sector]
        here = strength[y + 1, x + 1]
        before = strength[y + 1 - down, x + 1 - right]
        after = strength[y + 1 + down, x + 1 + right]
        wins_ties = sector in (0, 2)  # over the pixel to the right or below
        candidates[y, x] = here > before and (here >= after if wins_ties else here > after)
    groups, _ = ndimage.label(candidates, numpy.ones((3, 3)))
    strong = set(groups[candidates & (strength[1:-1, 1:-1] > high)])
    return numpy.isin(groups, sorted(strong)) & candidates


def chamfer(marked):
    """Shortest paths to marked pixels by OpenCV's 16 steps, with a queue."""
    lengths = numpy.full(marked.shape, numpy.float32(1000))
    lengths[marked] = 0
    queue = [(numpy.float32(0), y, x) for y, x in zip(*numpy.nonzero(marked), strict=True)]
    steps = [(y, x) for y in range(-2, 3) for x in range(-2, 3) if math.gcd(y, x) == 1]
    costs = {1: 1.0, 2: 1.4, 5: 2.1969}
    while queue:
        length, y, x = heapq.heappop(queue)
        for dy, dx in steps:
            place = y + dy, x + dx
            further = length + numpy.float32(costs[dy * dy + dx * dx])
            inside = 0 <= place[0] < marked.shape[0] and 0 <= place[1] < marked.shape[1]
            if inside and further < lengths[place]:
                lengths[place] = further
                heapq.heappush(queue, (further, *place))
    return lengths.astype(float)


def equalized(levels):
    """cv2.equalizeHist."""
    values, counts = numpy.unique(levels, return_counts=True)
    scale = numpy.float32(255 / (levels.size - counts[0]))
    above = numpy.cumsum(counts) - counts[0]
    new = numpy.round((above * scale).astype(numpy.float32))
    return new[numpy.searchsorted(values, levels)].astype(float)


def elastic_transform(image, constants, moves, fields):
    """moves: U[-jitter, jitter) [3, (x, y)]. fields: two of U[-1, 1) [H, W], right and down."""
    strength, sigma, _ = constants
    side = len(image)
    centre, arm = side // 2, side // 3
    points = centre + numpy.array([[arm, arm], [arm, -arm], [-arm, -arm]], float)
    with_one = numpy.column_stack([points, numpy.ones(3)])
    matrix = numpy.linalg.solve(with_one, points + moves).T  # (x, y, 1) → (x, y)
    back = numpy.linalg.inv(numpy.vstack([matrix, [0, 0, 1]]))
    y, x = numpy.indices((side, side), dtype=float)
    source_x, source_y, _ = numpy.tensordot(back, [x, y, numpy.ones_like(x)], 1)
    jittered = _sampled(image, source_y, source_x, "mirror")
    right, down = (smooth(field, sigma, 3, "reflect") * strength for field in fields)
    return _sampled(jittered, y + down, x + right, "reflect")


def _sampled(image, rows, columns, mode):
    planes = [
        ndimage.map_coordinates(plane, [rows, columns], order=1, mode=mode)
        for plane in numpy.moveaxis(image, 2, 0)
    ]
    return numpy.stack(planes, 2)


def hsv(image, change):
    """change: (hue, saturation, value) → the same."""
    result = numpy.empty_like(image)
    for place in numpy.ndindex(image.shape[:2]):
        result[place] = colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*image[place])))
    return result


def brightness(image, amount):
    return hsv(image, lambda h, s, v: (h, s, min(v + amount, 1)))


def saturate(image, factor, amount):
    return hsv(image, lambda h, s, v: (h, min(max(s * factor + amount, 0), 1), v))


def contrast(image, factor):
    means = image.mean((0, 1))
    return (image - means) * factor + means


def pixelate(image, factor):
    picture = Image.fromarray(whole(image).astype(numpy.uint8))
    small = picture.resize((int(picture.width * factor), int(picture.height * factor)), Image.BOX)
    return numpy.asarray(small.resize(picture.size, Image.BOX)) / 255


def jpeg_compression(image, quality):
    file = io.BytesIO()
    Image.fromarray(whole(image).astype(numpy.uint8)).save(file, "JPEG", quality=quality)
    with Image.open(file) as decoded:
        return numpy.asarray(decoded) / 255
