"""Priors saved with a model card, pushed to huggingface.co, and loaded by their id."""

import shutil
import sys

import pytest
import torch

import degrade
import invert
from invert import Card
from invert.hub import CARD_FILE, PRIOR_FILE
from invert.networks.drunet import UNetRes

from .checkpoints import stylegan2

NAME = "someone/small"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = Card("portraits of nobody, CC0", "cc0-1.0", "Knows no one.", {25: 31.25}, "two pictures")


def denoiser():
    return invert.Denoiser(UNetRes(3, (4, 6, 8, 10), 1), sigma_range=(0.01, 0.5))


class ToImage(torch.nn.Module):
    """A generator that is no class of this package."""

    def forward(self, z):
        return z.view(-1, 1, 2, 2)


def same_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("make", [denoiser, stylegan2])
def test_hub_folder_loads_with_the_same_weights(make, tmp_path):
    prior = make()
    folder = prior.save_pretrained(tmp_path / "small", CARD)
    assert sorted(path.name for path in folder.iterdir()) == sorted([CARD_FILE, PRIOR_FILE])
    assert same_weights(invert.load_prior(folder), prior)


def test_hub_prior_without_our_network_is_not_saved(tmp_path):
    module = invert.wrap(ToImage(), z_dim=4)
    with pytest.raises(ValueError, match="cannot be saved; save its own module"):
        module.save(tmp_path / "a.safetensors")
    other = invert.Denoiser(torch.nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="Conv2d cannot be saved, only one with a DRUNet"):
        other.save_pretrained(tmp_path, CARD)


def test_hub_card_states_what_the_prior_declares():
    prior = denoiser()
    text = CARD.text(NAME, prior)
    count = sum(tensor.numel() for tensor in prior.parameters())
    assert f"| parameters | {count:,} |" in text
    assert "| noise levels | σ from 0.01 to 0.5, for images in [0, 1] |" in text
    assert "portraits of nobody, CC0" in text and "| 25 | 31.25 dB |" in text
    assert "Gaussian noise on two pictures:" in text
    front, _ = text.removeprefix("---\n").split("---\n", 1)
    assert "license: cc0-1.0\n" in front and "- denoiser\n" in front
    assert f'invert.load_prior("{NAME}")' in text


def test_hub_card_claims_no_measurement_without_one():
    text = Card("my pictures", "mit").text(NAME, denoiser())
    assert "Nothing was measured." in text and "dB" not in text
    without_words = ({"data": " ", "licence": "mit"}, {"data": "mine", "licence": ""})
    for missing in (*without_words, {"data": 3, "licence": "mit"}):
        with pytest.raises(ValueError, match="must say something"):
            Card(**missing)


@pytest.mark.parametrize("licence", ["mit\nlibrary_name: other", "a: b", "'mit", "[mit]"])
def test_hub_card_refuses_a_licence_of_more_than_a_word(licence):
    with pytest.raises(ValueError, match="must be one word") as caught:
        Card("mine", licence)
    assert "\n" not in str(caught.value)


def test_hub_card_refuses_a_psnr_that_is_not_finite():
    with pytest.raises(ValueError, match="psnr=.25: nan. must be finite numbers"):
        Card("mine", "mit", psnr={25: float("nan")})


class Server:
    """Stands in for huggingface.co behind huggingface_hub's functions."""

    def __init__(self, folder):
        self.folder = folder
        self.made = []

    def create_repo(self, name, *, private, exist_ok):
        self.made.append((name, private, exist_ok))

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        assert commit_message == "Push a denoiser of degrade"
        owner, name = repo_id.split("/")
        repository = self.folder / f"models--{owner}--{name}"
        shutil.copytree(folder_path, repository / "snapshots" / COMMIT)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """What is uploaded lies in the real library's cache, which it reads without a network."""
    library = pytest.importorskip("huggingface_hub")
    server = Server(tmp_path)
    monkeypatch.setattr(library, "create_repo", server.create_repo)
    monkeypatch.setattr(library, "upload_folder", server.upload_folder)
    monkeypatch.setattr(library.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(library.constants, "HF_HUB_OFFLINE", True)
    return server


def test_hub_prior_is_pushed_and_loaded_by_its_id(server):
    prior = denoiser()
    assert prior.push_to_hub(NAME, CARD, private=True) == NAME
    assert server.made == [(NAME, True, True)]
    for name in (NAME, f"{NAME}@{COMMIT}"):
        assert same_weights(invert.load_prior(name), prior)
    y = torch.rand(1, 3, 16, 16)
    result = invert.restore(y, degrade.parse("gaussian:0.1"), invert.load_prior(NAME), "pnp")
    assert result.image.shape == y.shape


def test_hub_push_fails_in_one_line(server, monkeypatch):
    import huggingface_hub

    def refuse(name, **options):
        raise ConnectionError("401\nlog in first")

    monkeypatch.setattr(huggingface_hub, "create_repo", refuse)
    with pytest.raises(ValueError) as caught:
        denoiser().push_to_hub(NAME, CARD)
    expected = f"{NAME} cannot be pushed to huggingface.co: 401 log in first"
    assert str(caught.value) == expected
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'degrade\[hub\]'"):
        denoiser().push_to_hub(NAME, CARD)
