"""The peers behind one small interface, so that all are asked for the same work."""

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from typing import Any

#: As many as this machine has for it; every side gets the same.
WORKERS = len(os.sched_getaffinity(0))


def number_of(number: int) -> int:
    """Return the number."""
    return number


def zeros_of(size: int) -> Any:
    """Return an array of that many numbers."""
    import numpy as np

    return np.zeros(size)


class Side(ABC):
    """Somebody who runs tasks."""

    @abstractmethod
    def run(self, body: Callable[["Side"], None]) -> None:
        """Call `body(self)` where tasks can be given."""

    @abstractmethod
    def submit(self, number: Any) -> Any:
        """Hand over `number_of(number)`, which may be a future, and return a future."""

    @abstractmethod
    def zeros(self, size: int) -> Any:
        """Hand over `zeros_of(size)` and return a future."""

    def map(self, count: int) -> Any:
        """Hand over `number_of` for every number below `count`."""
        return [self.submit(number) for number in range(count)]

    def value(self, future: Any) -> Any:
        """Wait for a future's value."""
        return future.result()

    def call(self, number: int) -> int:
        """Run `number_of(number)` and wait for it."""
        value: int = self.value(self.submit(number))
        return value

    def subflow(self, number: int) -> int:
        """Run one task in a flow of its own."""
        raise NotImplementedError(f"{type(self).__name__} has no flows")


class Flows(Side):
    """hpc_flows or Prefect, whose interfaces are the same."""

    def __init__(self, library: str, runner: str) -> None:
        self.library = import_module(library)
        runners = import_module(f"{library}.task_runners")
        self.runner = getattr(runners, runner)(max_workers=WORKERS)
        self.task = self.library.task(number_of)
        self.array = self.library.task(zeros_of)

        def inner(number: int) -> int:
            called: int = self.task(number)
            return called

        self.inner = self.library.flow(inner)

    def run(self, body: Callable[[Side], None]) -> None:
        """Run the body in a flow."""

        def outer() -> None:
            body(self)

        self.library.flow(name="outer", task_runner=self.runner)(outer)()

    def submit(self, number: Any) -> Any:
        return self.task.submit(number)

    def zeros(self, size: int) -> Any:
        return self.array.submit(size)

    def map(self, count: int) -> Any:
        return self.task.map(range(count))

    def call(self, number: int) -> int:
        return self.task(number)

    def subflow(self, number: int) -> int:
        return self.inner(number)


class Pool(Side):
    """What has `submit` as pools of concurrent.futures have."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def run(self, body: Callable[[Side], None]) -> None:
        with self.pool:
            body(self)

    def submit(self, number: Any) -> Any:
        return self.pool.submit(number_of, number)

    def zeros(self, size: int) -> Any:
        return self.pool.submit(zeros_of, size)


class Dask(Pool):
    """dask.distributed on this machine."""

    def submit(self, number: Any) -> Any:
        # Pure calls of one argument would be computed once only.
        return self.pool.submit(number_of, number, pure=False)

    def map(self, count: int) -> Any:
        return self.pool.map(number_of, range(count), pure=False)

    def zeros(self, size: int) -> Any:
        return self.pool.submit(zeros_of, size, pure=False)


class Parsl(Side):
    """Parsl with one executor."""

    def __init__(self, executor: Any) -> None:
        import parsl

        folder = tempfile.mkdtemp(prefix="bench-parsl-")
        config = parsl.Config(
            executors=[executor], run_dir=folder, initialize_logging=False, usage_tracking=0
        )
        self.parsl = parsl
        self.config = config

    def run(self, body: Callable[[Side], None]) -> None:
        with self.parsl.load(self.config):
            self.app = self.parsl.python_app(number_of)
            self.array = self.parsl.python_app(zeros_of)
            body(self)

    def submit(self, number: Any) -> Any:
        return self.app(number)

    def zeros(self, size: int) -> Any:
        return self.array(size)


def _futures_threads() -> Side:
    from concurrent.futures import ThreadPoolExecutor

    return Pool(ThreadPoolExecutor(WORKERS))


def _futures_processes() -> Side:
    from concurrent.futures import ProcessPoolExecutor

    return Pool(ProcessPoolExecutor(WORKERS))


def _dask(*, processes: bool) -> Side:
    from distributed import Client

    workers, threads = (WORKERS, 1) if processes else (1, WORKERS)
    return Dask(
        Client(
            n_workers=workers,
            threads_per_worker=threads,
            processes=processes,
            dashboard_address=None,
        )
    )


def _executorlib() -> Side:
    from executorlib import SingleNodeExecutor

    return Pool(SingleNodeExecutor(max_workers=WORKERS, block_allocation=True))


def _parsl_threads() -> Side:
    from parsl.executors import ThreadPoolExecutor

    return Parsl(ThreadPoolExecutor(max_threads=WORKERS))


def _parsl_htex() -> Side:
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    return Parsl(
        HighThroughputExecutor(
            max_workers_per_node=WORKERS,
            address="127.0.0.1",
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
    )


_MAKERS: dict[str, Callable[[], Side]] = {
    "hpc_flows": lambda: Flows("hpc_flows", "ThreadPoolTaskRunner"),
    "hpc_flows-processes": lambda: Flows("hpc_flows", "ProcessPoolTaskRunner"),
    "prefect": lambda: Flows("prefect", "ThreadPoolTaskRunner"),
    "prefect-processes": lambda: Flows("prefect", "ProcessPoolTaskRunner"),
    "futures": _futures_threads,
    "futures-processes": _futures_processes,
    "dask-threads": lambda: _dask(processes=False),
    "dask-processes": lambda: _dask(processes=True),
    "executorlib": _executorlib,
    "parsl-threads": _parsl_threads,
    "parsl-htex": _parsl_htex,
}


def made(name: str) -> Side:
    """Return the side of that name."""
    return _MAKERS[name]()
