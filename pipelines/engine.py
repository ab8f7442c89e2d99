"""Where work is done: in this process, or on a Ray cluster. The same jobs, the same results.

`setup` is called once for each worker and gives the function that turns jobs into results. It
touches no disk, so that nothing but setup, jobs and results travels, and this process alone writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

Work = Callable[[Any], Any]  # job → result; raises ValueError or OSError where a job cannot be done
Jobs = Iterable[tuple[Any, Any]]  # (key, job); the key stays here
Outcomes = Iterator[tuple[Any, Any]]  # (key, the result or the ValueError or OSError)

ENGINES = ("local", "ray")
ATTEMPTS = 3  # at a job whose worker is lost


class Local:
    """Jobs in this process: one after another, or on threads that have a core each."""

    def __init__(self, threads: int = 1):
        self.threads = threads

    def map(self, setup: Callable[[], Work], jobs: Jobs) -> Outcomes:
        """Outcomes in the order of the jobs, which are asked for as workers get free."""
        work = setup()
        if self.threads == 1:
            for key, job in jobs:
                yield key, attempt(work, job)
            return
        torch.set_num_threads(1)
        waiting: deque = deque()
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                for key, job in jobs:
                    waiting.append((key, pool.submit(attempt, work, job)))
                    if len(waiting) > 2 * self.threads:
                        key, future = waiting.popleft()
                        yield key, future.result()
                for key, future in waiting:
                    yield key, future.result()
            finally:
                pool.shutdown(cancel_futures=True)


class Ray:
    """Jobs on the cluster that RAY_ADDRESS names, or one on this machine: a worker per GPU, or else per CPU.

    What a lost worker was doing is done again by another, and a new one is hired for it.
    """

    def __init__(self, gpu: bool = True):
        try:
            import ray
        except ImportError as error:
            raise ValueError("engine 'ray' needs ray; pip install 'degrade[ray]'") from error
        if not ray.is_initialized():
            ray.init(logging_level="ERROR", log_to_driver=False)
        there = ray.cluster_resources()
        on_gpu = gpu and there.get("GPU", 0) >= 1
        self.workers = int(there["GPU" if on_gpu else "CPU"])
        self._hire = ray.remote(num_cpus=1, num_gpus=int(on_gpu))(Worker).remote

    def map(self, setup: Callable[[], Work], jobs: Jobs) -> Outcomes:
        """Outcomes as they come."""
        import ray
        from ray.exceptions import ObjectLostError, RayActorError

        jobs, left, again, idle = iter(jobs), True, deque(), []
        running: dict = {}  # future → (worker, what it does; None: setting up)
        setup = ray.put(setup)  # once for all workers of a machine

        def hire() -> None:
            worker = self._hire()
            running[worker.begin.remote(setup)] = worker, None

        try:
            for _ in range(self.workers):
                hire()
            while True:
                while idle and (again or left):
                    task = again.popleft() if again else next(jobs, None)
                    left = left and task is not None
                    if task is not None:
                        key, job, *lost = task
                        worker = idle.pop()
                        running[worker.do.remote(job)] = worker, (key, job, *lost)
                if not (left or again or any(task for _, task in running.values())):
                    return
                (future, *_), _ = ray.wait(list(running))
                worker, task = running.pop(future)
                try:
                    outcome = ray.get(future)
                except (RayActorError, ObjectLostError) as error:
                    ray.kill(worker)
                    hire()
                    if task is not None and len(task) - 1 < ATTEMPTS:
                        again.append((*task, error))
                    elif task is not None:
                        yield task[0], OSError(f"lost its worker {ATTEMPTS} times, perhaps for want of memory")
                    continue
                idle.append(worker)
                if task is not None:
                    yield task[0], outcome
        finally:
            for worker in [*idle, *(worker for worker, _ in running.values())]:
                ray.kill(worker)


class Worker:
    """A process of the cluster."""

    def begin(self, setup: Callable[[], Work]) -> None:
        self._work = setup()

    def do(self, job: Any) -> Any:
        return attempt(self._work, job)


Engine = Local | Ray


def engine_of(name: str, threads: int = 1, gpu: bool = True) -> Engine:
    """By name. Raises ValueError for another, and where ray is missing."""
    if name not in ENGINES:
        raise ValueError(f"engine={name!r} must be one of {', '.join(ENGINES)}")
    return Local(threads) if name == "local" else Ray(gpu)


def attempt(work: Work, job: Any) -> Any:
    """The result, or the error of a job that cannot be done; anything else is a bug and is raised."""
    try:
        return work(job)
    except (ValueError, OSError) as error:
        return error
