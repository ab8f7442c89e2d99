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
from safetensors.torch import save_file

import invert
from invert.generator import pickles
from tests.conftest import EFFORT, rng
from tests.processes import Forked

from .checkpoints import Call, conditional_xl, nvidia, persistent, stylegan2, write
from .dill_files import DATA, VERSIONS, array
from .limited import load_damaged, load_once


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
        "in an attribute": {
            "G_ema": persistent("Generator", {**state, "hook": Attack(exec, touch)})
        },
        "as a module": {
            "G_ema": persistent(
                "Generator", {**state, "_modules": {"mapping": Attack(eval, touch)}}
            )
        },
        "as a tensor": {
            "G_ema": persistent("Generator", {**state, "_buffers": {"x": Attack(eval, touch)}})
        },
        "a pickle within": {"G_ema": Attack(pickle.loads, inner)},
        "instead of a storage": {"G_ema": Attack(torch.storage._load_from_bytes, inner)},
        "within a storage": {
            "G_ema": Attack(torch.storage._load_from_bytes, storage_blob(2, b"\0" * 8)[:30] + inner)
        },
        "a function's parts": {"G_ema": Attack(functools.partial, os.system, f"touch {canary}")},
    }


@pytest.mark.parametrize("kind", sorted(attacks("x")))
def test_hostile_pickle_runs_nothing(tmp_path, kind):
    canary = tmp_path / "canary"
    with pytest.raises(ValueError) as error:
        invert.load_generator(write(tmp_path / "evil.pkl", attacks(canary)[kind]))
    assert not canary.exists() and "\n" not in str(error.value)


def test_hostile_pickle_would_run_in_plain_pickle(tmp_path):
    """Else the test above would show nothing."""
    pickle.loads(pickle.dumps(attacks(tmp_path / "canary")["a call"]))
    assert (tmp_path / "canary").exists()


def test_hostile_pickle_imports_no_module(tmp_path):
    (tmp_path / "g.pkl").write_bytes(b"\x80\x04cantigravity\nfly\n0}.")
    with pytest.raises(ValueError, match="holds no 'G_ema'"):
        invert.load_generator(tmp_path / "g.pkl")
    assert "antigravity" not in sys.modules


def test_refused_global_is_named(tmp_path):
    state = nvidia(stylegan2()).reduced[1][0]["state"]
    content = {"G_ema": persistent("Generator", {**state, "extra": Call("some.package", "Layer")})}
    with pytest.raises(
        ValueError, match=r"needs some\.package\.Layer, which is not allowed; nothing of it was run"
    ):
        invert.load_generator(write(tmp_path / "g.pkl", content))


def test_tensorflow_pickle_error_names_the_converter(tmp_path):
    network = Call("dnnlib.tflib.network", "Network", state={"version": 4})
    with pytest.raises(ValueError, match=r"TensorFlow; convert it with legacy\.py"):
        invert.load_generator(write(tmp_path / "tf.pkl", (network, network, network)))


@pytest.mark.parametrize(
    "blob, size, stride, words",
    [
        (storage_blob(2**50, b"\0" * 8), (2,), (1,), "has 8 bytes"),
        (storage_blob(-1, b""), (0,), (1,), "has 0 bytes"),
        (storage_blob(2, b"\0" * 8), (2**40,), (0,), "does not fit"),
        (storage_blob(2, b"\0" * 8), (2,), (2,), "does not fit"),
        (storage_blob(2, b"\0" * 8), (2,), (-1,), "does not fit"),
        (storage_blob(2, b"\0" * 8, eval), (2,), (1,), "not allowed"),
        (storage_blob(2, b"\0" * 8)[:40], (2,), (1,), "is damaged"),
        (b"", (2,), (1,), "is damaged"),
    ],
)
def test_tensors_larger_than_their_storage_are_refused(tmp_path, blob, size, stride, words):
    tensor = Call(
        "torch._utils",
        "_rebuild_tensor_v2",
        Call("torch.storage", "_load_from_bytes", blob),
        0,
        size,
        stride,
    )
    content = {"G_ema": persistent("Generator", {"_buffers": {"x": tensor}})}
    with pytest.raises(ValueError, match=words):
        invert.load_generator(write(tmp_path / "g.pkl", content))


@pytest.mark.parametrize(
    "change",
    [
        {"_modules": ["mapping"]},
        {"_modules": {"mapping": 5}},
        {"_modules": {"mapping": persistent("M", [1])}},
        {"_modules": {"mapping": Call("torch.nn.modules.sparse", "Embedding")}},
        {"_buffers": [1, 2]},
        {},
    ],
)
def test_modules_of_odd_contents_are_refused(tmp_path, change):
    with pytest.raises(ValueError) as error:
        invert.load_generator(write(tmp_path / "g.pkl", {"G_ema": persistent("Generator", change)}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, tensor",
    [
        ("mapping.fc0.weight", torch.zeros(3)),
        ("synthesis.b4.conv1.weight", torch.zeros(())),
        ("mapping.fc1.weight", torch.zeros(0)),
        ("synthesis.b4.conv1.affine.weight", torch.zeros(1, 1)),
    ],
)
def test_tensors_of_odd_shapes_are_refused(tmp_path, name, tensor):
    save_file({**stylegan2().state_dict(), name: tensor}, tmp_path / "s.safetensors")
    with pytest.raises(ValueError):
        invert.load_generator(tmp_path / "s.safetensors")


def test_pickles_that_never_end_are_refused(tmp_path):
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
    depth = 2 * 10**5
    (tmp_path / "deep.pkl").write_bytes(b"\x80\x04" + b"(" * depth + b"t" * depth + b".")
    with pytest.raises(ValueError):
        invert.load_generator(tmp_path / "deep.pkl")


@pytest.mark.parametrize("kind", [".pkl", ".pt", ".safetensors"])
def test_damaged_files_load_or_fail_in_one_line(tmp_path, kind):
    """In a process that dies of a program it starts, of ten seconds for a file, or of 512 MB."""
    G = stylegan2(resolution=4)
    if kind == ".pkl":
        whole = write(tmp_path / "whole", {"G_ema": nvidia(G)})
    elif kind == ".pt":
        torch.save(G.state_dict(), whole := tmp_path / "whole")
    else:
        invert.save_generator(G, whole := tmp_path / "whole.safetensors")
    check_flips(whole, kind, "load_generator")


def check_flips(whole, kind, loader):
    """Load damaged copies of a file: each loads, or is refused in one line."""
    count = 60 * EFFORT
    process = Forked(whole.parent, load_damaged, whole, kind, count, loader)
    exit_code, errors = process.wait()
    assert exit_code == 0, errors
    loaded, refused = map(int, process.output.split())
    assert loaded + refused == count and loaded and refused


def test_numpy_values_load_without_numpy_builders(tmp_path):
    values = {
        "a": numpy.float64(1.5),
        "b": numpy.arange(6, dtype=">i4").reshape(2, 3),
        "c": numpy.bool_(True),
    }
    held = pickles.read(write(tmp_path / "n.pkl", values, 3))
    assert held["a"] == 1.5 and held["c"] is True and (held["b"].value == values["b"]).all()
    for bad in (
        numpy.array([print], dtype=object),
        numpy.datetime64(0, "s"),
    ):  # inert, and refused in a generator
        pickles.read(write(tmp_path / "o.pkl", bad))
        with pytest.raises(ValueError, match="generator (holds|needs) a numpy"):
            invert.load_generator(
                write(tmp_path / "o.pkl", {"G_ema": persistent("Generator", {"x": bad})})
            )
    columns = numpy.asfortranarray(numpy.arange(6).reshape(2, 3))
    assert (pickles.read(write(tmp_path / "f.pkl", columns)).value == columns).all()


@pytest.mark.parametrize("version", VERSIONS)
def test_dill_files_of_stylegan_xl_load(version):
    """Files that dill wrote (`dill_files.py`), with the version the authors pin among them."""
    generator, expected = invert.load_generator(DATA / f"dill-{version}.pkl"), conditional_xl()
    tensors = generator.state_dict()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensors[name], tensor)
    w = expected.mapping(torch.randn(2, expected.z_dim, generator=rng()), [1, 2])
    assert torch.equal(generator.synthesize(w), expected.synthesize(w))
    content = pickles.read(DATA / f"dill-{version}-array.pkl")
    assert (content.value == array()).all() and content.value.dtype == numpy.int32
    assert pickles.read(DATA / f"dill-{version}.pkl")["cur_nimg"] == 1000


def dill_attribute(module, name):
    """The opcodes that dill 0.3.4 writes for `module.name`."""
    imported = f"cdill._dill\n_import_module\n(V{module}\ntR"
    return f"cdill._dill\n_get_attr\n({imported}V{name}\ntR".encode()


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
@pytest.mark.parametrize("module", ["multiarray", "_multiarray_umath"])
def test_dill_may_name_numpy_of_any_version(tmp_path, core, module):
    dtype = pickle.dumps(numpy.dtype("f8"), 2)[2:-1]
    scalar = dill_attribute(f"{core}.{module}", "scalar")
    value = b"C\x08" + struct.pack("<d", 1.5)
    (tmp_path / "n.pkl").write_bytes(b"\x80\x04" + scalar + b"(" + dtype + value + b"tR.")
    assert pickles.read(tmp_path / "n.pkl") == 1.5


@pytest.mark.parametrize(
    "opcodes, named",
    [
        (dill_attribute("os", "system") + b"(Vtouch canary\ntR", "os.system"),
        (dill_attribute("antigravity", "fly"), "antigravity.fly"),
        (dill_attribute("builtins", "eval") + b"(V1\ntR", "builtins.eval"),
        (dill_attribute("invert.generator.pickles", "read"), "invert.generator.pickles.read"),
        (b"cdill._dill\n_get_attr\n(]V__class__\ntR(tR", "an attribute that dill names"),
        (b"cdill._dill\n_import_module\n(]tR", "a module without a name"),
        (b"cdill._dill\n_import_module\n(Vos\ntR", "os"),
        (
            b"cdill._dill\n_create_array\n(cos\nsystem\n(Vtouch canary\nt(tNtR",
            "an array that numpy does not build",
        ),
    ],
)
def test_dill_builders_run_nothing(tmp_path, monkeypatch, opcodes, named):
    """Only the names on the list have a stand-in, however dill writes them."""
    monkeypatch.chdir(tmp_path)
    state = b"}(Vclass_name\nVG\nVstate\n}Vx\n" + opcodes + b"su"
    module = b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n(" + state + b"tR"
    (tmp_path / "g.pkl").write_bytes(b"\x80\x04}VG_ema\n" + module + b"s.")
    with pytest.raises(ValueError, match=f"needs {named}, which is not allowed"):
        invert.load_generator(tmp_path / "g.pkl")
    assert not (tmp_path / "canary").exists() and "antigravity" not in sys.modules


def test_tensors_may_be_views_of_any_dtype(tmp_path):
    whole = torch.arange(12.0)
    for tensor in (
        whole[3:9].view(2, 3),
        whole[1::2],
        whole.half()[2:],
        whole.bfloat16(),
        whole.view(3, 4).T,
        whole.int(),
    ):
        held = pickles.read(write(tmp_path / "t.pkl", tensor))
        assert held.dtype == tensor.dtype and torch.equal(held, tensor)


def test_generator_loads_beside_an_odd_discriminator(tmp_path):
    odd = [
        Call("dill._dill", "_load_type", "MethodType"),
        Call("_codecs", "encode", "x", "utf-8"),
        numpy.array([None], dtype=object),
        Call("odd_types", "MethodType", 1, 2),
        numpy.datetime64(0, "s"),
    ]
    G = stylegan2()
    H = invert.load_generator(
        write(tmp_path / "g.pkl", {"D": odd, "G_ema": nvidia(G), "training_set_kwargs": odd})
    )
    w = torch.randn(1, G.num_ws, G.w_dim, generator=rng())
    assert torch.equal(G.synthesize(w), H.synthesize(w))


def test_pickle_reader_keeps_no_state_between_files(tmp_path):
    evil = b"\x80\x04cdnnlib.util\nEasyDict\nN}\x8c\x07__new__cevil\nname\ns\x86b."
    (tmp_path / "evil.pkl").write_bytes(evil)
    with pytest.raises(ValueError, match="sets the state"):
        invert.load_generator(tmp_path / "evil.pkl")
    assert (
        invert.load_generator(write(tmp_path / "g.pkl", {"G_ema": nvidia(stylegan2())})).resolution
        == 16
    )


def nested_key(depth):
    pairs = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86\x940" for i in range(depth))
    return b"\x80\x04}K\x01\x85\x940" + pairs + b"h" + bytes([depth]) + b"K\x01s."


def state_of_a_tensor():
    empty = Call("torch.storage", "_load_from_bytes", storage_blob(0, b""))
    tensor = Call("torch._utils", "_rebuild_tensor_v2", empty, 0, (0,), (1,))
    tensor.reduced = (*tensor.reduced, (empty, 0, (2**31,), (1,)))
    return pickle.dumps(tensor)


def deep_names(depth=400):
    name, node = "n" * 20_000, {"_buffers": {"x": 1}}
    for _ in range(depth):
        node = {"_modules": {name: persistent("M", node)}}
    return {"G_ema": persistent("Generator", node)}


def doubled_text(levels=40):
    text = ["a"]
    for _ in range(levels):
        text = [text, text]
    meta = {"class_name": text, "state": {}, "type": "class", "version": 6, "module_src": ""}
    return {"G_ema": Call("torch_utils.persistence", "_reconstruct_persistent_obj", meta)}


def one_storage_many_times():
    blob = storage_blob(2**18, b"\0" * 2**20)
    return {"D": [Call("torch.storage", "_load_from_bytes", blob) for _ in range(1000)]}


def long_name_many_times():
    name = b"X" + struct.pack("<I", 2**20) + b"n" * 2**20
    return b"\x80\x04" + name + b"q\x00]" + b"h\x00h\x00\x93a" * 2000 + b"."


def doubled_name():
    pairs = b"".join(
        b"]h" + bytes([i]) + b"ah" + bytes([i]) + b"aq" + bytes([i + 1]) for i in range(40)
    )
    return b"\x80\x04]q\x00" + pairs + b"cdill._dill\n_import_module\n(h\x28tR."


@pytest.mark.parametrize(
    "content",
    [
        nested_key(60),
        *(b"\x80\x04}r" + struct.pack("<I", n) + b"." for n in (2**27, 2**32 - 1)),
        deep_names,
        doubled_text,
        one_storage_many_times,
        long_name_many_times,
        doubled_name,
        state_of_a_tensor,
    ],
    ids=lambda c: getattr(c, "__name__", "bytes"),
)
def test_short_files_take_little_time_and_memory(tmp_path, content):
    """In a process of its own, with little memory and little time."""
    made = content() if callable(content) else content
    path = tmp_path / "g.pkl"
    if isinstance(made, bytes):
        path.write_bytes(made)
    else:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(20_000)
        write(path, made)
        sys.setrecursionlimit(limit)
    process = Forked(tmp_path, load_once, path)
    exit_code, errors = process.wait()
    assert exit_code == 0, errors
    assert process.output.count("\n") == 1
    assert "memory" not in process.output.lower()
