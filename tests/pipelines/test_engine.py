"""The same jobs give the same results here, on threads and on a cluster, also when a machine of it dies."""

import os
import time
from functools import partial

import pytest
import ray
from ray.cluster_utils import Cluster

import invert
from pipelines import bench, files
from pipelines.bench import Bench, Cell, Settings
from pipelines.engine import Local, Ray, engine_of
from pipelines.solver import Solver
from tests.conftest import AVATARS

from .shell import FOURFOLD, run


@pytest.fixture
def cluster():
    """Two machines, as far as Ray can tell, of one CPU each; the second is given to the test."""
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = machines.add_node(num_cpus=1)
    ray.init(address=machines.address, logging_level="ERROR", log_to_driver=False)
    try:
        yield machines, second
    finally:
        ray.shutdown()
        machines.shutdown()


def square():
    """Sets up a worker that refuses 3, and is killed by 5."""
    started = time.time()

    def work(number):
        if number == 3:
            raise ValueError("3 is refused")
        if number == 5:
            os._exit(1)
        time.sleep(0.05)
        return number**2, (os.getpid(), started)

    return work


@pytest.mark.parametrize("threads", [1, 3])
def test_jobs_here_are_asked_for_as_workers_get_free_and_come_in_order(threads):
    asked, done = [], []

    def jobs():
        for number in range(40):
            asked.append(number)
            yield f"key {number}", number + 10

    # a large folder is not held in memory
    for key, (result, _) in Local(threads).map(square, jobs()):
        assert len(asked) - len(done) <= (1 if threads == 1 else 2 * threads + 1)
        done.append((key, result))
    assert done == [(f"key {n}", (n + 10) ** 2) for n in range(40)]


def test_a_job_that_cannot_be_done_is_an_outcome_and_a_bug_is_not():
    (first, error), (second, _) = Local().map(square, [("a", 3), ("b", 4)])
    assert (first, second) == ("a", "b") and isinstance(error, ValueError)
    with pytest.raises(TypeError):
        list(Local(2).map(square, [("a", "text")]))
    with pytest.raises(ValueError, match="engine='slurm' must be one of local, ray"):
        engine_of("slurm")


def test_a_cluster_sets_up_each_worker_once_and_survives_what_kills_them(cluster):
    outcomes = dict(Ray().map(square, ((n, n) for n in (0, 1, 2, 3, 4, 6, 7, 8, 9))))
    assert isinstance(outcomes.pop(3), ValueError) and {n: found[0] for n, found in outcomes.items()} == {
        n: n**2 for n in (0, 1, 2, 4, 6, 7, 8, 9)
    }
    started = {worker for _, worker in outcomes.values()}
    assert len(started) == len({pid for pid, _ in started}) <= 2 and os.getpid() not in dict(started)
    outcomes = dict(Ray().map(square, ((n, n) for n in range(8))))
    assert "lost its worker 3 times" in str(outcomes.pop(5)) and isinstance(outcomes.pop(3), ValueError)
    assert {n: found[0] for n, found in outcomes.items()} == {n: n**2 for n in (0, 1, 2, 4, 6, 7)}
    assert list(Ray().map(square, [])) == []
    with pytest.raises(TypeError):
        list(Ray().map(square, [("a", "text")]))


def test_a_cluster_whose_workers_cannot_be_set_up_says_so(cluster):
    def refuses():
        raise ValueError("no such embedding")

    with pytest.raises(ValueError, match="^no such embedding$"):
        list(Ray().map(refuses, [("a", 1)]))
    with pytest.raises(OSError, match="no worker could be set up"):
        list(Ray().map(lambda: os._exit(1), [("a", 1)]))


def test_a_machine_that_dies_loses_no_job(cluster, tmp_path):
    machines, second = cluster

    def set_up():
        def work(number):
            (tmp_path / f"{number} {time.time()}").touch()
            time.sleep(0.3)
            return ray.get_runtime_context().get_node_id()

        return work

    done = {}
    for number, node in Ray().map(set_up, ((n, n) for n in range(60))):
        done[number] = node
        if node == second.node_id and second in machines.worker_nodes:
            machines.remove_node(second, allow_graceful=False)
    begun = [int(path.name.split()[0]) for path in tmp_path.iterdir()]
    assert sorted(done) == list(range(60)) and len(set(done.values())) == 2
    assert len(begun) > 60 and set(begun) == set(done)  # what died with the machine was begun again


def test_a_benchmark_on_a_cluster_that_loses_a_machine_ends_as_one_here(cluster, tmp_path):
    machines, second = cluster
    generator, sources = invert.load_generator("avatars-128"), files.gather([AVATARS])[:2]
    cells = [Cell("UNAP", label, m) for label, m in bench.methods_of("robust,pulse,brgm").items()]
    seen, found = [], {}

    def kill(done, total, what):
        if done == 2 and not seen:
            machines.remove_node(second, allow_graceful=False)
            seen.append(what)

    for engine, report in ((Ray(), kill), (Local(), lambda *_: None)):
        mine = Bench(tmp_path / type(engine).__name__, Settings(perceptual="alex", steps=3))
        solver = partial(Solver, generator)
        rows = mine.run(sources, cells, engine, solver, generator.resolution, batch=1, report=report)
        assert sorted(map(str, rows)) == sorted(map(str, mine.rows()))
        found[type(engine)] = {(row["method"], row["image"]): row for row in rows}
        observed = [mine.picture("UNAP", "observed", name).read_bytes() for name in ("000", "001")]
        found[type(engine), "observed"] = observed
    assert seen and found[Ray].keys() == found[Local].keys() and len(found[Ray]) == 6
    assert found[Ray, "observed"] == found[Local, "observed"]
    for key, row in found[Local].items():  # sums on another number of threads are rounded otherwise
        assert found[Ray][key]["accuracy"] == pytest.approx(row["accuracy"], abs=5e-3)


def test_the_shell_s_flows_run_on_a_cluster(cluster, tmp_path):
    command = ("apply", AVATARS / "000.png", AVATARS / "001.png", "--op", FOURFOLD)
    for name in ("ray", "local"):
        assert run(*command, "-o", tmp_path / name, "--engine", name).exit_code == 0
        options = ("--perceptual", "alex", "--steps", 2, "--engine", name)
        restored = run("restore", tmp_path / name, "-o", tmp_path / f"{name}-restored", *options)
        assert restored.exit_code == 0, restored.output
    for name in ("000.png", "000.json", "001.png", "001.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    for name in ("000.png", "001.png"):
        images = [files.read_image(tmp_path / f"{engine}-restored" / name) for engine in ("ray", "local")]
        assert (images[0] - images[1]).abs().mean() < 0.02
    listed = [sorted(p.name for p in (tmp_path / f"{engine}-restored").iterdir()) for engine in ("ray", "local")]
    assert listed[0] == listed[1]
