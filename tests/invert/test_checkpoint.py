"""Files of all kinds load, and the generators give the right images."""

import argparse
import functools
import http.server
import json
import os
import threading
from hashlib import sha256

import pytest
import torch
from safetensors.torch import load_file, save_file

import invert
from tests.conftest import rng

from .checkpoints import (
    SHARED_LAYERS,
    Call,
    conditional_xl,
    foreign_discriminator,
    nvidia,
    randomize,
    rosinality,
    stylegan2,
    stylegan3,
    write,
)


def same_generator(G, H):
    """Every tensor and the images of the same codes, bit for bit."""
    ours, theirs = G.state_dict(), H.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    w = torch.randn(2, G.num_ws, G.w_dim, generator=rng())
    return torch.equal(G.synthesize(w), H.synthesize(w)) and not any(
        p.requires_grad for p in H.parameters()
    )


def odd_stylegan3():
    """A generator with attributes that only the file determines, not the shapes of its tensors."""
    G = stylegan3(SHARED_LAYERS)
    config = json.loads(json.dumps(G.config)) | {"output_scale": 0.4}
    config["input"] |= {"size": config["input"]["size"], "sampling_rate": 13.0, "bandwidth": 0.1}
    for layer in config["layers"]:
        layer["clamp"] = 1.5
    left, right, top, bottom = config["layers"][1]["padding"]
    config["layers"][1]["padding"] = [left + 1, right - 1, top + 2, bottom - 2]
    config.pop("family")
    return randomize(invert.StyleGAN3(**config))


GENERATORS = {
    "skip": stylegan2,
    "resnet": functools.partial(stylegan2, architecture="resnet", clamp=0.7),  # values reach it
    "resnet, free": functools.partial(stylegan2, architecture="resnet"),
    "odd mapping": functools.partial(stylegan2, lr_multiplier=0.3, layer_features=9),
    "orig": functools.partial(stylegan2, architecture="orig", noise=False),
    "grey, classes": functools.partial(stylegan2, channels=1, c_dim=3),
    "T": functools.partial(stylegan3, SHARED_LAYERS),
    "R": functools.partial(stylegan3, SHARED_LAYERS, kernel=1, radial=True),
    "odd layers": odd_stylegan3,
    "XL": conditional_xl,
    "XL, fewer classes than rows": functools.partial(conditional_xl, c_dim=3),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", GENERATORS)
def test_nvidia_pickles_load(tmp_path, kind, protocol):
    G = GENERATORS[kind]()
    content = {
        "G": None,
        "D": foreign_discriminator(),
        "G_ema": nvidia(G),
        "augment_pipe": None,
        "training_set_kwargs": {"path": "x"},
        "seen": Call("dill._dill", "_load_type", "set"),
    }
    H = invert.load_generator(write(tmp_path / "g.pkl", content, protocol))
    assert type(H) is type(G) and same_generator(G, H)
    z = torch.randn(2, G.z_dim, generator=rng())
    label = [1, 2] if G.c_dim else None
    assert torch.allclose(G.mapping(z, label), H.mapping(z, label), atol=1e-6)


@pytest.mark.parametrize("kind", GENERATORS)
def test_save_generator_keeps_every_bit(tmp_path, kind):
    G = invert.load_generator(write(tmp_path / "g.pkl", {"G_ema": nvidia(GENERATORS[kind]())}))
    invert.save_generator(G, tmp_path / "g.safetensors")
    assert same_generator(G, invert.load_generator(tmp_path / "g.safetensors"))


@pytest.mark.parametrize("kind", ["skip", "resnet, free", "grey, classes", "T", "R"])
def test_state_dict_with_nvidia_names_loads(tmp_path, kind):
    G = GENERATORS[kind]()
    save_file(G.state_dict(), tmp_path / "s.safetensors")
    torch.save(G.state_dict(), tmp_path / "s.pt")
    torch.save(G.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("s.safetensors", "s.pt", "old.pt"):
        assert same_generator(G, invert.load_generator(tmp_path / name))


@pytest.mark.parametrize("trained", [False, True])
def test_rosinality_files_load(tmp_path, trained):
    G = stylegan2(resolution=32)
    content = {"g_ema": rosinality(G), "latent_avg": G.w_avg}
    if trained:
        content = {
            "g_ema": rosinality(G),
            "g_optim": {},
            "args": argparse.Namespace(size=32),
            "ada_aug_p": 0.0,
        }
    torch.save(content, tmp_path / "r.pt")
    H = invert.load_generator(tmp_path / "r.pt")
    w = torch.randn(2, G.num_ws, 7, generator=rng())
    assert torch.allclose(G.synthesize(w), H.synthesize(w), atol=1e-5)
    if trained:  # the file has no mean of W, so the loader estimates it
        z = torch.randn(40_000, 5, generator=rng(9))
        assert torch.allclose(H.w_avg, G.mapping(z).mean(0), atol=0.05)
    else:
        assert torch.equal(H.w_avg, G.w_avg)


def test_pickle_of_real_structure_loads():
    """A pickle from the published code, its source text blanked; values computed by that code."""
    data = os.path.join(os.path.dirname(__file__), "..", "data")
    G = invert.load_generator(os.path.join(data, "nvlabs-like.pkl"))
    expected = load_file(os.path.join(data, "nvlabs-like.expected.safetensors"))
    assert torch.allclose(G.mapping(expected["z"]), expected["ws"][:, 0], atol=1e-5)
    assert torch.allclose(G.synthesize(expected["ws"]) * 2 - 1, expected["image"], atol=1e-4)


def test_half_precision_files_become_float32(tmp_path):
    G = stylegan2()
    save_file({k: v.half() for k, v in G.state_dict().items()}, tmp_path / "h.safetensors")
    assert (
        invert.load_generator(tmp_path / "h.safetensors").synthesize(torch.zeros(1, 7)).dtype
        == torch.float32
    )


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


def test_download_is_fetched_once_and_verified(served, tmp_path):
    folder, address = served
    path = write(folder / "g.pkl", {"G_ema": nvidia(stylegan2())})
    digest = sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="is not the file with that sha256"):
        invert.load_generator(f"{address}/g.pkl#sha256:{'0' * 64}")
    assert not list((tmp_path / "cache").iterdir())  # the wrong file is not kept
    G = invert.load_generator(f"{address}/g.pkl#sha256:{digest}")
    path.unlink()
    assert same_generator(G, invert.load_generator(f"{address}/g.pkl"))
    for bad, words in [("/none.pkl", "cannot be fetched"), ("/g.pkl#md5:1", "sha256: and 64")]:
        with pytest.raises(ValueError, match=words):
            invert.load_generator(address + bad)


def test_damaged_config_is_named(tmp_path):
    state = stylegan2().state_dict()
    for config, words in [
        ("{", "damaged"),
        (json.dumps({"family": "x"}), "family 'x'"),
        ("{}", "z_dim"),
        ("[1]", "no dictionary"),
    ]:
        save_file(state, tmp_path / "c.safetensors", {"config": config})
        with pytest.raises(ValueError, match=words):
            invert.load_generator(tmp_path / "c.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="none of the kinds"):
        invert.load_generator(tmp_path / "a.safetensors")


def test_stylegan_xl_drops_unused_class_table(tmp_path):
    G = stylegan3(SHARED_LAYERS)
    content = nvidia(G)
    mapping = content.reduced[1][0]["state"]["_modules"]["mapping"].reduced[1][0]["state"]
    mapping["_modules"]["embed"] = torch.nn.Embedding(4, 9)
    H = invert.load_generator(write(tmp_path / "g.pkl", {"G_ema": content}))
    assert H.c_dim == 0 and same_generator(G, H)


@pytest.mark.parametrize("padding", range(32))
def test_safetensors_header_length_is_no_other_format(tmp_path, padding):
    G = stylegan2(resolution=4)
    config = {"config": json.dumps(G.config), "pad": "x" * 8 * padding}
    save_file(G.state_dict(), tmp_path / "g.safetensors", config)
    assert same_generator(G, invert.load_generator(tmp_path / "g.safetensors"))


def test_save_generator_with_shared_filters(tmp_path):
    G = stylegan2()
    state = G.state_dict()
    shared = {
        k: state["synthesis.b8.resample_filter"] if "resample_filter" in k else v
        for k, v in state.items()
    }
    torch.save(shared, tmp_path / "g.pt")
    invert.save_generator(invert.load_generator(tmp_path / "g.pt"), tmp_path / "g.safetensors")
    assert same_generator(G, invert.load_generator(tmp_path / "g.safetensors"))


def test_w_spread_is_measured_from_class_means():
    G = conditional_xl()
    w, label = G.some_w(4096)
    expected = (w - G.w_avg[label]).norm(dim=1).mean()
    assert G.w_spread == pytest.approx(float(expected), rel=1e-5)
    assert len(set(label.tolist())) == 4


def test_download_that_breaks_off_is_not_kept(served, tmp_path, monkeypatch):
    folder, address = served
    whole = write(folder / "g.pkl", {"G_ema": nvidia(stylegan2())}).read_bytes()
    send = http.server.SimpleHTTPRequestHandler.copyfile
    half = lambda self, source, target: target.write(source.read()[: len(whole) // 2])  # noqa: E731
    with monkeypatch.context() as broken:
        broken.setattr(http.server.SimpleHTTPRequestHandler, "copyfile", half)
        with pytest.raises(ValueError, match="broke off|cannot be fetched"):
            invert.load_generator(f"{address}/g.pkl")
    assert not list((tmp_path / "cache").iterdir())
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "copyfile", send)
    assert invert.load_generator(f"{address}/g.pkl").resolution == 16


def test_cached_download_is_verified_again(served, tmp_path):
    folder, address = served
    write(folder / "g.pkl", {"G_ema": nvidia(stylegan2())})
    invert.load_generator(f"{address}/g.pkl")
    with pytest.raises(ValueError, match="delete it"):
        invert.load_generator(f"{address}/g.pkl#sha256:{'0' * 64}")


@pytest.mark.parametrize(
    "address", ["http://localhost:abc/x.pkl", "http://a b/x.pkl", f"http://localhost:1/{'x' * 300}"]
)
def test_download_error_is_one_line(tmp_path, monkeypatch, address):
    monkeypatch.setenv("DEGRADE_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="cannot be fetched") as error:
        invert.load_generator(address)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        {"mapping": {"num_layers": 10**7}},
        {"mapping": {"num_layers": "x"}},
        {"synthesis": {"conv_clamp": "x"}},
        {"synthesis": {"conv_clamp": float("nan")}},
        {"synthesis": {"conv_clamp": -1}},
        {"img_resolution": 2**4000},
        {"family": []},
        {"z_dim": -1},
        {"mapping": {"pretrained": [4, 9, 100]}, "c_dim": 3},
        {"w_dim": 2**30},
    ],
)
def test_config_of_huge_sizes_is_refused_at_once(tmp_path, config):
    G = stylegan2()
    state = {k: v for k, v in G.state_dict().items() if k != "mapping.w_avg"}
    save_file(state, tmp_path / "g.safetensors", {"config": json.dumps(G.config | config)})
    with pytest.raises(ValueError) as error:
        invert.load_generator(tmp_path / "g.safetensors")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"mapping.fc0.weight": torch.zeros(1).expand(2**16, 2**16)},
        {"mapping.fc0.weight": torch.zeros(5, 5).to_sparse()},
        {"mapping.fc0.weight": torch.zeros(7, 5, device="meta")},
        {1: torch.zeros(1)},
        {"another": torch.zeros(1)},
        {"synthesis.b8.resample_filter": torch.arange(16.0).view(4, 4)},
        {"mapping.fc0.weight": torch.zeros(7, 5, dtype=torch.complex64)},
    ],
)
def test_state_dict_of_odd_tensors_is_one_line_error(tmp_path, change):
    torch.save({**stylegan2().state_dict(), **change}, tmp_path / "g.pt")
    with pytest.raises(ValueError) as error:
        invert.load_generator(tmp_path / "g.pt")
    assert "\n" not in str(error.value)
