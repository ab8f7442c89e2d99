"""`degrade bench`: durable rows, equal observations, honest tables, and a page that works."""

import csv
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from functools import partial

import numpy
import pytest
import scipy.linalg
import scipy.stats
import torch
from PIL import Image

import invert
from pipelines import bench, files, metrics, niqe, tasks
from pipelines.bench import Bench, Cell, Settings
from pipelines.engine import Local
from pipelines.results import Table
from pipelines.solver import Solver
from tests.conftest import AVATARS, picture, rng

from .shell import pixels, run

QUICK = ("--perceptual", "alex", "--steps", 2, "--images", AVATARS, "--batch", 2)
TASKS = "upsampling/XS,upsampling/XL,denoising/M,UNAP"


def start(output, *more, tasks=TASKS, methods="robust,pulse", limit=2):
    return run("bench", *QUICK, "-o", output, "--tasks", tasks, "--methods", methods, "--limit", limit, *more)


def rows_of(folder):
    """All but the times."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return {(r["task"], r["method"], r["image"]): {k: v for k, v in r.items() if k != "seconds"} for r in rows}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    result = start(folder)
    assert result.exit_code == 0, result.output
    return folder


def test_every_cell_is_computed_and_written_down(results):
    rows = rows_of(results)
    assert len(rows) == 4 * 2 * 2
    with (results / "results.csv").open() as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == 16 and {float(r["accuracy"]) for r in listed} == {r["accuracy"] for r in rows.values()}
    for (task, method, image), row in rows.items():
        folder = results / "images" / task.replace("/", "-")
        restored, clean = files.read_image(folder / method / f"{image}.png"), picture(int(image))
        assert row["accuracy"] == pytest.approx(invert.perceptual.lpips(restored, clean).item(), abs=1e-4)
        error = numpy.square(restored.numpy() - clean.numpy()).mean()
        assert row["psnr"] == pytest.approx(-10 * numpy.log10(error), abs=1e-3)
        assert row["steps"] == 2 and row["finite"] and len(row["loss"]) == 2
    small = files.read_image(results / "images" / "upsampling-XL" / "observed" / "000.png")
    assert small.shape == (1, 3, 4, 4) and rows["upsampling/XL", "robust", "000"]["fidelity"] > 0


def test_the_tables_say_what_was_done_and_mark_the_best(results):
    text = (results / "tables.md").read_text()
    for words in (
        "2 pictures",
        "Shortened: 2 steps",
        "alex in the loss",
        "64 crops of 32×32",
        "patch-FD (VGG)",
        "no FID",
    ):
        assert words in text
    rows = rows_of(results)
    first = next(line for line in text.splitlines() if line.startswith("| UNAP"))
    cells = [cell.strip() for cell in first.strip("|").split("|")][1:3]
    scores = [[rows["UNAP", m, image]["accuracy"] for image in ("000", "001")] for m in ("robust", "pulse")]
    means = [numpy.mean(pair) for pair in scores]
    assert [float(cell.strip("*")) for cell in cells] == pytest.approx(means, abs=6e-4)
    assert [cell.startswith("**") for cell in cells] == [mean == min(means) for mean in means]


def test_an_interrupted_benchmark_goes_on_and_ends_the_same(results, tmp_path):
    class Stop(Exception):
        pass

    generator, sources = invert.load_generator("avatars-128"), files.gather([AVATARS])[:2]
    mine = Bench(tmp_path / "b", Settings(perceptual="alex", steps=2))
    methods = bench.methods_of("robust,pulse")
    cells = [Cell(task, label, method) for task in TASKS.split(",") for label, method in methods.items()]
    reached = []

    def go_on(report):
        solver = partial(Solver, generator, step=reached.append)
        mine.run(sources, cells, Local(), solver, generator.resolution, batch=2, report=report)

    def stop(done, total, what):
        if done == 6:
            raise Stop

    with pytest.raises(Stop):
        go_on(stop)
    assert len(mine.rows()) == 6
    with mine.rows_path.open("a") as file:
        file.write('{"task": "UNAP", "meth')  # as a kill leaves it
    shutil.rmtree(tmp_path / "b" / "images" / "upsampling-XS" / "pulse")  # what is done is not looked at again
    reached.clear()
    go_on(lambda done, total, what: None)
    assert len(reached) == 5 * 2  # steps of the five batches that were left
    mine = {(r["task"], r["method"], r["image"]): {k: v for k, v in r.items() if k != "seconds"} for r in mine.rows()}
    assert mine == rows_of(results)


def test_other_settings_are_refused_with_the_difference(results):
    for change, words in [(("--seed", 4), "seed 0 → 4"), (("--oracle-mask",), "oracle_mask False → True")]:
        result = start(results, *change)
        assert result.exit_code == 2 and words in result.stderr
    assert start(results, "--quiet").output == ""  # the same again: nothing to do


def test_observations_depend_on_task_and_picture_alone(results, tmp_path):
    assert start(tmp_path / "one", tasks="denoising/M", methods="brgm", limit=1).exit_code == 0
    for folder in ("clean", "denoising-M/observed"):
        one, two = (pixels(root / "images" / folder / "000.png") for root in (tmp_path / "one", results))
        assert (one == two).all()


def test_a_batch_that_does_not_fit_is_halved(tmp_path, monkeypatch):
    whole = invert.restore

    def tight(observed, *args, **options):
        if len(observed) > 1:
            raise torch.OutOfMemoryError("too much")
        return whole(observed, *args, **options)

    monkeypatch.setattr(invert, "restore", tight)
    assert start(tmp_path / "b", tasks="UNAP", methods="robust").exit_code == 0
    rows = rows_of(tmp_path / "b")
    assert {row["batch"] for row in rows.values()} == {1}
    monkeypatch.undo()
    assert start(tmp_path / "w", tasks="UNAP", methods="robust").exit_code == 0
    for key, row in rows_of(tmp_path / "w").items():
        assert row["accuracy"] == pytest.approx(rows[key]["accuracy"], abs=2e-2)


def test_a_batch_that_fails_is_named_and_does_not_stop_the_others(tmp_path, monkeypatch):
    whole = invert.restore

    def fails(observed, operator, generator, method, *args, **options):
        if method == invert.METHODS["pulse"]:
            raise torch.OutOfMemoryError("too much")
        return whole(observed, operator, generator, method, *args, **options)

    monkeypatch.setattr(invert, "restore", fails)
    result = start(tmp_path / "b", tasks="UNAP,UP", methods="pulse,brgm", limit=1)
    assert result.exit_code == 3 and len(rows_of(tmp_path / "b")) == 2 and (tmp_path / "b" / "report.html").exists()
    assert "2 of the batches failed; the first: UNAP, pulse, 000: one picture does not fit" in result.stderr
    monkeypatch.undo()
    assert start(tmp_path / "b", tasks="UNAP,UP", methods="pulse,brgm", limit=1).exit_code == 0
    assert len(rows_of(tmp_path / "b")) == 4
    assert start(tmp_path / "b", tasks="UP", methods="brgm").exit_code == 0
    assert "Not all cells are of the same pictures: of 1 to 2." in (tmp_path / "b" / "tables.md").read_text()


def test_another_picture_of_the_same_name_is_another(tmp_path):
    (tmp_path / "in").mkdir()
    command = ["bench", "--images", tmp_path / "in", "-o", tmp_path / "b", "--tasks", "UNAP", "--methods", "brgm"]
    found = []
    for number in ("000", "001"):
        shutil.copy(AVATARS / f"{number}.png", tmp_path / "in" / "x.png")
        assert run(*command, "--perceptual", "alex", "--steps", 1).exit_code == 0
        found.append(Bench(tmp_path / "b", Settings(perceptual="alex", steps=1)).rows())
        assert (pixels(tmp_path / "b" / "images" / "clean" / "x.png") == pixels(AVATARS / f"{number}.png")).all()
    assert [len(rows) for rows in found] == [1, 1] and found[0][0]["accuracy"] != found[1][0]["accuracy"]


@pytest.mark.parametrize("change, words", [
    ({"tasks": "denoising/XXL"}, "'denoising/XXL' is none of"), ({"methods": "magic"}, "method='magic'"),
    ({"methods": "ddrm"}, "needs a diffusion model"),
])  # fmt: skip
def test_mistakes_are_one_line(tmp_path, change, words):
    result = start(tmp_path / "b", **change)
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "b").exists()


def test_the_papers_tasks():
    assert len(tasks.tasks_of("all")) == 31 and len(tasks.tasks_of("single")) == 20
    assert len(tasks.tasks_of("composed")) == 11 and "UNAP" in tasks.tasks_of("composed")
    assert all(name.startswith("cri/") for name in tasks.tasks_of("all", "cri"))
    with pytest.raises(ValueError, match="suite='x'"):
        tasks.tasks_of("all", "x")


def test_ground_truth_is_the_central_square_by_area(tmp_path):
    array = numpy.zeros((8, 12, 3), numpy.uint8)
    array[:, 2:10] = rng_pixels = numpy.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=numpy.uint8)
    Image.fromarray(array).save(tmp_path / "p.png")
    expected = rng_pixels.reshape(4, 2, 4, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    found = bench.prepared(tmp_path / "p.png", 4, 3)[0].numpy() * 255
    assert abs(found - expected).max() <= 1  # Pillow rounds after each direction


def test_the_frechet_distance_is_that_of_gaussians(monkeypatch):
    class Colour(torch.nn.Module):
        num_features = 3

        def forward(self, x):
            return x.mean((2, 3))

    monkeypatch.setattr(metrics, "Vgg", Colour)
    a, b = (torch.rand(200, 3, 4, 4, generator=rng(i)) ** (i + 1) for i in range(2))
    (m1, c1), (m2, c2) = ((f.mean(0), numpy.cov(f.T)) for f in (x.mean((2, 3)).double().numpy() for x in (a, b)))
    expected = numpy.square(m1 - m2).sum() + numpy.trace(c1 + c2 - 2 * scipy.linalg.sqrtm(c1 @ c2).real)
    frechet = metrics.Frechet(None)
    real = frechet.of([b[:50], b[50:]])
    assert numpy.allclose(real.mean, m2) and numpy.allclose(real.covariance, c2)
    assert frechet.between([a[:50], a[50:]], real) == pytest.approx(expected, rel=1e-2, abs=1e-4)
    assert frechet.between([a[:1]], real) is None and frechet.between([a], frechet.of([b[:1]])) is None


def test_realism_may_be_measured_against_statistics(tmp_path, monkeypatch):
    frechet, real = metrics.Frechet(None), torch.rand(300, 3, 32, 32, generator=rng(1))
    found = [torch.rand(40, 3, 32, 32, generator=rng(2)) ** 2]
    features = metrics.Vgg()(real).double()
    numpy.savez(tmp_path / "s.npz", mu=features.mean(0).numpy(), sigma=features.T.cov().numpy())
    direct = frechet.between(found, frechet.of([real]))
    assert frechet.between(found, metrics.statistics(tmp_path / "s.npz")) == pytest.approx(direct, rel=1e-3)
    numpy.savez(tmp_path / "t.npz", mu=numpy.zeros(3), sigma=numpy.eye(3))
    with pytest.raises(ValueError, match="3 features"):
        frechet.between(found, metrics.statistics(tmp_path / "t.npz"))
    numpy.savez(tmp_path / "u.npz", mu=numpy.zeros(3), sigma=numpy.eye(2))
    (tmp_path / "v.npz").write_text("no")
    for name in ("u", "v"):
        with pytest.raises(ValueError, match="do not fit|neither a folder"):
            metrics.statistics(tmp_path / f"{name}.npz")


@pytest.mark.parametrize("shape", [0.6, 1.0, 2.0, 4.0])
def test_niqe_fits_generalised_gaussians(shape):
    x = scipy.stats.gennorm.rvs(shape, scale=1.7, size=200_000, random_state=0)
    found = [float(v) for v in niqe.generalised_gaussian(torch.from_numpy(x))]
    assert found == pytest.approx([shape, 1.7, 1.7], rel=2e-2)
    left = numpy.abs(x[: len(x) // 3]) * -2  # twice as wide to the left
    right = numpy.abs(x[len(x) // 3 : len(x) // 2])
    _, wide, narrow = niqe.generalised_gaussian(torch.from_numpy(numpy.concatenate([left, right])))
    assert float(wide / narrow) == pytest.approx(2, rel=2e-2)


def test_niqe_grows_with_the_damage():
    model = niqe.Model.of([picture(i) for i in range(6)], niqe.side_of(128))
    x = picture(9)
    noise = torch.randn(x.shape, generator=rng())
    blurred = torch.nn.functional.avg_pool2d(x, 5, 1, 2)
    clean, *damaged = (model.distance(image.clamp(0, 1)) for image in (x, x + 0.1 * noise, blurred))
    assert clean < min(damaged)
    flat, _ = niqe.mscn(torch.full((1, 1, 32, 32), 7.0, dtype=torch.float64))
    assert flat.abs().max() < 1e-9


def test_crops_lie_within_and_repeat():
    assert [str(metrics.Crops.of(side)).split(" per")[0] for side in (1024, 256, 128)] == [
        "1000 crops of 128×128", "250 crops of 64×64", "64 crops of 32×32",
    ]  # fmt: skip
    image = torch.arange(40 * 40.0).view(1, 1, 40, 40)
    crops = metrics.Crops(64, 32)
    taken = crops.take(image, "a")
    corners = taken[:, 0, 0, 0]
    assert taken.shape == (64, 1, 32, 32) and torch.equal(taken, crops.take(image, "a"))
    assert (corners // 40).max() == 8 and (corners // 40).min() == 0 and (corners % 40).max() == 8
    assert not torch.equal(taken, crops.take(image, "b"))


def test_a_missing_value_is_left_empty():
    table = Table("psnr", ["t"], ["a", "b"], {("t", "a"): 12.34, ("t", "b"): None}, False)
    assert table.best("t") == 12.34 and table.text(None) == "" and table.text(12.34) == "12.3"


# The page in a browser ----------------------------------------------------------------------------


class Browser:
    """Headless Chromium through its WebDriver."""

    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=400,900"]
        options = {"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        self.base += f"/session/{session['sessionId']}"

    def call(self, verb, path, content=None):
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=verb)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]

    def do(self, script):
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def type(self, selector, keys):
        (element,) = self.call("POST", "/element", {"using": "css selector", "value": selector}).values()
        self.call("POST", f"/element/{element}/value", {"text": keys})


@pytest.fixture
def browser():
    if not (shutil.which("chromedriver") and (shutil.which("chromium") or shutil.which("google-chrome"))):
        pytest.skip("no chromium and chromedriver on this machine: the page was not tried in a browser")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                browser = Browser(port)
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail("chromedriver did not answer")
        yield browser
        browser.call("DELETE", "")
    finally:
        driver.kill()


def test_the_page_works(results, browser):
    browser.call("POST", "/url", {"url": (results / "report.html").as_uri()})
    assert browser.do("return document.querySelectorAll('.card').length") == 16
    assert browser.do("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    place = "return getComputedStyle(document.querySelector('.slider')).getPropertyValue('--at').trim()"
    browser.type(".slider input", "\ue014" * 7)  # the right arrow key
    assert browser.do(place) == "57%"
    browser.do("const s = document.getElementById('method'); s.value = 'pulse'; s.dispatchEvent(new Event('change'))")
    browser.do("const s = document.getElementById('level'); s.value = 'XL'; s.dispatchEvent(new Event('change'))")
    captions = browser.do("return [...document.querySelectorAll('.card figcaption')].map(c => c.firstChild.data)")
    assert captions == ["upsampling/XL · pulse · 000", "upsampling/XL · pulse · 001"]
    assert browser.do("return document.getElementById('count').textContent") == "2 of 16 restorations"
    before = browser.do("return document.querySelector('.before').src")
    browser.do("document.querySelector('.card button').click()")
    assert browser.do("return document.querySelector('.before').src") != before
    assert browser.do("return document.documentElement.scrollWidth <= innerWidth")  # on a phone's width
    assert browser.call("POST", "/se/log", {"type": "browser"}) == []
    assert (
        browser.do("return performance.getEntriesByType('resource').filter(r => !r.name.startsWith('data:')).length")
        == 0
    )


def test_the_page_asks_for_nothing_from_elsewhere(results):
    page = (results / "report.html").read_text()
    assert not re.search(r"(src|href)=['\"](?!data:)", page) and "@import" not in page and "fetch(" not in page
    assert str(results) not in page and "<!-- " not in page
