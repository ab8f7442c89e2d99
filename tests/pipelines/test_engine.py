"""Jobs give the same results in this process, on threads and on a cluster that loses machines."""

import faulthandler
import os
import subprocess
import sys
import time

import pytest
import ray
import torch
from ray.cluster_utils import Cluster

import invert
from pipelines import bench, files
from pipelines.bench import Bench
from pipelines.bench_job import BenchSettings, Cell
from pipelines.engine import Local, Ray, engine_of
from pipelines.solver import Solvers
from tests.conftest import AVATARS

from .shell import AVATARS_128, FOURFOLD, run


@pytest.fixture(scope="module")
def machines():
    """A cluster of one machine with one CPU, as far as Ray can tell."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def cluster(machines):
    """The cluster with a second machine; the machine is the test's own."""
    # a cluster that hangs is a failure, not a wait
    faulthandler.dump_traceback_later(600, exit=True)
    second = machines.add_node(num_cpus=1)
    machines.wait_for_nodes()
    try:
        yield machines, second
    finally:
        if second in machines.worker_nodes:
            machines.remove_node(second)
        faulthandler.cancel_dump_traceback_later()


def toy():
    """A setup whose worker squares numbers, refuses 3, and is killed by 5."""

    def square():  # within, so that it travels by its code, and workers need not import the tests
        started = time.time()

        def work(number):
            if number == 3:
                raise ValueError("3 is refused")
            if number == 5:
                os._exit(1)
            time.sleep(0.05)
            return number**2, (os.getpid(), started)

        return work

    return square


@pytest.mark.parametrize("threads", [1, 3])
def test_local_jobs_are_lazy_and_in_order(threads):
    asked, done = [], []

    def jobs():
        for number in range(40):
            asked.append(number)
            yield f"key {number}", number + 10

    # a large folder is not held in memory
    for key, (result, _) in Local(threads).map(toy(), jobs()):
        assert len(asked) - len(done) <= (1 if threads == 1 else 2 * threads + 1)
        done.append((key, result))
    assert done == [(f"key {n}", (n + 10) ** 2) for n in range(40)]


def test_local_errors_are_outcomes_of_their_jobs():
    (first, error), (second, _) = Local().map(toy(), [("a", 3), ("b", 4)])
    assert (first, second) == ("a", "b") and isinstance(error, ValueError)
    for engine in (Local(), Local(2)):
        (_, error), (_, result) = engine.map(toy(), [("a", "text"), ("b", 4)])
        assert isinstance(error, ValueError) and isinstance(result, tuple)
        assert str(error).startswith("TypeError: ") and "(test_engine.py, line" in str(error)
    with pytest.raises(ValueError, match="engine='slurm' must be one of local, ray"):
        engine_of("slurm")


@pytest.mark.slow
def test_ray_sets_up_workers_once_and_replaces_them(cluster):
    outcomes = dict(Ray().map(toy(), ((n, n) for n in (0, 1, 2, 3, 4, 6, 7, 8, 9))))
    assert isinstance(outcomes.pop(3), ValueError) and {
        n: found[0] for n, found in outcomes.items()
    } == {n: n**2 for n in (0, 1, 2, 4, 6, 7, 8, 9)}
    started = {worker for _, worker in outcomes.values()}
    assert len(started) == len({pid for pid, _ in started}) <= 2 and os.getpid() not in dict(
        started
    )
    outcomes = dict(Ray().map(toy(), ((n, n) for n in range(8))))
    assert "lost its worker 3 times" in str(outcomes.pop(5)) and isinstance(
        outcomes.pop(3), ValueError
    )
    assert {n: found[0] for n, found in outcomes.items()} == {n: n**2 for n in (0, 1, 2, 4, 6, 7)}
    assert list(Ray().map(toy(), [])) == []
    (_, error), *_ = Ray().map(toy(), [("a", "text")])
    assert isinstance(error, ValueError) and str(error).startswith("TypeError: ")


@pytest.mark.slow
def test_ray_reports_a_setup_that_fails(cluster):
    def refuses():
        raise ValueError("no such embedding")

    with pytest.raises(ValueError, match="^no such embedding$"):
        list(Ray().map(refuses, [("a", 1)]))
    with pytest.raises(OSError, match="no worker could be set up"):
        list(Ray().map(lambda: os._exit(1), [("a", 1)]))


@pytest.mark.slow
def test_ray_machine_that_dies_loses_no_job(cluster, tmp_path):
    machines, second = cluster
    dying = second.node_id  # the workers get the name, not the machine
    begun = tmp_path / "begun"

    def set_up():
        def work(number):
            node = ray.get_runtime_context().get_node_id()
            if node == dying:
                begun.write_text(str(number))
                time.sleep(600)  # the machine dies while this job runs
            time.sleep(0.05)
            return node

        return work

    def jobs():
        """Jobs without end while the second machine lives, then a few more."""
        number = 0
        while second in machines.worker_nodes:
            yield number, number
            number += 1
        for last in range(number, number + 5):
            yield last, last

    done = {}
    for number, node in Ray().map(set_up, jobs()):
        done[number] = node
        if begun.exists() and second in machines.worker_nodes:
            machines.remove_node(second, allow_graceful=False)
    assert int(begun.read_text()) in done  # begun again on the machine that is left
    assert sorted(done) == list(range(len(done))) and dying not in done.values()


@pytest.mark.slow
@pytest.mark.parametrize("named", [False, True])
def test_ray_joins_a_running_cluster_only_if_named(cluster, named):
    machines, _ = cluster
    code = (
        "import ray\n"
        "from pipelines.engine import Ray\n"
        "Ray()\n"
        "print(ray.get_runtime_context().gcs_address)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    if named:
        environment["RAY_ADDRESS"] = machines.address
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout.split()[-1] == machines.address) == named


@pytest.fixture
def one_thread():
    """As a worker of one CPU has it: sums on more threads are rounded otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_ray_bench_equals_local_after_losing_a_machine(cluster, one_thread, tmp_path):
    machines, second = cluster
    generator, sources = invert.load_generator("avatars-128"), files.gather([AVATARS])[:2]
    cells = [Cell("UNAP", label, m) for label, m in bench.methods_of("robust,pulse,brgm").items()]
    seen, found = [], {}

    def kill(done, total, what):
        if done == 2 and not seen:
            machines.remove_node(second, allow_graceful=False)
            seen.append(what)

    for engine, report in ((Ray(), kill), (Local(), lambda *_: None)):
        mine = Bench(tmp_path / type(engine).__name__, BenchSettings(perceptual="alex", steps=3))
        solver = Solvers({"generator": generator})
        rows = mine.run(
            sources, cells, engine, solver, generator.resolution, batch=1, report=report
        )
        assert sorted(map(str, rows)) == sorted(map(str, mine.rows()))
        untimed = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
        pictures = {
            path.relative_to(mine.folder): path.read_bytes() for path in mine.folder.rglob("*.png")
        }
        found[type(engine)] = sorted(untimed, key=str), pictures
    assert seen and len(found[Local][0]) == 6 and len(found[Local][1]) == 2 + 2 + 6
    assert found[Ray] == found[Local]


@pytest.mark.slow
def test_ray_apply_and_restore_equal_local(cluster, one_thread, tmp_path):
    command = ("apply", AVATARS / "000.png", AVATARS / "001.png", "--op", FOURFOLD)
    for name in ("ray", "local"):
        assert run(*command, "-o", tmp_path / name, "--engine", name).exit_code == 0
        options = (*AVATARS_128, "--steps", 2, "--engine", name)
        restored = run("restore", tmp_path / name, "-o", tmp_path / f"{name}-restored", *options)
        assert restored.exit_code == 0, restored.output
    for folder in ("", "-restored"):
        made = [
            {path.name: path.read_bytes() for path in (tmp_path / f"{engine}{folder}").iterdir()}
            for engine in ("ray", "local")
        ]
        assert made[0] == made[1] and len(made[0]) == (8 if folder else 4)


@pytest.mark.slow
def test_ray_tune_equals_local(cluster, one_thread, tmp_path):
    command = (
        "tune",
        "--images",
        AVATARS,
        "--limit",
        1,
        "--method",
        "pulse",
        "--tasks",
        "UP",
        "--trials",
        3,
    )
    for name in ("ray", "local"):
        found = run(*command, "--steps", 2, *AVATARS_128, "--engine", name, "-o", tmp_path / name)
        assert found.exit_code == 0, found.output
    assert (tmp_path / "ray" / "tuned.json").read_bytes() == (
        tmp_path / "local" / "tuned.json"
    ).read_bytes()
    assert len((tmp_path / "ray" / "results.jsonl").read_text().splitlines()) == 3
