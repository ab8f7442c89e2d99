"""Files of all kinds give the images they stand for, and no file runs anything."""

import argparse
import functools
import http.server
import io
import json
import os
import pickle
import struct
import sys
import threading
from hashlib import sha256

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import invert
from degrade import Clamp
from invert import StyleGAN2
from invert.generator import pickles
from tests.conftest import rng

from . import reference
from .checkpoints import Call, nvidia, persistent, randomize, rosinality, stylegan3, write

SHARED_LAYERS = ["L0_36_6", "L1_36_6", "L2_36_5", "L3_36_5", "L4_36_4", "L5_16_4", "L6_16_3"]
# as StyleGAN-XL grows: the head's numbers go on after the stem's dropped tail, and skip one
GROWN_LAYERS = ["L0_36_6", "L1_36_6", "L2_36_5", "L4_52_5", "L5_52_4", "L6_52_4", "L7_32_4", "L8_32_3"]


def stylegan2(seed=0, resolution=16, architecture="skip", channels=3, c_dim=0, clamp=None, noise=True, width=6):
    widths = [max(width - i, 2) for i in range(resolution.bit_length() - 2)]
    synthesis = {"architecture": architecture, "widths": widths, "conv_clamp": clamp, "use_noise": noise}
    G = StyleGAN2(5, 7, resolution, img_channels=channels, c_dim=c_dim, mapping={"num_layers": 2}, synthesis=synthesis)
    return randomize(G, seed)


def same_generator(G, H, **options):
    """Every tensor and the images of the same codes, bit for bit."""
    ours, theirs = G.state_dict(), H.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    w = torch.randn(2, G.num_ws, G.w_dim, generator=rng())
    return torch.equal(G.synthesize(w), H.synthesize(w)) and not any(p.requires_grad for p in H.parameters())


# The same pixels -------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    st.integers(0, 99), st.sampled_from([4, 8, 16]), st.sampled_from(["skip", "resnet", "orig"]),
    st.sampled_from([1, 3]), st.sampled_from([0, 3]), st.sampled_from([None, 0.7]), st.booleans(),
)  # fmt: skip
def test_stylegan2_equals_the_formulas(seed, resolution, architecture, channels, c_dim, clamp, noise):
    G = stylegan2(seed, resolution, architecture, channels, c_dim, clamp, noise)
    z = torch.randn(2, 5, generator=rng(seed))
    label = [2, 0] if c_dim else None
    w = G.mapping(z, label)
    expected = [reference.mapping(G.state_dict(), z[i], torch.eye(3)[label[i]] if c_dim else None) for i in range(2)]
    assert numpy.allclose(w, expected, rtol=1e-4, atol=1e-5)
    ws = torch.randn(2, G.num_ws, 7, generator=rng(seed + 1))
    expected = numpy.stack([reference.stylegan2(G.state_dict(), codes, clamp) for codes in ws])
    assert numpy.allclose(G.synthesize(ws) * 2 - 1, expected, atol=1e-4)


@pytest.mark.parametrize("names", [SHARED_LAYERS, GROWN_LAYERS])
@pytest.mark.parametrize("kernel, radial", [(3, False), (1, True)])
def test_stylegan3_equals_the_formulas(names, kernel, radial):
    G = stylegan3(names, kernel, radial)
    config = {
        "input": {"size": 36, "sampling_rate": 16, "bandwidth": 2.0}, "output_scale": 0.25,
        "layers": [vars(getattr(G.synthesis, name).layer) for name in names],
    }  # fmt: skip
    ws = torch.randn(2, G.num_ws, 7, generator=rng())
    expected = numpy.stack([reference.stylegan3(G.state_dict(), codes, config) for codes in ws])
    assert numpy.allclose(G.synthesize(ws) * 2 - 1, expected, atol=1e-4)
    assert G.synthesize(ws).shape[2] == int(names[-1].split("_")[1])


@pytest.mark.parametrize("resolution, options, names", [
    (1024, {}, "L0_36_512 L1_36_512 L2_52_512 L3_52_512 L4_84_512 L5_148_512 L6_148_512 L7_276_323 L8_276_203 "
               "L9_532_128 L10_1044_81 L11_1044_51 L12_1044_32 L13_1024_32 L14_1024_3"),
    (256, {"channel_base": 16384}, "L0_36_512 L1_36_512 L2_36_512 L3_52_512 L4_52_512 L5_84_512 L6_84_512 L7_148_362 "
                                   "L8_148_256 L9_148_181 L10_276_128 L11_276_91 L12_276_64 L13_256_64 L14_256_3"),
])  # fmt: skip
def test_layers_from_names_are_those_of_the_published_constructor(resolution, options, names):
    expected = published_layers(resolution, **options)
    assert [layer["name"] for layer in expected] == names.split()
    with torch.device("meta"):
        state = {}
        for layer in expected:
            shape = layer["out"], layer["features"], layer["kernel"], layer["kernel"]
            state[f"synthesis.{layer['name']}.weight"] = torch.zeros(shape)
            for way in ("up", "down"):
                if layer[f"{way}_taps"]:
                    state[f"synthesis.{layer['name']}.{way}_filter"] = torch.zeros(layer[f"{way}_taps"])
    start, layers = invert.generator.stylegan3.layers_of(state)
    assert layers == expected and (start["size"], start["sampling_rate"], start["bandwidth"]) == (36, 16, 2.0)


def published_layers(resolution, channel_base=32768, channel_max=512, count=14, critical=2):
    """StyleGAN3-T's constructor, as its paper's table and code describe it."""
    last = resolution / 2
    share = numpy.minimum(numpy.arange(count + 1) / (count - critical), 1)
    cutoffs = 2 * (last / 2) ** share
    stopbands = 2**2.1 * (last * 2**0.3 / 2**2.1) ** share
    rates = numpy.exp2(numpy.ceil(numpy.log2(numpy.minimum(stopbands * 2, resolution)))).astype(int)
    sizes = rates + 20
    sizes[-2:] = resolution
    widths = numpy.rint(numpy.minimum(channel_base / 2 / cutoffs, channel_max)).astype(int)
    widths[-1] = 3
    layers = []
    for i in range(count + 1):
        p, torgb = max(i - 1, 0), i == count
        between = max(rates[p], rates[i]) * (1 if torgb else 2)
        up, down = between // rates[p], between // rates[i]
        ut, dt = (6 * n if n > 1 and not torgb else 1 for n in (up, down))
        pad = (sizes[i] - 1) * down + 1 - (sizes[p] + (0 if torgb else 2)) * up + ut + dt - 2
        low = (pad + up) // 2
        layers.append({
            "name": f"L{i}_{sizes[i]}_{widths[i]}", "features": widths[p], "out": widths[i],
            "kernel": 1 if torgb else 3, "up": up, "down": down, "padding": [low, pad - low] * 2,
            "up_taps": [ut] if ut > 1 else [], "down_taps": [dt] if dt > 1 else [], "clamp": 256.0, "torgb": torgb,
        })  # fmt: skip
    return layers


@settings(max_examples=10)
@given(st.integers(0, 99), st.booleans())
def test_an_image_does_not_depend_on_its_batch(seed, third):
    G = stylegan3(SHARED_LAYERS) if third else stylegan2(seed)
    ws = torch.randn(3, G.num_ws, 7, generator=rng(seed))
    together = G.synthesize(ws)
    for i in range(3):
        assert torch.allclose(together[i : i + 1], G.synthesize(ws[i : i + 1]), atol=1e-5)


def test_truncation_goes_from_the_image_s_code_to_the_mean_of_its_class():
    xl = conditional_xl()
    for G, label in ((stylegan2(), None), (xl, [3, 1])):
        z = torch.randn(2, G.z_dim, generator=rng())
        w, half, mean = (G.mapping(z, label, truncation_psi=psi) for psi in (1, 0.5, 0))
        center = G.w_avg.expand(2, -1) if label is None else G.w_avg[label]
        assert torch.allclose(mean, center) and torch.allclose(half, (w + center) / 2, atol=1e-5)


def test_labels():
    G, z = stylegan2(c_dim=3), torch.randn(2, 5, generator=rng())
    assert torch.equal(G.mapping(z, 2), G.mapping(z, torch.tensor([2, 2])))
    assert torch.equal(G.mapping(z, [2, 0]), G.mapping(z, torch.eye(3)[[2, 0]]))
    for bad in (None, 3, -1, [0, 1, 2], 0.5, torch.eye(4)[:2]):
        with pytest.raises(ValueError, match="class_label"):
            G.mapping(z, bad)
    with pytest.raises(ValueError, match="has no classes"):
        stylegan2().mapping(z, 1)


# Files -------------------------------------------------------------------------------------------


def conditional_xl():
    mapping = {"num_layers": 2, "pretrained": [4, 9], "means_per_class": True, "lr_multiplier": 0.01}
    return stylegan3(GROWN_LAYERS, c_dim=4, mapping=mapping)


GENERATORS = {
    "skip": stylegan2,
    "resnet": functools.partial(stylegan2, architecture="resnet", clamp=256),
    "orig": functools.partial(stylegan2, architecture="orig", noise=False),
    "grey, classes": functools.partial(stylegan2, channels=1, c_dim=3),
    "T": functools.partial(stylegan3, SHARED_LAYERS),
    "R": functools.partial(stylegan3, SHARED_LAYERS, kernel=1, radial=True),
    "XL": conditional_xl,
}


def discriminator():
    """What StyleGAN-XL keeps beside the generator: classes of other packages, and builders of functions."""
    block = Call("timm.models.efficientnet", "EfficientNet", state={"_modules": {"x": Call("timm.layers", "Swish")}})
    return Call("pg_modules.discriminator", "ProjectedDiscriminator", Call("dill._dill", "_create_function", b"code"),
                state=({"feature_network": block}, None))  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", GENERATORS)
def test_nvidia_s_pickles(tmp_path, kind, protocol):
    G = GENERATORS[kind]()
    content = {"G": None, "D": discriminator(), "G_ema": nvidia(G), "augment_pipe": None,
               "training_set_kwargs": {"path": "x"}, "seen": Call("dill._dill", "_load_type", "set")}  # fmt: skip
    H = invert.load_generator(write(tmp_path / "g.pkl", content, protocol))
    assert type(H) is type(G) and same_generator(G, H)
    z = torch.randn(2, G.z_dim, generator=rng())
    label = [1, 2] if G.c_dim else None
    assert torch.allclose(G.mapping(z, label), H.mapping(z, label), atol=1e-6)


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_converted_file_is_the_same_generator(tmp_path, kind):
    G = invert.load_generator(write(tmp_path / "g.pkl", {"G_ema": nvidia(GENERATORS[kind]())}))
    invert.save_generator(G, tmp_path / "g.safetensors")
    assert same_generator(G, invert.load_generator(tmp_path / "g.safetensors"))


@pytest.mark.parametrize("kind", ["skip", "resnet", "grey, classes", "T", "R"])
def test_a_state_dict_with_nvidia_s_names(tmp_path, kind):
    G = GENERATORS[kind]()
    save_file(G.state_dict(), tmp_path / "s.safetensors")
    torch.save(G.state_dict(), tmp_path / "s.pt")
    torch.save(G.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("s.safetensors", "s.pt", "old.pt"):
        assert same_generator(G, invert.load_generator(tmp_path / name))


@pytest.mark.parametrize("trained", [False, True])
def test_rosinality_s_files(tmp_path, trained):
    G = stylegan2(resolution=32)
    content = {"g_ema": rosinality(G), "latent_avg": G.w_avg}
    if trained:
        content = {"g_ema": rosinality(G), "g_optim": {}, "args": argparse.Namespace(size=32), "ada_aug_p": 0.0}
    torch.save(content, tmp_path / "r.pt")
    H = invert.load_generator(tmp_path / "r.pt")
    w = torch.randn(2, G.num_ws, 7, generator=rng())
    assert torch.allclose(G.synthesize(w), H.synthesize(w), atol=1e-5)
    if trained:  # no mean is kept: it is estimated
        z = torch.randn(40_000, 5, generator=rng(9))
        assert torch.allclose(H.w_avg, G.mapping(z).mean(0), atol=0.05)
    else:
        assert torch.equal(H.w_avg, G.w_avg)


def test_the_file_of_real_structure():
    """A pickle from the published code, its source text blanked; values computed by that code."""
    data = os.path.join(os.path.dirname(__file__), "..", "data")
    G = invert.load_generator(os.path.join(data, "nvlabs-like.pkl"))
    expected = load_file(os.path.join(data, "nvlabs-like.expected.safetensors"))
    assert torch.allclose(G.mapping(expected["z"]), expected["ws"][:, 0], atol=1e-5)
    assert torch.allclose(G.synthesize(expected["ws"]) * 2 - 1, expected["image"], atol=1e-4)


def test_half_precision_files_are_computed_in_float32(tmp_path):
    G = stylegan2()
    save_file({k: v.half() for k, v in G.state_dict().items()}, tmp_path / "h.safetensors")
    assert invert.load_generator(tmp_path / "h.safetensors").synthesize(torch.zeros(1, 7)).dtype == torch.float32


# Nothing runs --------------------------------------------------------------------------------------


class Attack:
    """Pickles as a real call of `function`."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


def storage_blob(count, data, dtype=torch.FloatStorage):
    """A storage as torch wrote it before zip files, saying `count`."""
    file = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(part, file, 2)

    class Writer(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", dtype, "0", "cpu", count, None) if obj is Ellipsis else None

    Writer(file, 2).dump(...)
    pickle.dump(["0"], file, 2)
    file.write(struct.pack("<q", count) + data)
    return file.getvalue()


def attacks(canary):
    touch = f"open({str(canary)!r}, 'w').close()"
    inner = pickle.dumps(Attack(eval, touch))
    good = nvidia(stylegan2())
    state = good.reduced[1][0]["state"]
    return {
        "a call": Attack(eval, touch),
        "in place of the generator": {"G_ema": Attack(os.system, f"touch {canary}")},
        "in an attribute": {"G_ema": persistent("Generator", {**state, "hook": Attack(exec, touch)})},
        "as a module": {"G_ema": persistent("Generator", {**state, "_modules": {"mapping": Attack(eval, touch)}})},
        "as a tensor": {"G_ema": persistent("Generator", {**state, "_buffers": {"x": Attack(eval, touch)}})},
        "a pickle within": {"G_ema": Attack(pickle.loads, inner)},
        "instead of a storage": {"G_ema": Attack(torch.storage._load_from_bytes, inner)},
        "within a storage": {"G_ema": Attack(torch.storage._load_from_bytes, storage_blob(2, b"\0" * 8)[:30] + inner)},
        "a function's parts": {"G_ema": Attack(functools.partial, os.system, f"touch {canary}")},
    }


@pytest.mark.parametrize("kind", sorted(attacks("x")))
def test_nothing_in_a_file_is_run(tmp_path, kind):
    canary = tmp_path / "canary"
    with pytest.raises(ValueError) as error:
        invert.load_generator(write(tmp_path / "evil.pkl", attacks(canary)[kind]))
    assert not canary.exists() and "\n" not in str(error.value)


def test_the_attacks_would_do_harm_elsewhere(tmp_path):
    """Else the test above would show nothing."""
    pickle.loads(pickle.dumps(attacks(tmp_path / "canary")["a call"]))
    assert (tmp_path / "canary").exists()


def test_no_module_is_imported(tmp_path):
    (tmp_path / "g.pkl").write_bytes(b"\x80\x04cantigravity\nfly\n0}.")
    with pytest.raises(ValueError, match="holds no 'G_ema'"):
        invert.load_generator(tmp_path / "g.pkl")
    assert "antigravity" not in sys.modules


def test_a_refused_name_is_named(tmp_path):
    state = nvidia(stylegan2()).reduced[1][0]["state"]
    content = {"G_ema": persistent("Generator", {**state, "extra": Call("some.package", "Layer")})}
    with pytest.raises(ValueError, match=r"needs some\.package\.Layer, which is not allowed; nothing of it was run"):
        invert.load_generator(write(tmp_path / "g.pkl", content))


def test_a_network_of_tensorflow_is_told_its_converter(tmp_path):
    network = Call("dnnlib.tflib.network", "Network", state={"version": 4})
    with pytest.raises(ValueError, match=r"TensorFlow; convert it with legacy\.py"):
        invert.load_generator(write(tmp_path / "tf.pkl", (network, network, network)))


@pytest.mark.parametrize("blob, size, stride, words", [
    (storage_blob(2**50, b"\0" * 8), (2,), (1,), "has 8 bytes"),
    (storage_blob(-1, b""), (0,), (1,), "has 0 bytes"),
    (storage_blob(2, b"\0" * 8), (2**40,), (0,), "does not fit"),
    (storage_blob(2, b"\0" * 8), (2,), (2,), "does not fit"),
    (storage_blob(2, b"\0" * 8), (2,), (-1,), "does not fit"),
    (storage_blob(2, b"\0" * 8, eval), (2,), (1,), "not allowed"),
    (storage_blob(2, b"\0" * 8)[:40], (2,), (1,), "no network pickle"),
    (b"", (2,), (1,), "no network pickle"),
])  # fmt: skip
def test_tensors_that_claim_what_they_do_not_have(tmp_path, blob, size, stride, words):
    tensor = Call(
        "torch._utils", "_rebuild_tensor_v2", Call("torch.storage", "_load_from_bytes", blob), 0, size, stride
    )
    content = {"G_ema": persistent("Generator", {"_buffers": {"x": tensor}})}
    with pytest.raises(ValueError, match=words):
        invert.load_generator(write(tmp_path / "g.pkl", content))


def test_files_that_never_end(tmp_path):
    around = {"_modules": {}}
    ring = persistent("Generator", around)
    around["_modules"]["mapping"] = ring
    with pytest.raises(ValueError):
        invert.load_generator(write(tmp_path / "ring.pkl", {"G_ema": ring}))
    bush = persistent("Layer", {})
    for _ in range(60):  # 2^60 paths through 60 objects
        bush = persistent("Layer", {"_modules": {"a": bush, "b": bush}})
    with pytest.raises(ValueError):
        invert.load_generator(write(tmp_path / "bush.pkl", {"G_ema": bush}))
    (tmp_path / "deep.pkl").write_bytes(b"\x80\x04" + b"(" * 10**6 + b"t" * 10**6 + b".")
    with pytest.raises(ValueError):
        invert.load_generator(tmp_path / "deep.pkl")


@settings(max_examples=100)
@given(st.data())
def test_damaged_files_are_refused_in_one_line(tmp_path_factory, data):
    whole = damaged_source()
    cut = data.draw(st.integers(0, len(whole) - 1))
    junk = data.draw(st.binary(max_size=20))
    path = tmp_path_factory.mktemp("d") / "g.pkl"
    path.write_bytes(whole[:cut] + junk + (whole[cut + len(junk) :] if data.draw(st.booleans()) else b""))
    try:
        invert.load_generator(path)
    except ValueError as error:
        assert "\n" not in str(error)


@functools.cache
def damaged_source():
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        return write(Path(folder, "g.pkl"), {"G_ema": nvidia(stylegan2(resolution=4))}).read_bytes()


def test_numbers_and_arrays_are_read_without_numpy_s_own_builders(tmp_path):
    values = {"a": numpy.float64(1.5), "b": numpy.arange(6, dtype=">i4").reshape(2, 3), "c": numpy.bool_(True)}
    held = pickles.read(write(tmp_path / "n.pkl", values, 3))
    assert held["a"] == 1.5 and held["c"] is True and (held["b"].value == values["b"]).all()
    for bad in (numpy.array([print], dtype=object), numpy.datetime64(0, "s")):
        with pytest.raises(ValueError, match="is no number"):
            pickles.read(write(tmp_path / "o.pkl", bad))


# Addresses -------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A server on this machine, and an empty cache."""
    (tmp_path / "www").mkdir()
    monkeypatch.setenv("DEGRADE_CACHE", str(tmp_path / "cache"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "www")
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "www", f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_an_address_is_fetched_once_checked_and_kept(served, tmp_path):
    folder, address = served
    path = write(folder / "g.pkl", {"G_ema": nvidia(stylegan2())})
    digest = sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="is not the file with that sha256"):
        invert.load_generator(f"{address}/g.pkl#sha256:{'0' * 64}")
    assert not list((tmp_path / "cache").iterdir())  # nothing wrong is kept
    G = invert.load_generator(f"{address}/g.pkl#sha256:{digest}")
    path.unlink()
    assert same_generator(G, invert.load_generator(f"{address}/g.pkl"))
    for bad, words in [("/none.pkl", "cannot be fetched"), ("/g.pkl#md5:1", "sha256: and 64")]:
        with pytest.raises(ValueError, match=words):
            invert.load_generator(address + bad)


def test_a_damaged_config_is_named(tmp_path):
    state = stylegan2().state_dict()
    for config, words in [("{", "damaged"), (json.dumps({"family": "x"}), "family 'x'"), ("{}", "does not fit")]:
        save_file(state, tmp_path / "c.safetensors", {"config": config})
        with pytest.raises(ValueError, match=words):
            invert.load_generator(tmp_path / "c.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="none of the kinds"):
        invert.load_generator(tmp_path / "a.safetensors")


# Any module ----------------------------------------------------------------------------------------


def test_any_module_becomes_a_generator():
    module = torch.nn.Sequential(torch.nn.ConvTranspose2d(10, 3, 8), torch.nn.BatchNorm2d(3), torch.nn.Tanh())
    G = invert.wrap(module, z_shape=(10, 1, 1))
    z = torch.randn(4, 10, generator=rng())
    assert G.spaces == ("Z",) and (G.resolution, G.channels, G.z_dim) == (8, 3, 10)
    assert torch.equal(G.synthesize(z), (module(z[..., None, None]) + 1) / 2)
    with pytest.raises(ValueError, match=r"method='robust' needs W, W\+, W\+\+; the generator has Z"):
        invert.restore(torch.rand(1, 3, 8, 8), Clamp(), G)
    for options, words in [({}, "one of the two"), ({"z_dim": 0}, "above 0"), ({"z_dim": 10}, "square images"),
                           ({"z_dim": 10, "image_range": (1, 0)}, "black below white")]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            invert.wrap(torch.nn.Linear(10, 4), **options)
