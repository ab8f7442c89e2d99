"""Write checkpoint files as other programs do: NVIDIA's pickles and rosinality's files."""

import importlib
import pickle
import sys
import types
from collections import OrderedDict
from unittest import mock

import numpy
import torch

from invert import StyleGAN2, StyleGAN3
from invert.generator.stylegan3 import layers_of

KERNEL = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


def randomize(generator, seed=0):
    """Give a generator random weights, scaled so that its images neither vanish nor saturate."""
    g = torch.Generator().manual_seed(seed)
    for name, t in generator.state_dict().items():
        t.copy_(torch.randn(t.shape, generator=g) * 0.5)
        if name.endswith("affine.bias"):
            t.add_(1)
        elif name.endswith("resample_filter"):
            t.copy_(KERNEL)
        elif name.endswith(("up_filter", "down_filter")):
            t.abs_().div_(t.sum())
        elif name.endswith("magnitude_ema"):
            t.abs_().add_(0.5)
        elif name.endswith("transform"):
            t[2] = torch.tensor([0.0, 0, 1])
            t[:2] = torch.eye(3)[:2] + 0.2 * t[:2]
    return generator


class Call:
    """Pickles as a call of module.name with these arguments; the module need not exist."""

    stubs: dict[str, types.ModuleType] = {}

    def __init__(self, module, name, *args, state=None):
        self.reduced = (self.named(module, name), args) + (() if state is None else (state,))

    @classmethod
    def named(cls, module, name):
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError:
            pass
        parts = module.split(".")
        for count in range(1, len(parts) + 1):  # the module, and every package that contains it
            package = ".".join(parts[:count])
            cls.stubs.setdefault(package, types.ModuleType(package))
            parent, _, child = package.rpartition(".")
            if parent:
                setattr(cls.stubs[parent], child, cls.stubs[package])
        if not hasattr(cls.stubs[module], name):

            def function(*_):
                raise AssertionError("a checkpoint's code was run")

            function.__module__ = module
            function.__name__ = function.__qualname__ = name
            setattr(cls.stubs[module], name, function)
        return getattr(cls.stubs[module], name)

    def __reduce__(self):
        return self.reduced


def write(path, content, protocol=4):
    """Pickle `content`. Modules that it names and that are not installed are replaced by stubs."""
    with mock.patch.dict(sys.modules, Call.stubs):
        path.write_bytes(pickle.dumps(content, protocol))
    return path


def persistent(class_name, state):
    meta = {
        "type": "class",
        "version": 6,
        "module_src": "raise SystemExit\n",
        "class_name": class_name,
        "state": state,
    }
    return Call("torch_utils.persistence", "_reconstruct_persistent_obj", meta)


def nvidia(generator, names=("Generator", "SynthesisLayer")):
    """The object that NVIDIA's code pickles for a generator. names: of its classes."""
    generator_class, layer_class = names
    state, modules = generator.state_dict(), dict(generator.named_modules())
    parameters = dict(generator.named_parameters())

    def node(prefix):
        path = prefix + "." if prefix else ""
        part = {k.removeprefix(path): v for k, v in state.items() if k.startswith(path)}
        tensors = {k: v for k, v in part.items() if "." not in k}
        module = modules[prefix]
        if isinstance(module, torch.nn.Embedding):
            return torch.nn.Embedding.from_pretrained(module.weight.detach().clone())
        learned = {k: torch.nn.Parameter(v) for k, v in tensors.items() if path + k in parameters}
        children = dict.fromkeys(k.split(".")[0] for k in part if "." in k)
        attributes = {
            "training": False,
            "_parameters": OrderedDict(learned),
            "_buffers": {k: v for k, v in tensors.items() if k not in learned},
            "_modules": OrderedDict((k, node(path + k)) for k in children),
            "_init_args": (),
            "_init_kwargs": Call("dnnlib.util", "EasyDict"),
            "_forward_hooks": OrderedDict(),
            "_non_persistent_buffers_set": set(),
        }
        if "weight_gain" in vars(module):
            attributes |= {"weight_gain": numpy.float64(module.weight_gain), "activation": "lrelu"}
        if type(module).__name__ == "StyledConv":
            attributes |= {"conv_clamp": module.clamp, "activation": "lrelu"}
        if type(module).__name__ == "FilteredConv":
            layer = module.layer
            attributes |= {
                "up_factor": layer.up,
                "down_factor": layer.down,
                "padding": list(layer.padding),
                "conv_clamp": layer.clamp,
                "is_torgb": layer.torgb,
                "out_size": numpy.array([9, 9]),
            }
        if type(module).__name__ == "Input":
            attributes |= {
                "size": numpy.array([module.size] * 2),
                "sampling_rate": module.sampling_rate,
            }
            attributes["bandwidth"] = numpy.float64(module.bandwidth)
        if hasattr(module, "output_scale"):
            attributes |= {"output_scale": module.output_scale, "layer_names": module.layer_names}
        return persistent(layer_class if prefix else generator_class, attributes)

    return node("")


def rosinality(generator):
    """The g_ema of the same StyleGAN2, in the names and the layout of the other port."""
    s, tensors_of_port = generator.state_dict(), {}
    for i in range(generator.mapping.num_layers):
        for part in ("weight", "bias"):
            tensors_of_port[f"style.{i + 1}.{part}"] = s[f"mapping.fc{i}.{part}"]

    def layer(theirs, ours):
        weight = s[f"{ours}.weight"]
        tensors_of_port[f"{theirs}.conv.weight"] = weight[None] * weight[0].numel() ** 0.5
        for part in ("weight", "bias"):
            tensors_of_port[f"{theirs}.conv.modulation.{part}"] = s[f"{ours}.affine.{part}"]
        tensors_of_port[f"{theirs}.noise.weight"] = s[f"{ours}.noise_strength"].view(1)
        tensors_of_port[f"{theirs}.activate.bias"] = s[f"{ours}.bias"]

    def to_rgb(theirs, ours):
        tensors_of_port[f"{theirs}.conv.weight"] = s[f"{ours}.weight"][None]
        for part in ("weight", "bias"):
            tensors_of_port[f"{theirs}.conv.modulation.{part}"] = s[f"{ours}.affine.{part}"]
        tensors_of_port[f"{theirs}.bias"] = s[f"{ours}.bias"].view(1, -1, 1, 1)

    tensors_of_port["input.input"] = s["synthesis.b4.const"][None]
    layer("conv1", "synthesis.b4.conv1")
    to_rgb("to_rgb1", "synthesis.b4.torgb")
    noises = [s["synthesis.b4.conv1.noise_const"]]
    for j, r in enumerate(generator.synthesis.resolutions[1:]):
        for k in (0, 1):
            layer(f"convs.{2 * j + k}", f"synthesis.b{r}.conv{k}")
            noises.append(s[f"synthesis.b{r}.conv{k}.noise_const"])
        tensors_of_port[f"convs.{2 * j}.conv.blur.kernel"] = KERNEL * 4
        to_rgb(f"to_rgbs.{j}", f"synthesis.b{r}.torgb")
        tensors_of_port[f"to_rgbs.{j}.upsample.kernel"] = KERNEL * 4
    return tensors_of_port | {
        f"noises.noise_{i}": noise[None, None] for i, noise in enumerate(noises)
    }


def stylegan3(names, kernel=3, radial=False, c_dim=0, mapping=None, z_dim=5, w_dim=7):
    """A small StyleGAN3 with layers of these names and the published constructor's shapes."""
    split = [tuple(map(int, name[1:].split("_"))) for name in names]
    rates = [size if size == split[-1][1] else size - 20 for _, size, _ in split]
    state = {}
    for i, (name, (_, _, out)) in enumerate(zip(names, split, strict=True)):
        before, last = max(i - 1, 0), i == len(names) - 1
        k = 1 if last else kernel
        state[f"synthesis.{name}.weight"] = torch.zeros(out, split[before][2], k, k)
        if not last:
            between = 2 * max(rates[before], rates[i])
            state[f"synthesis.{name}.up_filter"] = torch.zeros(6 * between // rates[before])
            taps = 6 * between // rates[i]
            state[f"synthesis.{name}.down_filter"] = torch.zeros(
                [taps] * (2 if radial and i < len(names) - 3 else 1)
            )
    start, layers = layers_of(state)
    G = StyleGAN3(
        z_dim, w_dim, split[-1][1], c_dim=c_dim, mapping=mapping, input=start, layers=layers
    )
    return randomize(G)


SHARED_LAYERS = ["L0_36_6", "L1_36_6", "L2_36_5", "L3_36_5", "L4_36_4", "L5_16_4", "L6_16_3"]
# StyleGAN-XL drops the last layers of a trained network and adds new ones, so a number is missing
GROWN_LAYERS = [
    "L0_36_6",
    "L1_36_6",
    "L2_36_5",
    "L4_52_5",
    "L5_52_4",
    "L6_52_4",
    "L7_32_4",
    "L8_32_3",
]


def stylegan2(
    seed=0,
    resolution=16,
    architecture="skip",
    channels=3,
    c_dim=0,
    clamp=None,
    noise=True,
    width=6,
    **mapping,
):
    widths = [max(width - i, 2) for i in range(resolution.bit_length() - 2)]
    synthesis = {
        "architecture": architecture,
        "widths": widths,
        "conv_clamp": clamp,
        "use_noise": noise,
    }
    mapping = {"num_layers": 2, **mapping}
    G = StyleGAN2(
        5, 7, resolution, img_channels=channels, c_dim=c_dim, mapping=mapping, synthesis=synthesis
    )
    return randomize(G, seed)


def conditional_xl(c_dim=4):
    mapping = {
        "num_layers": 2,
        "pretrained": [4, 9],
        "means_per_class": True,
        "lr_multiplier": 0.01,
    }
    return stylegan3(GROWN_LAYERS, c_dim=c_dim, mapping=mapping)


def foreign_discriminator():
    """The discriminator in a StyleGAN-XL file: classes of other packages, and a function."""
    block = Call(
        "timm.models.efficientnet",
        "EfficientNet",
        state={"_modules": {"x": Call("timm.layers", "Swish")}},
    )
    return Call(
        "pg_modules.discriminator",
        "ProjectedDiscriminator",
        Call("dill._dill", "_create_function", b"code"),
        state=({"feature_network": block}, None),
    )
