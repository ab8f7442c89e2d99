"""`degrade bench`: durable rows, equal observations, honest tables, and a page that works."""

import csv
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy
import pytest
import torch
from PIL import Image

import degrade
import invert
from degrade.rng import child_seed
from invert.start import Mean
from pipelines import bench, files, tasks
from pipelines.bench import Bench
from pipelines.bench_job import BenchJob, BenchSettings, Cell
from pipelines.engine import Local
from pipelines.metrics import METRICS
from pipelines.results import Table
from pipelines.runner import Runner
from pipelines.solver import Solvers
from tests.conftest import AVATARS

from .shell import TASKS, TINY_64, pixels, run, small, start_bench, tiny_file

pytestmark = pytest.mark.usefixtures("without_realism")  # test_metrics.py tests it


def rows_of(folder):
    """All but the times."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return {
        (r["task"], r["method"], r["image"]): {k: v for k, v in r.items() if k != "seconds"}
        for r in rows
    }


def test_bench_writes_a_row_for_every_cell(results):
    rows = rows_of(results)
    assert len(rows) == 4 * 2 * 2
    with (results / "results.csv").open() as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == 16 and {float(r["accuracy"]) for r in listed} == {
        r["accuracy"] for r in rows.values()
    }
    for (task, method, image), row in rows.items():
        folder = results / "images" / task.replace("/", "-")
        restored = files.read_image(folder / method / f"{image}.png")
        clean = files.from_pil(small(int(image)))
        assert row["accuracy"] == pytest.approx(
            invert.perceptual.lpips(restored, clean).item(), abs=1e-4
        )
        error = numpy.square(restored.numpy() - clean.numpy()).mean()
        assert row["psnr"] == pytest.approx(-10 * numpy.log10(error), abs=1e-3)
        assert row["steps"] == 2 and row["finite"] and len(row["loss"]) == 2
        assert row["terms"] and all(len(curve) == 2 for curve in row["terms"].values())
    reduced = files.read_image(results / "images" / "upsampling-XL" / "observed" / "000.png")
    assert reduced.shape == (1, 3, 2, 2) and rows["upsampling/XL", "robust", "000"]["fidelity"] > 0


def test_bench_writes_measurements_as_numbers_and_as_a_square(tmp_path):
    """Magnitudes of a Fourier transform are no picture, so that no fidelity is measured."""
    task = "daps/phase-retrieval"
    done = start_bench(tmp_path, tasks=task, methods="calibrated", limit=1)
    assert done.exit_code == 0
    observed = tmp_path / "images" / "daps-phase-retrieval" / "observed"
    y = torch.from_numpy(numpy.load(observed / "000.npy"))
    side = int(y.shape[-1] ** 0.5)
    clean = files.from_pil(small(0))
    magnitudes = degrade.tasks[task][0](clean)[0]
    assert y.shape == magnitudes.shape and (y - magnitudes).std() == pytest.approx(0.05, rel=0.1)
    square = files.read_image(observed / "000.png")
    expected = (y.view(3, side, side) / 2 + 0.5).clamp(0, 1)
    assert (square[0] - expected).abs().max() <= 0.5 / 255 + 1e-6
    row = rows_of(tmp_path)[task, "calibrated", "000"]
    assert "fidelity" not in row and row["accuracy"] > 0


def test_bench_measures_coverage_of_several_answers(tmp_path):
    """Of methods that draw; each answer is what `restore` gives at a seed of its own."""
    settings = ("--denoiser", "avatars", "--samples", 3)
    task = "ddrm/uncrop"
    done = start_bench(tmp_path, *settings, tasks=task, methods="ddrm,pnp", limit=1)
    assert done.exit_code == 0, done.output
    rows = rows_of(tmp_path)
    assert "coverage" not in rows[task, "pnp", "000"]
    clean = files.from_pil(small(0))
    f = degrade.tasks[task]
    seed = child_seed(0, task, "000")
    seeds = [seed, child_seed(seed, "answer", 1), child_seed(seed, "answer", 2)]
    y = f(clean, seed).expand(3, -1, -1, -1)
    drawn = invert.restore(y, f, invert.load_prior("avatars"), "ddrm", seed=seeds, steps=2).image
    within = (drawn.amin(0) <= clean[0]) & (clean[0] <= drawn.amax(0))
    assert rows[task, "ddrm", "000"]["coverage"] == pytest.approx(
        float(within.float().mean()), abs=2e-3
    )
    tables = (tmp_path / "tables.md").read_text()
    assert "Coverage is that of 3 answers." in tables and "coverage ddrm" in tables


def test_tables_note_settings_and_mark_the_best(results):
    text = (results / "tables.md").read_text()
    for words in ("2 pictures", "Shortened: 2 steps", "alex in the loss"):
        assert words in text
    rows = rows_of(results)
    first = next(line for line in text.splitlines() if line.startswith("| UNAP"))
    cells = [cell.strip() for cell in first.strip("|").split("|")][1:3]
    scores = [
        [rows["UNAP", m, image]["accuracy"] for image in ("000", "001")]
        for m in ("robust", "pulse")
    ]
    means = [numpy.mean(pair) for pair in scores]
    assert [float(cell.strip("*")) for cell in cells] == pytest.approx(means, abs=6e-4)
    assert [cell.startswith("**") for cell in cells] == [mean == min(means) for mean in means]


def test_bench_resumes_and_ends_with_the_same_rows(results, tmp_path):
    class Stop(Exception):
        pass

    generator, sources = invert.load_generator(tiny_file(64)), files.gather([AVATARS])[:2]
    mine = Bench(tmp_path / "b", BenchSettings(perceptual="alex", steps=2))
    methods = bench.methods_of("robust,pulse")
    cells = [
        Cell(task, label, method) for task in TASKS.split(",") for label, method in methods.items()
    ]
    reached = []

    def go_on(report):
        solver = Solvers({"generator": generator}, step=reached.append)
        mine.run(sources, cells, Local(), solver, generator.resolution, batch=2, report=report)

    def stop(done, total, what):
        if done == 6:
            raise Stop

    with pytest.raises(Stop):
        go_on(stop)
    assert len(mine.rows()) == 6
    with mine.rows_path.open("a") as file:
        file.write('{"task": "UNAP", "meth')  # as a kill leaves it
    shutil.rmtree(tmp_path / "b" / "images" / "upsampling-XS" / "pulse")  # and this, as a user does
    reached.clear()
    go_on(lambda done, total, what: None)
    assert (
        len(reached) == (5 + 1) * 2
    )  # steps of the batches that were left, and of the one whose pictures are gone
    mine = {
        (r["task"], r["method"], r["image"]): {k: v for k, v in r.items() if k != "seconds"}
        for r in mine.rows()
    }
    assert mine == rows_of(results)


@pytest.mark.parametrize("kind", ["observed", "robust"])
def test_bench_makes_a_damaged_picture_again(tmp_path, without_realism, kind):
    """Cut by a byte, cut within the pixels, emptied, or of zeros at the end, as of a full disk."""
    command = {"tasks": "UNAP", "methods": "robust", "limit": 1}
    assert start_bench(tmp_path, **command).exit_code == 0
    path = tmp_path / "images" / "UNAP" / kind / "000.png"
    whole = path.read_bytes()
    half = len(whole) // 2
    for damaged in (whole[:-1], whole[:half], b"", whole[:half] + bytes(len(whole) - half)):
        path.write_bytes(damaged)
        assert start_bench(tmp_path, **command).exit_code == 0
        assert path.read_bytes() == whole


def test_bench_refuses_other_settings_by_name(results):
    for change, words in [
        (("--seed", 4), "--seed 0 → 4"),
        (("--oracle-mask",), "--oracle-mask no → yes"),
    ]:
        result = start_bench(results, *change)
        assert result.exit_code == 2 and words in result.stderr
    assert start_bench(results, "--quiet").output == ""  # the same again: nothing to do


def test_observation_depends_on_task_and_picture_only(results, tmp_path):
    assert (
        start_bench(tmp_path / "one", tasks="denoising/M", methods="brgm", limit=1).exit_code == 0
    )
    for folder in ("clean", "denoising-M/observed"):
        one, two = (
            pixels(root / "images" / folder / "000.png") for root in (tmp_path / "one", results)
        )
        assert (one == two).all()


def test_batch_is_halved_when_memory_runs_out(tmp_path, monkeypatch):
    whole = invert.restore

    def tight(observed, *args, **options):
        if len(observed) > 1:
            raise torch.OutOfMemoryError("too much")
        return whole(observed, *args, **options)

    monkeypatch.setattr(invert, "restore", tight)
    assert start_bench(tmp_path / "b", tasks="UNAP", methods="robust").exit_code == 0
    rows = rows_of(tmp_path / "b")
    assert {row["batch"] for row in rows.values()} == {1}
    monkeypatch.undo()
    assert start_bench(tmp_path / "w", tasks="UNAP", methods="robust").exit_code == 0
    for key, row in rows_of(tmp_path / "w").items():
        assert row["accuracy"] == pytest.approx(rows[key]["accuracy"], abs=2e-2)


def test_bench_names_a_failed_batch_and_goes_on(tmp_path, monkeypatch):
    whole = invert.restore

    def fails(observed, operator, generator, method, *args, **options):
        if method == invert.METHODS["pulse"]:
            raise torch.OutOfMemoryError("too much")
        return whole(observed, operator, generator, method, *args, **options)

    monkeypatch.setattr(invert, "restore", fails)
    result = start_bench(tmp_path / "b", tasks="UNAP,UP", methods="pulse,brgm", limit=1)
    assert (
        result.exit_code == 3
        and len(rows_of(tmp_path / "b")) == 2
        and (tmp_path / "b" / "report.html").exists()
    )
    assert (
        result.stderr.count("\nerror: ") == 2
        and "error: UNAP, pulse, 000: one picture does not fit" in result.stderr
    )
    monkeypatch.undo()
    assert (
        start_bench(tmp_path / "b", tasks="UNAP,UP", methods="pulse,brgm", limit=1).exit_code == 0
    )
    assert len(rows_of(tmp_path / "b")) == 4
    assert start_bench(tmp_path / "b", tasks="UP", methods="brgm").exit_code == 0
    assert (
        "The cells cover different numbers of pictures: 1 to 2."
        in (tmp_path / "b" / "tables.md").read_text()
    )


def test_tables_repeat_the_notes_of_a_method(tmp_path):
    """DGP compares features of another network where the generator's file has no discriminator."""
    method = replace(invert.METHODS["dgp"], start=Mean())
    mine = Bench(tmp_path, BenchSettings(perceptual="alex", steps=5))
    generator = invert.load_generator(tiny_file(64))
    solver = Solvers({"generator": generator})
    mine.run(
        files.gather([AVATARS])[:1],
        [Cell("UP", "dgp", method)],
        Local(),
        solver,
        generator.resolution,
    )
    assert any("alex" in text and "discriminator" in text for text in mine.results().notes)


def test_bench_compares_faces_only_with_a_gradient():
    """adam-id gets the embedding; other methods, and embeddings without a gradient, do not."""
    identity = SimpleNamespace(has_gradient=True)
    solver = SimpleNamespace(prior=SimpleNamespace(c_dim=0), identity=identity)
    runner = Runner(BenchSettings(perceptual="alex"), lambda kind: solver)

    def options_of(name):
        cell = Cell("UNAP", name, invert.METHODS[name])
        return runner.options(BenchJob(cell, ["a"], torch.zeros(1, 3, 8, 8)), solver)

    assert options_of("adam-id")["identity"] is identity
    assert "identity" not in options_of("robust") and "identity" not in options_of("ddnm")
    solver.identity = SimpleNamespace(has_gradient=False)
    assert "identity" not in options_of("adam-id")


def test_bench_gives_adam_id_its_embedding(tmp_path, without_realism):
    """The identity term is measured; without an embedding it is 0, and the tables say so."""
    layers = (torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    torch.jit.script(torch.nn.Sequential(*layers)).save(str(tmp_path / "e.pt"))
    curves = {}
    for folder, more in (("with", ("--embedding", tmp_path / "e.pt")), ("without", ())):
        out = tmp_path / folder
        result = start_bench(out, *more, tasks="UNAP", methods="adam-id", limit=1)
        assert result.exit_code == 0, result.output
        (row,) = rows_of(out).values()
        curves[folder] = row["terms"]["identity"]
        says_so = "identity was not compared" in (out / "tables.md").read_text()
        assert says_so == (folder == "without")
    assert min(curves["with"]) > 1e-4 and set(curves["without"]) == {0}


def test_bench_notices_a_changed_picture(tmp_path):
    (tmp_path / "in").mkdir()
    command = [
        "bench",
        "--images",
        tmp_path / "in",
        "-o",
        tmp_path / "b",
        "--tasks",
        "UNAP",
        "--methods",
        "brgm",
    ]
    found = []
    for number in ("000", "001"):
        shutil.copy(AVATARS / f"{number}.png", tmp_path / "in" / "x.png")
        assert run(*command, *TINY_64, "--steps", 1).exit_code == 0
        found.append(list(rows_of(tmp_path / "b").values()))  # the last row of each cell
        clean = pixels(tmp_path / "b" / "images" / "clean" / "x.png")
        assert (clean == numpy.array(small(int(number)))).all()
    (first,), (second,) = found
    assert first["accuracy"] != second["accuracy"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"tasks": "denoising/XXL"}, "'denoising/XXL' is none of"),
        ({"methods": "magic"}, "method='magic'"),
        ({"methods": "no_such_module:solve"}, "'no_such_module' cannot be imported"),
        ({"methods": "json:solve"}, "module json has no function 'solve'"),
    ],
)
def test_bench_reports_mistakes_in_one_line(tmp_path, change, words):
    result = start_bench(tmp_path / "b", **change)
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "b").exists()


SOLVERS = """
def enlarged(y, f, prior, seed):
    return f.adjoint(y, (1, 3, 64, 64)) * 4

def denoised(y, f, prior, seed):
    return prior.denoise(f.adjoint(y, (1, 3, 64, 64)) * 4, 0.05)

denoised.prior_kind = "denoiser"

def broken(y, f, prior, seed):
    return y
"""


def test_bench_compares_solvers_of_other_people(tmp_path, monkeypatch):
    """A function gets y, f, the prior of its kind and a seed; its failure is its own."""
    (tmp_path / "my_solvers.py").write_text(SOLVERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    with_pool = {**degrade.tasks, "test/pool": degrade.parse("pool:2")}
    monkeypatch.setattr(degrade, "tasks", with_pool)
    names = ("enlarged", "denoised", "broken")
    result = run(
        *("bench", "--images", AVATARS, "--limit", 1, "-o", tmp_path / "b"),
        *("--tasks", "test/pool", "--steps", 2, *TINY_64),
        *("--methods", ",".join(f"my_solvers:{name}" for name in names) + ",ddnm"),
    )
    assert result.exit_code == 3
    assert "my_solvers:broken returned torch.float32 [1, 3, 32, 32]" in result.stderr
    rows = rows_of(tmp_path / "b")
    methods = {method for _, method, _ in rows}
    assert methods == {"my_solvers.enlarged", "my_solvers.denoised", "ddnm"}
    enlarged = rows["test/pool", "my_solvers.enlarged", "000"]
    assert enlarged["fidelity"] < 0.01  # the blocks have the observed means
    assert "Methods that need a denoiser had photo" in (tmp_path / "b" / "tables.md").read_text()


def test_bench_keeps_two_pictures_of_one_stem(tmp_path):
    (tmp_path / "in").mkdir()
    for suffix in ("png", "bmp"):
        Image.open(AVATARS / "000.png").save(tmp_path / "in" / f"p.{suffix}")
    command = ["bench", "--images", tmp_path / "in", "-o", tmp_path / "b", "--steps", 1]
    result = run(*command, *TINY_64, "--tasks", "UP", "--methods", "brgm")
    assert result.exit_code == 0, result.output
    assert {key[2] for key in rows_of(tmp_path / "b")} == {"p.png", "p.bmp"}


def test_tasks_of_selects_the_papers_tasks():
    assert len(tasks.tasks_of("all")) == 31 and len(tasks.tasks_of("single")) == 20
    assert len(tasks.tasks_of("composed")) == 11 and "UNAP" in tasks.tasks_of("composed")
    assert all(name.startswith("cri/") for name in tasks.tasks_of("all", "cri"))
    with pytest.raises(ValueError, match="suite='x'"):
        tasks.tasks_of("all", "x")


def test_prepared_is_the_central_square_by_area(tmp_path):
    array = numpy.zeros((8, 12, 3), numpy.uint8)
    array[:, 2:10] = rng_pixels = numpy.random.default_rng(0).integers(
        0, 255, (8, 8, 3), dtype=numpy.uint8
    )
    Image.fromarray(array).save(tmp_path / "p.png")
    expected = rng_pixels.reshape(4, 2, 4, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    found = bench.prepared(tmp_path / "p.png", 4, 3)[0].numpy() * 255
    assert abs(found - expected).max() <= 1  # Pillow rounds after each direction


def test_table_leaves_a_missing_value_empty():
    psnr = next(metric for metric in METRICS if metric.name == "psnr")
    table = Table(psnr, ["t"], ["a", "b"], {("t", "a"): 12.34, ("t", "b"): None})
    assert table.best("t") == 12.34 and psnr.text(None) == "" and psnr.text(12.34) == "12.3"


def test_bench_compares_a_plugin_method(tmp_path, monkeypatch):
    (tmp_path / "own_method_plugin.py").write_text(
        "from dataclasses import replace\nfrom invert import METHODS\n"
        "METHODS['mine'] = replace(METHODS['robust'], phases=METHODS['robust'].phases[:1])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        done = start_bench(
            tmp_path / "b", "--plugin", "own_method_plugin", tasks="UNAP", methods="mine", limit=1
        )
    finally:
        invert.METHODS.pop("mine", None)
    assert done.exit_code == 0, done.output
    assert "accuracy mine" in (tmp_path / "b" / "tables.md").read_text()
