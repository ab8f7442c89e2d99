"""No file runs anything, and whatever it holds it is read or refused in one line."""

import functools
import io
import os
import pickle
import struct
import sys

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import invert
from invert.generator import pickles

from .checkpoints import Call, nvidia, persistent, stylegan2, write


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


@pytest.mark.parametrize("change", [
    {"_modules": ["mapping"]}, {"_modules": {"mapping": 5}}, {"_modules": {"mapping": persistent("M", [1])}},
    {"_modules": {"mapping": Call("torch.nn.modules.sparse", "Embedding")}}, {"_buffers": [1, 2]}, {},
])  # fmt: skip
def test_modules_of_odd_contents(tmp_path, change):
    with pytest.raises(ValueError) as error:
        invert.load_generator(write(tmp_path / "g.pkl", {"G_ema": persistent("Generator", change)}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name, tensor", [
    ("mapping.fc0.weight", torch.zeros(3)), ("synthesis.b4.conv1.weight", torch.zeros(())),
    ("mapping.fc1.weight", torch.zeros(0)), ("synthesis.b4.conv1.affine.weight", torch.zeros(1, 1)),
])  # fmt: skip
def test_tensors_of_odd_shapes(tmp_path, name, tensor):
    save_file({**stylegan2().state_dict(), name: tensor}, tmp_path / "s.safetensors")
    with pytest.raises(ValueError):
        invert.load_generator(tmp_path / "s.safetensors")


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
