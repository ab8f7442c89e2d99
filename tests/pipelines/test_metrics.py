"""Fréchet distances, NIQE and crops, against their definitions."""

from pathlib import Path

import numpy
import pytest
import scipy.linalg
import scipy.stats
import torch

from pipelines import metrics, niqe, realism
from tests.conftest import picture, rng

from .shell import start_bench

ROOT = Path(__file__).parent.parent.parent


def test_frechet_distance_equals_its_formula(monkeypatch):
    class Colour(torch.nn.Module):
        num_features = 3

        def forward(self, x):
            return x.mean((2, 3))

    monkeypatch.setattr(realism, "Vgg", Colour)
    a, b = (torch.rand(200, 3, 4, 4, generator=rng(i)) ** (i + 1) for i in range(2))
    (m1, c1), (m2, c2) = (
        (f.mean(0), numpy.cov(f.T)) for f in (x.mean((2, 3)).double().numpy() for x in (a, b))
    )
    expected = numpy.square(m1 - m2).sum() + numpy.trace(
        c1 + c2 - 2 * scipy.linalg.sqrtm(c1 @ c2).real
    )
    frechet = realism.Frechet(None)
    real = frechet.of([b[:50], b[50:]])
    assert numpy.allclose(real.mean, m2) and numpy.allclose(real.covariance, c2)
    assert frechet.between([a[:50], a[50:]], real) == pytest.approx(expected, rel=1e-2, abs=1e-4)
    assert (
        frechet.between([a[:1]], real) is None and frechet.between([a], frechet.of([b[:1]])) is None
    )


def test_frechet_distance_accepts_statistics_files(tmp_path, monkeypatch):
    frechet, real = realism.Frechet(None), torch.rand(40, 3, 32, 32, generator=rng(1))
    found = [torch.rand(10, 3, 32, 32, generator=rng(2)) ** 2]
    features = realism.Vgg()(real).double()
    numpy.savez(tmp_path / "s.npz", mu=features.mean(0).numpy(), sigma=features.T.cov().numpy())
    direct = frechet.between(found, frechet.of([real]))
    assert frechet.between(found, realism.statistics(tmp_path / "s.npz")) == pytest.approx(
        direct, rel=1e-3
    )
    numpy.savez(tmp_path / "t.npz", mu=numpy.zeros(3), sigma=numpy.eye(3))
    with pytest.raises(ValueError, match="3 features"):
        frechet.between(found, realism.statistics(tmp_path / "t.npz"))
    numpy.savez(tmp_path / "u.npz", mu=numpy.zeros(3), sigma=numpy.eye(2))
    (tmp_path / "v.npz").write_text("no")
    for name in ("u", "v"):
        with pytest.raises(ValueError, match="do not fit|neither a folder"):
            realism.statistics(tmp_path / f"{name}.npz")


@pytest.mark.parametrize("shape", [0.6, 1.0, 2.0, 4.0])
def test_niqe_fits_generalised_gaussians(shape):
    x = scipy.stats.gennorm.rvs(shape, scale=1.7, size=200_000, random_state=0)
    found = [float(v) for v in niqe.generalised_gaussian(torch.from_numpy(x))]
    assert found == pytest.approx([shape, 1.7, 1.7], rel=2e-2)
    left = numpy.abs(x[: len(x) // 3]) * -2  # twice as wide to the left
    right = numpy.abs(x[len(x) // 3 : len(x) // 2])
    _, wide, narrow = niqe.generalised_gaussian(torch.from_numpy(numpy.concatenate([left, right])))
    assert float(wide / narrow) == pytest.approx(2, rel=2e-2)


def test_niqe_fits_each_patch_on_its_own():
    patches = torch.randn(5, 16, 16, generator=rng(), dtype=torch.float64)
    patches[1] *= patches[1].abs()
    patches[2] = 0
    alone = [niqe.fits(patch[None]) for patch in patches]
    assert torch.allclose(niqe.fits(patches), torch.cat(alone), rtol=1e-12)


def test_niqe_grows_with_damage():
    model = niqe.Model.of([picture(i) for i in range(6)], niqe.side_of(128))
    x = picture(9)
    noise = torch.randn(x.shape, generator=rng())
    blurred = torch.nn.functional.avg_pool2d(x, 5, 1, 2)
    clean, *damaged = (model.distance(image.clamp(0, 1)) for image in (x, x + 0.1 * noise, blurred))
    assert clean < min(damaged)
    flat, _ = niqe.mscn(torch.full((1, 1, 32, 32), 7.0, dtype=torch.float64))
    assert flat.abs().max() < 1e-9


def test_crops_lie_inside_and_repeat():
    assert [str(realism.Crops.of(side)).split(" per")[0] for side in (1024, 256, 128)] == [
        "1000 crops of 128×128",
        "250 crops of 64×64",
        "64 crops of 32×32",
    ]
    image = torch.arange(40 * 40.0).view(1, 1, 40, 40)
    crops = realism.Crops(64, 32)
    taken = crops.take(image, "a")
    corners = taken[:, 0, 0, 0]
    assert taken.shape == (64, 1, 32, 32) and torch.equal(taken, crops.take(image, "a"))
    assert (corners // 40).max() == 8 and (corners // 40).min() == 0 and (corners % 40).max() == 8
    assert not torch.equal(taken, crops.take(image, "b"))


def test_tables_note_how_realism_is_measured(tmp_path):
    done = start_bench(tmp_path / "b", tasks="UNAP", methods="pulse")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "b" / "tables.md").read_text()
    for words in ("64 crops of 32×32", "patch-FD (VGG)", "no FID"):
        assert words in text
    lines = text.splitlines()
    for metric in ("patch-FD (VGG)", "FD (VGG)", "NIQE (fitted here)"):
        header = next(line for line in lines if f"| {metric} pulse |" in line)
        column = header.split("|").index(f" {metric} pulse ")
        row = lines[lines.index(header) + 2]
        assert float(row.split("|")[column].strip(" *")) > 0


def test_scores_equal_their_definitions():
    clean, restored = picture(0), (picture(0) + 0.1).clamp(0, 1)
    values = metrics.scores(restored, clean, restored, clean)
    error = numpy.square((restored - clean).numpy()).mean()
    assert values["psnr"] == [pytest.approx(-10 * numpy.log10(error), abs=1e-3)]
    assert values["accuracy"] == values["fidelity"] and "identity" not in values
    assert metrics.scores(restored, None, restored, clean).keys() == {"fidelity"}


def test_metric_names_are_distinct_and_in_the_docs():
    names = [metric.name for metric in metrics.METRICS]
    assert len(set(names)) == len(names)
    page = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8").lower()
    for name in names:
        assert name.removesuffix(" (fitted here)").lower() in page
