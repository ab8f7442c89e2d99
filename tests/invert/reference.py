"""A second implementation of StyleGAN2 and 3, from the papers' formulas, with scipy in float64.

It computes one image at a time, and is slow because it is kept simple: scipy.signal computes every
filter and convolution. `s` holds the tensors of a network by their names.
"""

import numpy as np
from scipy import signal


def _np(tensor):
    return tensor.detach().double().numpy()


def _linear(s, name, x, lr=1.0):
    w = s[f"{name}.weight"]
    return x @ (w * lr / np.sqrt(w.shape[1])).T + s[f"{name}.bias"] * lr


def _lrelu(x):
    return np.where(x > 0, x, 0.2 * x) * np.sqrt(2)


def _unit(x):
    return x / np.sqrt((x**2).mean() + 1e-8)


def mapping(state, z, label=None, lr=0.01):
    """z [z_dim], one-hot label [c_dim] → w."""
    s = {k: _np(v) for k, v in state.items()}
    x = _unit(_np(z))
    if label is not None:
        label = _np(label)
        if "mapping.embed_proj.weight" in s:
            y = _lrelu(_linear(s, "mapping.embed_proj", s["mapping.embed.weight"][label.argmax()]))
        else:
            y = _linear(s, "mapping.embed", label)
        x = np.concatenate([x, _unit(y)])
    i = 0
    while f"mapping.fc{i}.weight" in s:
        x = _lrelu(_linear(s, f"mapping.fc{i}", x, lr))
        i += 1
    return x


def _convolve(x, w):
    """x [I, H, W] with w [O, I, k, k], all of the overlap ("full")."""
    return np.stack(
        [sum(signal.correlate2d(c, k, "full") for c, k in zip(x, row, strict=True)) for row in w]
    )


def _filtered(x, kernel, up, down, pad):
    """Insert zeros, pad or crop [left, right, top, bottom], convolve in 2-D, decimate."""
    gained = kernel * up**2
    out = []
    for channel in x:
        wide = np.zeros([n * up for n in channel.shape])
        wide[::up, ::up] = channel
        padded = np.pad(wide, [(max(pad[2], 0), max(pad[3], 0)), (max(pad[0], 0), max(pad[1], 0))])
        rows = slice(max(-pad[2], 0), padded.shape[0] - max(-pad[3], 0))
        cols = slice(max(-pad[0], 0), padded.shape[1] - max(-pad[1], 0))
        out.append(signal.convolve2d(padded[rows, cols], gained, "valid")[::down, ::down])
    return np.stack(out)


def stylegan2(state, ws, clamp=None, noise=True):
    """ws [num_ws, w_dim] → image [C, R, R] about in [-1, 1], constant noise."""
    s, ws = {k: _np(v) for k, v in state.items()}, _np(ws)
    limit = np.inf if clamp is None else clamp

    def styled(name, x, w, up=False, gain=1.0):
        styles = _linear(s, f"{name}.affine", w)
        weight = s[f"{name}.weight"] * styles[None, :, None, None]
        weight = weight / np.sqrt((weight**2).sum((1, 2, 3), keepdims=True) + 1e-8)
        if up:
            wide = np.zeros((len(x), 2 * x.shape[1] - 1, 2 * x.shape[2] - 1))
            wide[:, ::2, ::2] = x
            y = _convolve(wide, weight[:, :, ::-1, ::-1])  # transposed: the weights are not flipped
            y = _filtered(y, s[f"{name}.resample_filter"] * 4, 1, 1, [1] * 4)
        else:
            y = _convolve(x, weight)[:, 1:-1, 1:-1]
        if noise and f"{name}.noise_const" in s:
            y = y + s[f"{name}.noise_const"] * s[f"{name}.noise_strength"]
        return np.clip(
            _lrelu(y + s[f"{name}.bias"][:, None, None]) * gain, -limit * gain, limit * gain
        )

    x = image = None
    layer, side = 0, 4
    while f"synthesis.b{side}.conv1.weight" in s:
        block = f"synthesis.b{side}"
        filter = s[f"{block}.resample_filter"]
        if side == 4:
            x = styled(f"{block}.conv1", s[f"{block}.const"], ws[layer])
            layer += 1
        else:
            resnet = f"{block}.skip.weight" in s
            gain = np.sqrt(0.5) if resnet else 1.0
            y = styled(f"{block}.conv0", x, ws[layer], up=True)
            y = styled(f"{block}.conv1", y, ws[layer + 1], gain=gain)
            if resnet:
                w = s[f"{block}.skip.weight"]
                skip = np.einsum("oi,ihw->ohw", w[:, :, 0, 0] / np.sqrt(w.shape[1]), x)
                y = y + _filtered(skip, filter, 2, 1, [2, 1, 2, 1]) * gain
            x = y
            layer += 2
        image = None if image is None else _filtered(image, filter, 2, 1, [2, 1, 2, 1])
        if f"{block}.torgb.weight" in s:
            w = s[f"{block}.torgb.weight"][:, :, 0, 0]
            styles = _linear(s, f"{block}.torgb.affine", ws[layer]) / np.sqrt(w.shape[1])
            rgb = np.einsum("oi,ihw->ohw", w * styles, x) + s[f"{block}.torgb.bias"][:, None, None]
            rgb = np.clip(rgb, -limit, limit)
            image = rgb if image is None else image + rgb
        side *= 2
    return image


def stylegan3(state, ws, config):
    """ws [num_ws, w_dim] → image [C, R, R] about in [-1, 1]; config: that of our StyleGAN3."""
    s = {k: _np(v) for k, v in state.items()}
    ws = _np(ws)
    start = config["input"]
    parameters = _linear(s, "synthesis.input.affine", ws[0])
    cos, sin, right, down = parameters / np.hypot(parameters[0], parameters[1])
    rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    translation = np.array([[1, 0, -right], [0, 1, -down], [0, 0, 1]])
    matrix = rotation @ translation @ s["synthesis.input.transform"]
    freqs, phases = s["synthesis.input.freqs"], s["synthesis.input.phases"]
    phases = phases + freqs @ matrix[:2, 2]
    freqs = freqs @ matrix[:2, :2]
    rate, band = start["sampling_rate"], start["bandwidth"]
    amplitude = np.clip(1 - (np.hypot(*freqs.T) - band) / (rate / 2 - band), 0, 1)
    positions = (np.arange(start["size"]) + 0.5 - start["size"] / 2) / rate
    grid = np.stack(np.meshgrid(positions, positions, indexing="xy"), -1)  # [H, W, (x, y)]
    waves = np.sin(2 * np.pi * (np.einsum("hwk,ck->chw", grid, freqs) + phases[:, None, None]))
    weight = s["synthesis.input.weight"]
    x = np.einsum("oc,chw->ohw", weight / np.sqrt(len(weight)), waves * amplitude[:, None, None])
    for layer, w in zip(config["layers"], ws[1:], strict=True):
        name = f"synthesis.{layer['name']}"
        styles, weight = _linear(s, f"{name}.affine", w), s[f"{name}.weight"]
        if layer["torgb"]:
            weight = weight * (styles / np.sqrt(weight[0].size))[None, :, None, None]
        else:
            weight = weight / np.sqrt((weight**2).mean((1, 2, 3), keepdims=True))
            weight = weight * (styles / np.sqrt((styles**2).mean()))[None, :, None, None]
            weight = weight / np.sqrt((weight**2).sum((1, 2, 3), keepdims=True) + 1e-8)
        y = _convolve(x, weight / np.sqrt(s[f"{name}.magnitude_ema"]))
        y = y + s[f"{name}.bias"][:, None, None]
        up_filter = _two_dimensional(s.get(f"{name}.up_filter"))
        down_filter = _two_dimensional(s.get(f"{name}.down_filter"))
        y = _filtered(y, up_filter, layer["up"], 1, layer["padding"])
        if not layer["torgb"]:
            y = _lrelu(y)
        if layer["clamp"]:
            y = np.clip(y, -layer["clamp"], layer["clamp"])
        x = _filtered(y, down_filter, 1, layer["down"], [0] * 4)
    return x * config["output_scale"]


def _two_dimensional(kernel):
    """A filter as a matrix: [taps] for both directions, [taps, taps], or None for no filter."""
    if kernel is None:
        return np.ones((1, 1))
    if kernel.ndim == 1:
        return np.outer(kernel, kernel)
    return kernel


def discriminator(state, image, clamp=None):
    """image [C, R, R] in [-1, 1] → the output of each block, [F, r, r] each."""
    s = {k: _np(v) for k, v in state.items()}
    image = _np(image)
    outputs = []
    x = None

    def conv(x, name, down=1, activate=True, gain=1.0):
        w = s[f"{name}.weight"]
        k = w.shape[2]
        if down == 2:  # filter with the convolution's border, then convolve with stride 2
            margin = k // 2
            x = _filtered(x, s[f"{name}.resample_filter"], 1, 1, [margin + 1] * 4)
        else:
            x = np.pad(x, [(0, 0), (k // 2, k // 2), (k // 2, k // 2)])
        rows = w / np.sqrt(w[0].size)
        x = np.stack(
            [
                sum(signal.correlate2d(c, f, "valid") for c, f in zip(x, row, strict=True))
                for row in rows
            ]
        )
        x = x[:, ::down, ::down]
        if activate:
            x = _lrelu(x + s[f"{name}.bias"][:, None, None])
        x = x * gain
        return x if clamp is None or not activate else np.clip(x, -clamp * gain, clamp * gain)

    side = image.shape[1]
    while side > 4:
        block = f"b{side}"
        if f"{block}.fromrgb.weight" in s:
            features = conv(image, f"{block}.fromrgb")
            x = features if x is None else x + features
        residual = f"{block}.skip.weight" in s
        gain = np.sqrt(0.5) if residual else 1.0
        y = conv(conv(x, f"{block}.conv0"), f"{block}.conv1", 2, gain=gain)
        x = y + conv(x, f"{block}.skip", 2, activate=False, gain=gain) if residual else y
        image = _filtered(image, s[f"{block}.resample_filter"], 1, 2, [1] * 4)
        outputs.append(x)
        side //= 2
    return outputs
