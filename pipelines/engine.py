"""Where jobs run: in this process, or on a Ray cluster. Both give the same results.

`setup` is called once for each worker and returns the function that turns a job into a result. That
function writes no files: only setup, jobs and results travel, and this process alone writes.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

K = TypeVar("K")  # a key, which stays in this process
J = TypeVar("J")  # a job
R = TypeVar("R")  # its result

ENGINES = ("local", "ray")
ATTEMPTS = 3  # at a job whose worker is lost


class Local:
    """Run jobs in this process: one after another, or on threads of one core each."""

    def __init__(self, threads: int = 1):
        self.threads = threads

    def map(
        self, setup: Callable[[], Callable[[J], R]], jobs: Iterable[tuple[K, J]]
    ) -> Iterator[tuple[K, R | Exception]]:
        """Yield (key, result or error) in the order of the jobs.

        Jobs are taken from the iterator as workers become free.
        """
        work = setup()
        if self.threads == 1:
            for key, job in jobs:
                yield key, attempt(work, job)
            return
        import torch  # here, because a cluster's workers import this module and may do without

        threads_before = torch.get_num_threads()
        waiting: deque[tuple[K, Future[R | Exception]]] = deque()
        torch.set_num_threads(1)
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
                torch.set_num_threads(threads_before)


@dataclass(frozen=True)
class _Task(Generic[K, J]):
    """A job on its way through a cluster."""

    key: K
    job: J
    attempt: int = 1


class Ray:
    """Run jobs on the cluster that RAY_ADDRESS names; without it, on a new one on this machine.

    A cluster that is already running on this machine is used only with RAY_ADDRESS=auto. There is
    one worker per GPU, or per CPU where no GPU is used. A job whose worker is lost is retried by
    another worker, and a new worker replaces the lost one.
    """

    def __init__(self, gpu: bool = True):
        try:
            import ray
        except ImportError as error:
            raise ValueError("engine 'ray' needs ray; pip install 'degrade[ray]'") from error
        if not ray.is_initialized():
            ray.init(
                # without an address, Ray would join any cluster that runs on this machine
                address=os.environ.get("RAY_ADDRESS") or "local",
                logging_level=logging.ERROR,
                log_to_driver=False,
                include_dashboard=False,  # it would start nine processes and open a port
            )
        resources = ray.cluster_resources()
        on_gpu = gpu and resources.get("GPU", 0) >= 1
        self.workers = int(resources.get("GPU" if on_gpu else "CPU", 0))
        if not self.workers:
            raise ValueError(
                "engine 'ray': the cluster has no CPU; add a machine, or use --engine local"
            )
        self._start_worker = ray.remote(num_cpus=1, num_gpus=int(on_gpu))(Worker).remote

    def map(
        self, setup: Callable[[], Callable[[J], R]], jobs: Iterable[tuple[K, J]]
    ) -> Iterator[tuple[K, R | Exception]]:
        """Yield (key, result or error) as they come, in any order.

        Raises OSError if workers die repeatedly before they are set up.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        remaining = iter(jobs)
        waiting: deque[_Task[K, J]] = deque()
        for key, job in islice(remaining, self.workers):
            waiting.append(_Task(key, job))
        exhausted = len(waiting) < self.workers
        deaths = 0  # during setup, since a worker last succeeded
        workers: list[Any] = []  # handles of Ray, which have no type
        idle: list[Any] = []
        running: dict[Any, tuple[Any, _Task[K, J] | None]] = {}  # no task: it is being set up
        shared_setup = ray.put(setup)  # stored once for all workers of a machine

        def start_worker() -> None:
            worker: Any = self._start_worker()
            workers.append(worker)
            running[worker.begin.remote(shared_setup)] = worker, None

        def next_task() -> _Task[K, J] | None:
            nonlocal exhausted
            if waiting:
                return waiting.popleft()
            for key, job in remaining:
                return _Task(key, job)
            exhausted = True
            return None

        try:
            for _ in range(len(waiting)):
                start_worker()
            while True:
                while idle and (waiting or not exhausted):
                    task = next_task()
                    if task is None:
                        break
                    worker = idle.pop()
                    running[worker.do.remote(task.job)] = worker, task
                busy = any(task is not None for _, task in running.values())
                if exhausted and not waiting and not busy:
                    return
                finished, _ = ray.wait(list(running))
                worker, task = running.pop(finished[0])
                try:
                    outcome = ray.get(finished[0])
                except RayTaskError:  # raised by our own code around the job: a bug
                    raise
                except RayError as error:  # the worker's process or machine is gone
                    if task is None:
                        deaths += 1
                        if deaths == ATTEMPTS:
                            reason = str(error).splitlines()[0]
                            raise OSError(
                                f"no worker could be set up on the cluster: {reason}"
                            ) from error
                    ray.kill(worker)
                    start_worker()
                    if task is None:
                        continue
                    if task.attempt < ATTEMPTS:
                        waiting.append(_Task(task.key, task.job, task.attempt + 1))
                    else:
                        lost = f"lost its worker {ATTEMPTS} times, perhaps for want of memory"
                        yield task.key, OSError(lost)
                    continue
                if task is None and isinstance(outcome, Exception):
                    raise outcome
                deaths = 0
                idle.append(worker)
                if task is not None:
                    yield task.key, outcome
        finally:
            for worker in workers:
                ray.kill(worker)


class Worker(Generic[J, R]):
    """A process of the cluster."""

    def begin(self, setup: Callable[[], Callable[[J], R]]) -> Exception | None:
        work = attempt(setup)
        if isinstance(work, Exception):
            return work
        self._work = work
        return None

    def do(self, job: J) -> R | Exception:
        return attempt(self._work, job)


Engine = Local | Ray


def engine_of(name: str, threads: int = 1, gpu: bool = True) -> Engine:
    """The engine of this name. Raises ValueError for another name, and if ray is not installed."""
    if name not in ENGINES:
        raise ValueError(f"engine={name!r} must be one of {', '.join(ENGINES)}")
    return Local(threads) if name == "local" else Ray(gpu)


def attempt(function: Callable[..., R], *arguments: object) -> R | Exception:
    """The function's result, or the error it raised, so that one picture never ends the others.

    ValueError and OSError are returned as they are: their message is meant for the user. Any other
    exception becomes a ValueError that names its type, the line of code it came from and, if an
    operator raised it, the stage.
    """
    try:
        return function(*arguments)
    except (ValueError, OSError) as error:
        return error
    except (Exception, SystemExit) as error:  # a plugin may call sys.exit
        if out_of_memory(error):
            return ValueError("it does not fit into the memory of this machine")
        stages = [f"{stage}: " for stage in getattr(error, "__notes__", [])[:1]]
        return ValueError(f"{''.join(stages)}{type(error).__name__}: {error} ({_origin(error)})")


def _origin(error: BaseException) -> str:
    """File and line that raised an error."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}"


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, a GPU's, or PyTorch's on the CPU, a plain RuntimeError."""
    of_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or of_torch
