"""The identity loss, with a small embedding that can be worked out by hand."""

import sys
import types
import warnings

import pytest
import torch
from torch import nn

import invert
from degrade import Gaussian, parse
from invert.loss import SamePerson, View
from invert.problem import Problem
from tests.conftest import picture, rng


class MeanColour(nn.Module):
    """The mean colour of the crop, in [-1, 1]."""

    def forward(self, x):
        assert x.shape[1:] == (3, 112, 112)
        return x.mean((2, 3))


def loss(identity, y, prediction, image):
    problem = Problem(y, parse("clamp"), None, tuple(range(len(y))), identity=identity)
    return SamePerson().prepare(problem)(View(prediction, image, None, {}, None))


def flat(*colours):
    return torch.tensor(colours)[:, :, None, None].expand(-1, -1, 128, 128)


def test_identity_compares_observation_or_reference():
    red, green, dark = flat((1.0, 0.5, 0.5)), flat((0.5, 1.0, 0.5)), flat((0.0, 0.5, 0.5))
    alone = invert.FaceIdentity(MeanColour())
    zero, one, two = (pytest.approx(number, abs=1e-6) for number in (0, 1, 2))
    # without a reference, the prediction is compared with the observation
    assert loss(alone, red, red, green).item() == zero
    assert loss(alone, red, green, red).item() == one  # the embeddings are at a right angle
    assert loss(alone, red, dark, red).item() == two
    with_reference = invert.FaceIdentity(MeanColour(), reference=green)
    # with a reference, the image is compared with the reference
    assert loss(with_reference, red, red, green).item() == zero
    assert loss(None, red, dark, dark).item() == 0
    assert with_reference.similarity(red, dark).item() == pytest.approx(-1, abs=1e-6)


def test_signed_images_are_warned_about(small):
    """A restoration and a reference photo; noise is no reason, not even on a dark picture."""
    x = parse("blur:gaussian,1")(
        picture(0)[..., 40:72, 48:80]
    )  # its values are on no grid of 8 bits
    noisy = Gaussian(0.5)(0.1 * x, 3)
    solve = dict(steps=0, perceptual="alex")
    with pytest.warns(UserWarning, match=r"in \[-1, 1\], give \(observation \+ 1\) / 2"):
        invert.restore(2 * x - 1, parse("identity"), small, **solve)
    with pytest.warns(UserWarning, match=r"give \(reference \+ 1\) / 2"):
        invert.FaceIdentity(MeanColour(), 2 * x - 1)
    with pytest.raises(ValueError, match=r"give \(reference \+ 1\) / 2"):
        invert.FaceIdentity(MeanColour(), 2 * picture(0) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        invert.restore(noisy, Gaussian(0.5), small, **solve)
        invert.FaceIdentity(MeanColour(), 1.001 * x)


def test_face_identity_makes_the_result_similar(small):
    """The observation is grey, so that the colour can come only from the reference photo."""
    f, y = parse("gray"), parse("gray")(picture(0)[..., 40:72, 48:80])
    photo = small.synthesize(small.some_w(5)[0][:1]).clamp(0, 1)
    identity = invert.FaceIdentity(MeanColour(), photo)
    args = dict(method="adam-id", steps=6, perceptual="alex")
    plain = invert.restore(y, f, small, **args)
    guided = invert.restore(y, f, small, **args, identity=identity)
    assert identity.similarity(guided.image, photo) > identity.similarity(plain.image, photo)
    batch = invert.restore(torch.cat([y, y]), f, small, **args, seed=[0, 0], identity=identity)
    assert torch.allclose(batch.history[:3, 1], guided.history[:3, 0], rtol=1e-2)


def test_identity_networks_load_from_files(tmp_path, monkeypatch):
    torch.jit.script(MeanColour()).save(str(tmp_path / "e.pt"))
    module = invert.load_embedding(tmp_path / "e.pt")
    x = torch.rand(2, 3, 112, 112, generator=rng())
    assert torch.allclose(module(x), x.mean((2, 3)))
    (tmp_path / "bad.pt").write_bytes(b"no network")
    for name, words in [("none.pt", "is no file"), ("bad.pt", "no TorchScript")]:
        with pytest.raises(ValueError, match=words):
            invert.load_embedding(tmp_path / name)

    (tmp_path / "e.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="needs onnxruntime"):
        invert.load_embedding(tmp_path / "e.onnx")
    session = types.SimpleNamespace(
        get_inputs=lambda: [types.SimpleNamespace(name="x")],
        run=lambda names, feeds: [feeds["x"].mean((2, 3))],
    )
    runtime = types.SimpleNamespace(InferenceSession=lambda path, providers: session)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    module = invert.load_embedding(tmp_path / "e.onnx")
    assert torch.allclose(module(x), x.mean((2, 3)))
    with pytest.raises(ValueError, match="has no gradient"):
        module(x.requires_grad_())
