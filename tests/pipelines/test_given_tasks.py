"""Tasks from a JSON file: `degrade bench --tasks mine.json`, or the results.json of another."""

import json
import shutil

import numpy
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize

import degrade
from pipelines import files, given_tasks
from tests.conftest import AVATARS, rng

from .shell import pixels, start_bench
from .test_bench import rows_of

pytestmark = pytest.mark.usefixtures("without_realism")

BLUR = "blur:gaussian,2 >> gaussian:0.03"


def written(path, problems):
    path.write_text(json.dumps({"problems": problems}))
    return path


def observed(folder, task, name="000"):
    return pixels(folder / "images" / task.replace("/", "-") / "observed" / f"{name}.png")


def test_tasks_of_a_file_are_run_and_published(tmp_path):
    tasks = written(tmp_path / "mine.json", {"mine/blur": {"operator": BLUR}})
    folder = tmp_path / "results"
    assert start_bench(folder, tasks=tasks, methods="robust", limit=1).exit_code == 0
    row = rows_of(folder)["mine/blur", "robust", "000"]
    assert row["operator"] == BLUR and row["fidelity"] > 0
    problem = given_tasks.read(folder / "results.json")["mine/blur"]
    path = folder / "images" / "mine-blur" / "observed" / "000.png"
    assert problem.operator == BLUR
    assert problem.observations == {"000": files.pixel_digest(path)}


def test_solvers_assume_what_the_file_says(tmp_path):
    """DDRM takes a clamped observation for a plain one; it refuses the clamp itself."""
    problem = {"operator": "gaussian:0.8 >> clamp", "assume": "gaussian:0.8"}
    tasks = written(tmp_path / "mine.json", {"mine/clamped": problem})
    folder = tmp_path / "results"
    command = {"methods": "ddrm,ddrm-linear", "limit": 1}
    done = start_bench(folder, "--denoiser", "avatars", tasks=tasks, **command)
    assert done.exit_code == 0, done.output
    rows = rows_of(folder)
    wrong = rows["mine/clamped", "ddrm", "000"]
    assert wrong["assume"] == "gaussian:0.8"
    assert wrong["psnr"] == rows["mine/clamped", "ddrm-linear", "000"]["psnr"]
    again = given_tasks.read(folder / "results.json")["mine/clamped"]
    assert again.texts == problem
    written(tasks, {"mine/clamped": {"operator": "gaussian:0.8 >> clamp"}})
    refused = start_bench(folder, "--denoiser", "avatars", tasks=tasks, **command)
    assert refused.exit_code == 3 and "ddrm, 000: " in refused.output


def test_another_operator_of_the_same_name_is_computed_again(tmp_path):
    tasks = written(tmp_path / "mine.json", {"mine/blur": {"operator": BLUR}})
    folder = tmp_path / "results"
    command = {"tasks": tasks, "methods": "robust", "limit": 1}
    start_bench(folder, **command)
    first = rows_of(folder)
    written(tasks, {"mine/blur": {"operator": "blur:gaussian,4 >> gaussian:0.03"}})
    start_bench(folder, **command)
    second = rows_of(folder)
    assert second.keys() == first.keys() and second != first


def test_results_of_another_are_tasks_with_the_same_observations(results, tmp_path):
    theirs = shutil.copy(results / "results.json", tmp_path / "theirs.json")
    folder = tmp_path / "mine"
    assert start_bench(folder, tasks=theirs, methods="brgm", limit=2).exit_code == 0
    for task in ("UNAP", "denoising/M"):
        assert numpy.array_equal(observed(folder, task), observed(results, task))


def test_other_observations_than_the_published_are_refused(results, tmp_path):
    record = json.loads((results / "results.json").read_text())
    record["problems"] = {"UNAP": record["problems"]["UNAP"]}
    record["problems"]["UNAP"]["observations"]["001"] = "0" * 64
    theirs = tmp_path / "theirs.json"
    theirs.write_text(json.dumps(record))
    done = start_bench(tmp_path / "mine", tasks=theirs, methods="robust")
    assert done.exit_code == 2
    assert f"the observation of 001 is another than in {theirs}; give the clean" in done.output
    assert not (tmp_path / "mine" / "results.jsonl").exists()


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "is no JSON"),
        ("[]", "holds no tasks: list indices"),
        ("{}", "holds no tasks: it has no 'problems'"),
        ('{"problems": {}}', 'holds no tasks; add one to "problems"'),
        ('{"problems": {"a": {}}}', "holds no tasks: it has no 'operator'"),
        ('{"problems": {"a": {"operator": "blurr:2"}}}', "json, a: "),
        ('{"problems": {"../a": {"operator": "clamp"}}}', "'../a' is no name of a task"),
        ('{"problems": {"a": "jpeg:30"}}', "json, a: must be an object"),
        ('{"problems": {"a": {"operator": 3}}}', "json, a: operator=3 must be the text"),
        ('{"problems": {"a": {"operator": "clamp", "assume": 3}}}', "a: assume=3 must be"),
        ('{"problems": {"a": {"operator": "clamp", "assume": ""}}}', "an operator is missing"),
        ('{"problems": {"a": {"operator": "clamp", "observations": 3}}}', "observations must be"),
        (
            '{"problems": {"a": {"operator": "clamp", "observations": {"000": null}}}}',
            "observations must be",
        ),
        (
            '{"problems": {"a": {"operator": "clamp"}, "a": {"operator": "jpeg:9"}}}',
            "'a' occurs twice in one object",
        ),
        (
            '{"problems": {"a/b": {"operator": "clamp"}, "A-b": {"operator": "jpeg:9"}}}',
            "the pictures of a/b and A-b would be in one folder",
        ),
        ("9" * 5000, "is no JSON"),
    ],
)
def test_file_without_tasks_is_refused_in_one_line(tmp_path, text, words):
    path = tmp_path / "tasks.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="tasks.json") as error:
        given_tasks.read(path)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_missing_file_of_tasks_is_refused(tmp_path):
    done = start_bench(tmp_path / "out", tasks=tmp_path / "no.json", methods="robust")
    assert done.exit_code == 2 and "no.json" in done.output


# The tasks of InverseBench that are in examples/ ----------------------------------------------


def operator_of(name):
    tasks = given_tasks.read(AVATARS.parent / "inversebench.json")
    return degrade.parse(tasks[f"inversebench/ffhq256-{name}"].operator)


def test_inversebench_has_half_the_noise_in_half_the_range():
    for name in ("deblur", "sr", "phase-retrieval"):
        *_, noise = operator_of(name)
        assert 2 * noise.sigma == 0.05


def test_inversebench_sr_is_torchvisions_bicubic_resize():
    x = torch.rand(1, 3, 256, 256, generator=rng())
    reduced = resize(x, 128, InterpolationMode.BICUBIC, antialias=True)
    assert torch.allclose(operator_of("sr")[0](x), reduced, atol=1e-6)


def test_inversebench_deblur_is_scipys_gaussian_of_61_taps():
    x = torch.rand(1, 3, 64, 80, generator=rng())
    impulse = numpy.zeros((61, 61))
    impulse[30, 30] = 1
    kernel = torch.from_numpy(gaussian_filter(impulse, 3)).float()
    padded = torch.nn.functional.pad(x, (30, 30, 30, 30), mode="reflect")
    blurred = torch.nn.functional.conv2d(padded, kernel.expand(3, 1, 61, 61), groups=3)
    assert torch.allclose(operator_of("deblur")[0](x), blurred, atol=2e-6)


def test_inversebench_phase_retrieval_is_that_of_dps():
    assert operator_of("phase-retrieval") == degrade.tasks["dps/phase-retrieval"]
