"""Where work is done: in this process, or on a Ray cluster. The same jobs, the same results.

`setup` is called once for each worker and gives the function that turns jobs into results. It
writes nothing, so that setup, jobs and results are all that travels, and this process alone writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

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
        import torch  # workers of a cluster import this module, and need not all

        before, waiting = torch.get_num_threads(), deque()
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
                torch.set_num_threads(before)


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
            # a dashboard would take nine processes, and open a port
            ray.init(logging_level="ERROR", log_to_driver=False, include_dashboard=False)
        there = ray.cluster_resources()
        on_gpu = gpu and there.get("GPU", 0) >= 1
        self.workers = int(there.get("GPU" if on_gpu else "CPU", 0))
        if not self.workers:
            raise ValueError(
                "engine 'ray': the cluster has no CPU; add a machine, or use --engine local"
            )
        self._hire = ray.remote(num_cpus=1, num_gpus=int(on_gpu))(Worker).remote

    def map(self, setup: Callable[[], Work], jobs: Jobs) -> Outcomes:
        """Outcomes as they come.

        Raises OSError where no worker can be kept alive for long enough to be set up.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        jobs = iter(jobs)
        waiting = deque((key, job, 1) for key, job in islice(jobs, self.workers))
        exhausted, deaths = len(waiting) < self.workers, 0
        hired, idle = [], []
        running: dict = {}  # future → (worker, what it does; None: setting up)
        setup = ray.put(setup)  # once for all workers of a machine

        def hire() -> None:
            hired.append(self._hire())
            running[hired[-1].begin.remote(setup)] = hired[-1], None

        try:
            for _ in waiting:
                hire()
            while True:
                while idle and (waiting or not exhausted):
                    if not waiting and (more := next(jobs, None)) is None:
                        exhausted = True
                        break
                    task = waiting.popleft() if waiting else (*more, 1)
                    worker = idle.pop()
                    running[worker.do.remote(task[1])] = worker, task
                if exhausted and not waiting and not any(task for _, task in running.values()):
                    return
                (future, *_), _ = ray.wait(list(running))
                worker, task = running.pop(future)
                try:
                    outcome = ray.get(future)
                except RayTaskError:  # a bug
                    raise
                except RayError as error:  # its process or machine is gone, or took too much memory
                    deaths = deaths + 1 if task is None else deaths
                    if deaths == ATTEMPTS:
                        raise OSError(
                            f"no worker could be set up on the cluster: {str(error).splitlines()[0]}"
                        ) from error
                    ray.kill(worker)
                    hire()
                    if task is not None and task[2] < ATTEMPTS:
                        waiting.append((*task[:2], task[2] + 1))
                    elif task is not None:
                        yield (
                            task[0],
                            OSError(
                                f"lost its worker {ATTEMPTS} times, perhaps for want of memory"
                            ),
                        )
                    continue
                if task is None and isinstance(outcome, Exception):
                    raise outcome
                deaths = 0
                idle.append(worker)
                if task is not None:
                    yield task[0], outcome
        finally:
            for worker in hired:
                ray.kill(worker)


class Worker:
    """A process of the cluster."""

    def begin(self, setup: Callable[[], Work]) -> Exception | None:
        self._work = attempt(setup)
        return self._work if isinstance(self._work, Exception) else None

    def do(self, job: Any) -> Any:
        return attempt(self._work, job)


Engine = Local | Ray


def engine_of(name: str, threads: int = 1, gpu: bool = True) -> Engine:
    """By name. Raises ValueError for another, and where ray is missing."""
    if name not in ENGINES:
        raise ValueError(f"engine={name!r} must be one of {', '.join(ENGINES)}")
    return Local(threads) if name == "local" else Ray(gpu)


def attempt(function: Callable, *arguments: Any) -> Any:
    """The result, or the error of what cannot be done; anything else is a bug and is raised."""
    try:
        return function(*arguments)
    except (ValueError, OSError) as error:
        return error
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return ValueError("it does not fit into the memory of this machine")


def out_of_memory(error: Exception) -> bool:
    """Whether this is Python's, a GPU's, or PyTorch's on the CPU, which has no class of its own."""
    named = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or named
