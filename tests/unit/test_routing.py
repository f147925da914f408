"""Which runner gets which task, and what this machine can hold where no cluster is active."""

from __future__ import annotations

import sys
import threading
import time
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import Resources, flow, task
from hpc_flows.context import current
from hpc_flows.exceptions import DoesNotFit, ResourceError
from hpc_flows.states import Cancelled, Completed
from hpc_flows.task_runners import TaskCall, TaskRunner, ThreadPoolTaskRunner
from hpc_flows.task_runners.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hpc_flows.context import RunContext


class FakeCluster(TaskRunner):
    """Takes calls as a cluster's runner does, and runs them when it is told to."""

    name = "fake"
    places_resources = True
    made: list[FakeCluster]

    def __init__(self, cluster: str = "fake") -> None:
        self.cluster = cluster
        self.batches: list[list[str]] = []
        self.cancelled: list[str] = []
        self.contexts: list[RunContext] = []
        self.closed = False
        self.hold = False
        type(self).made.append(self)

    def check(self, task: Any) -> None:
        if task.resources is not None and (task.resources.cpus or 0) > 100:
            raise DoesNotFit("too many cpus")

    def start(self, context: RunContext) -> None:
        self.contexts.append(context)

    def submit(self, calls: Sequence[TaskCall]) -> None:
        self.batches.append([call.task.name for call in calls])
        for call in calls:
            if not self.hold:
                state = Completed(data=("cluster", call.task.fn(*call.args, **call.kwargs)))
                call.context.root.record("task", call.run, state)
                call.future.resolve(state)

    def cancel(self, calls: Sequence[TaskCall] | None, reason: str) -> None:
        for call in calls or ():
            self.cancelled.append(call.task.name)
            call.end(Cancelled(reason))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], FakeCluster]]:
    """Make a fake cluster the active one; the value returns its runner."""
    FakeCluster.made = []
    module = ModuleType("hpc_flows.task_runners.cluster")
    module.ClusterTaskRunner = FakeCluster  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "afton")
    yield lambda: FakeCluster.made[0]
    assert len(FakeCluster.made) <= 1


@task(resources=Resources(cpus=1))
def big(x: Any = 0) -> Any:
    return x


@task
def small(x: Any = 0) -> Any:
    return x


def test_tasks_with_resources_go_to_the_active_cluster_also_when_called(
    cluster: Callable[[], FakeCluster],
) -> None:
    @flow
    def main() -> Any:
        return big(1), big.submit(2), small(3), small.submit(4)

    assert main() == (("cluster", 1), ("cluster", 2), 3, 4)
    assert cluster().cluster == "afton"
    assert cluster().closed


def test_a_task_with_resources_that_is_called_outside_of_flows_goes_there_too(
    cluster: Callable[[], FakeCluster],
) -> None:
    assert big(1) == ("cluster", 1)
    assert cluster().closed


def test_a_map_arrives_as_one_list(cluster: Callable[[], FakeCluster]) -> None:
    @flow
    def main() -> None:
        big.map(range(5)).wait()

    main()
    assert cluster().batches == [["big"] * 5]


def test_calls_that_wait_for_one_run_arrive_together(cluster: Callable[[], FakeCluster]) -> None:
    @flow
    def main() -> Any:
        gate = threading.Event()
        first = task(lambda: gate.wait(60) and 7).submit()
        second = task(lambda: 8).submit()
        mapped = big.map([first, first, second, first], wait_for=[second])
        second.wait()
        gate.set()
        return mapped

    assert main() == [("cluster", x) for x in (7, 7, 8, 7)]
    assert sorted(map(len, cluster().batches)) == [1, 3]


def test_subflows_share_the_clusters_runner(cluster: Callable[[], FakeCluster]) -> None:
    @flow
    def inner() -> Any:
        return big.submit(1)

    @flow
    def main() -> Any:
        return inner(), big.submit(2)

    assert main() == (("cluster", 1), ("cluster", 2))
    assert len(cluster().contexts) == 1


def test_what_the_cluster_cannot_hold_is_refused_when_it_is_submitted(
    cluster: Callable[[], FakeCluster],
) -> None:
    huge = big.with_options(resources={"cpus": 1000})

    @flow
    def main() -> None:
        for call in (huge, huge.submit, lambda: huge.map([1])):
            with pytest.raises(DoesNotFit, match="too many"):
                call()

    main()
    assert cluster().batches == []


def test_a_flow_that_fails_cancels_its_jobs_that_wait(cluster: Callable[[], FakeCluster]) -> None:
    @flow
    def main() -> None:
        big(0)
        cluster().hold = True
        big.submit(1)
        small.submit(big.submit(2))
        raise ValueError

    assert main(return_state=True).is_failed()
    assert cluster().cancelled == ["big", "big"]


def test_a_runner_that_is_given_to_the_flow_takes_the_place_of_the_active_cluster(
    cluster: Callable[[], FakeCluster],
) -> None:
    class Given(FakeCluster):
        made: list[FakeCluster] = []  # noqa: RUF012 - of this class only

    @flow(task_runner=Given("explicit"))
    def main() -> Any:
        return big(1), small.submit(2), small(3)

    assert main() == (("cluster", 1), ("cluster", 2), 3)
    assert FakeCluster.made == []


class Refusing(FakeCluster):
    """Takes one call, and refuses others, as a runner that has no places left."""

    made: list[FakeCluster] = []  # noqa: RUF012 - of this class only

    def submit(self, calls: Sequence[TaskCall]) -> None:
        if self.batches:
            raise RuntimeError("no places left")
        super().submit(calls)


@pytest.mark.parametrize("how", ["called", "submitted", "mapped", "mapped, with some that wait"])
def test_a_flow_does_not_wait_for_calls_that_its_runner_has_refused(
    how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    left: list[Any] = []

    @flow(task_runner=Refusing())
    def main() -> str:
        taken = small.submit(0)
        calls: dict[str, Callable[[], Any]] = {
            "called": lambda: big(1),
            "submitted": lambda: small.submit(1),
            "mapped": lambda: small.map([1, 2]),
            "mapped, with some that wait": lambda: small.map([1, taken]),
        }
        with pytest.raises(RuntimeError, match="no places left"):
            calls[how]()
        around = current()
        assert around is not None
        left.extend(around.submitted.futures())
        for future in left:  # the flow would never end, nor the test
            future.resolve(Cancelled())
        return "went on"

    assert main() == "went on"
    assert left == []
    told = "Crashed('The run could not be submitted: no places left')"
    assert capsys.readouterr().err.count(told) == (2 if "mapped" in how else 1)


def test_calls_that_are_refused_outside_of_flows_are_told_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any, calls: Sequence[TaskCall]) -> None:
        raise RuntimeError(f"no places for {len(calls)}")

    monkeypatch.setattr(ThreadPoolTaskRunner, "submit", refuse)
    with pytest.raises(RuntimeError, match="no places for 2"):
        small.map([1, 2])
    assert capsys.readouterr().err.count("no places for 2") == 2


# This machine ---------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this machine 4 cpus, 8 GB and 2 GPUs."""
    monkeypatch.setattr("hpc_flows.task_runners.machine.usable_cpus", lambda: 4)
    monkeypatch.setattr("hpc_flows.task_runners.machine._memory", lambda: 8 * 1024**3)
    monkeypatch.setattr("hpc_flows.task_runners.machine._gpus", lambda: 2)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("resources", "most"),
    [
        ({"cpus": 2}, 2),
        ({"memory": "3GB"}, 2),
        ({"gpus": "a100:1"}, 2),
        ({"cpus": 1}, 4),
        ({"cpus": 3, "memory": "1G"}, 1),
    ],
)
def test_cpus_memory_and_gpus_bound_what_runs_at_once(resources: dict[str, Any], most: int) -> None:
    running: list[int] = []
    seen: list[int] = []

    @task(resources=resources)
    def work(_: int) -> None:
        running.append(1)
        seen.append(len(running))
        time.sleep(0.03)
        running.pop()

    @flow
    def main() -> None:
        work.map(range(8)).wait()

    main()
    assert max(seen) == most


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    "resources",
    [{"cpus": 5}, {"memory": "9GB"}, {"gpus": 3}, {"nodes": 2}, {"cpus": 2, "tasks_per_node": 3}],
)
def test_what_the_machine_cannot_hold_is_refused_with_the_way_to_a_cluster(
    resources: dict[str, Any],
) -> None:
    work = task(resources=resources, name="train")(lambda: 1)

    @flow
    def main() -> None:
        for call in (work, work.submit):
            with pytest.raises(
                ResourceError, match=r"'train' asks for .*4 cpus.*HPC_FLOWS_CLUSTER"
            ):
                call()

    main()


@pytest.mark.usefixtures("machine")
def test_a_direct_call_waits_for_its_share_and_runs_in_place() -> None:
    order: list[str] = []

    @task(resources={"cpus": 3})
    def first() -> None:
        time.sleep(0.2)
        order.append("first")

    @task(resources={"cpus": 2})
    def second() -> int:
        order.append("second")
        return threading.get_ident()

    @flow
    def main() -> Any:
        future = first.submit()
        while not future.state.is_running():
            time.sleep(0.01)
        return second()

    assert main() == threading.get_ident()
    assert order == ["first", "second"]


@pytest.mark.usefixtures("machine")
def test_a_task_that_waits_lends_its_share_to_those_it_waits_for() -> None:
    @task(resources={"cpus": 4})
    def leaf(x: int) -> int:
        return x

    @task(resources={"cpus": 4})
    def parent() -> Any:
        return leaf.map([1, 2]).result(timeout=150), leaf(3)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def main() -> Any:
        return parent.submit().result(timeout=60), parent()

    assert main() == (([1, 2], 3), ([1, 2], 3))


def test_shares_are_granted_in_order_and_given_back() -> None:
    machine = Machine(cpus=2, memory=0, gpus=0)
    granted: list[str] = []
    shares = {}
    for name, cpus in (("a", 1), ("b", 2), ("c", 1)):
        shares[name] = machine.reserve(Resources(cpus=cpus))
        shares[name].add_done_callback(lambda _, name=name: granted.append(name))
    assert granted == ["a"]
    shares["b"].release()
    assert granted == ["a", "c"]
    shares["a"].release()
    shares["c"].release()
    assert machine.reserve(Resources(cpus=2))._is_granted


@pytest.mark.usefixtures("machine")
def test_what_a_task_does_not_get_on_this_machine_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @task(resources=Resources(cpus=1, walltime="1h", modules="gcc", environment={"A": "1"}))
    def work(x: int) -> int:
        return x

    @flow
    def main() -> Any:
        return work(1), work.map([2, 3]).result()

    assert main() == (1, [2, 3])
    told = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    assert len(told) == 1
    assert "without the modules and environment that it asks for" in told[0]
