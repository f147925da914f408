"""Who runs where and when on the pretend cluster; without processes, in a time of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows.mock_cluster import actions, admission
from hpc_flows.mock_cluster.admission import RefusedError
from hpc_flows.mock_cluster.clock import Clock
from hpc_flows.mock_cluster.cluster import Cluster, Exit
from hpc_flows.mock_cluster.hostlist import (
    compress_elements,
    compress_hosts,
    expand_hosts,
    parse_elements,
)
from hpc_flows.mock_cluster.job import Job, Request
from hpc_flows.mock_cluster.sites import SiteError, Timings, default_site
from hpc_flows.mock_cluster.store import Store

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 60


class ManualClock(Clock):
    """A clock that a test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time

    def pass_seconds(self, seconds: float) -> None:
        end = self.time + seconds
        while (due := self.next_due()) is not None and due <= end:
            self.time = max(self.time, due)
            self.run_due()
        self.time = end


class PaperRunner:
    """A runner whose jobs end only when a test ends them, or when they are terminated."""

    def __init__(self) -> None:
        self.cluster: Cluster | None = None

    def launch(self, job: Job) -> None:
        job.pid = job.id

    def terminate(self, job: Job, notice: str) -> None:
        assert self.cluster is not None
        cluster = self.cluster
        cluster.clock.call_in(0.5, lambda: cluster.finish(job, Exit(15)))

    def kill(self, job: Job) -> None:
        pass

    def power_cut(self, job: Job) -> None:
        job.pid = 0

    def signal(self, job: Job, number: int, *, batch: bool, steps: bool) -> None:
        pass


class Bench:
    """A cluster on paper."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.store = Store(folder / "events.jsonl")
        self.store.rewrite([])
        runner = PaperRunner()
        self.site = default_site()
        self.site.timings = Timings(tick=1.0)
        self.cluster = Cluster(self.site, self.clock, self.store, runner)
        runner.cluster = self.cluster

    def submit(self, **changes: Any) -> Job:
        base = Request("job", 7, 7, "ann", "", None, None, environment={})
        request = replace(base, **changes)
        admission.check(self.site, request, inside_job=False)
        return self.cluster.submit(request)

    def later(self, seconds: float = 3.0) -> None:
        self.clock.pass_seconds(seconds)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_jobs_fill_a_node_before_the_next(bench: Bench) -> None:
    jobs = [bench.submit(ntasks=1, cpus_per_task=20) for _ in range(3)]
    bench.later()
    assert [list(job.nodes) for job in jobs] == [["c1"], ["c1"], ["c2"]]


def test_memory_decides_as_well_as_cpus(bench: Bench) -> None:
    first = bench.submit(mem_per_node=300_000)
    second = bench.submit(mem_per_node=300_000)
    third = bench.submit(mem_per_node=300_000)
    bench.later()
    assert (list(first.nodes), list(second.nodes)) == (["c1"], ["c2"])
    assert (third.state, third.reason) == ("PENDING", "Resources")


def test_a_job_of_all_memory_has_its_node_alone(bench: Bench) -> None:
    bench.submit(mem_per_node=0, nodelist=("c1",))
    other = bench.submit(nodelist=("c1",))
    bench.later()
    assert other.reason == "Resources"


def test_gpus_are_given_by_type_and_returned(bench: Bench) -> None:
    first = bench.submit(partition="gpu", gpus_per_node={"a100": 3})
    second = bench.submit(partition="gpu", gpus_per_node={"": 2})
    bench.later()
    assert first.nodes["c4"].gpus == [0, 1, 2]
    assert second.state == "PENDING"
    bench.cluster.finish(first, Exit(0))
    bench.later()
    assert second.nodes["c4"].gpus == [0, 1]


def test_the_first_in_line_waits_for_resources_and_the_others_for_priority(bench: Bench) -> None:
    for _ in range(2):
        bench.submit(exclusive=True, time_limit=HOUR)
    first = bench.submit(cpus_per_task=40, time_limit=HOUR)
    second = bench.submit(cpus_per_task=30, time_limit=HOUR)
    bench.later()
    assert (first.reason, second.reason) == ("Resources", "Priority")


def test_a_short_job_goes_ahead_where_it_delays_nobody(bench: Bench) -> None:
    bench.submit(cpus_per_task=30, time_limit=HOUR, nodelist=("c1",))
    bench.submit(cpus_per_task=30, time_limit=HOUR, nodelist=("c2",))
    first = bench.submit(cpus_per_task=40, time_limit=HOUR)
    short = bench.submit(cpus_per_task=5, time_limit=HOUR // 2)
    long = bench.submit(cpus_per_task=5, time_limit=10 * HOUR, nodelist=("c1",))
    bench.later()
    assert first.state == "PENDING"
    assert short.state == "RUNNING"
    assert long.state == "PENDING"


def test_a_higher_partition_takes_the_nodes_of_a_preemptible_job(bench: Bench) -> None:
    victims = [
        bench.submit(partition="preempt", cpus_per_task=40, time_limit=HOUR, mem_per_node=1000)
        for _ in range(2)
    ]
    bench.later()
    winner = bench.submit(cpus_per_task=40, mem_per_node=1000)
    bench.later()
    assert winner.state == "RUNNING"
    states = sorted(victim.state for victim in victims)
    assert states == ["PENDING", "RUNNING"]
    waiting = next(victim for victim in victims if victim.state == "PENDING")
    assert (waiting.reason, waiting.restarts) == ("BeginTime", 1)


def test_a_requeued_job_waits_two_minutes(bench: Bench) -> None:
    job = bench.submit()
    bench.later()
    actions.requeue(bench.cluster, job, 7)
    bench.later(100)
    assert (job.state, job.reason) == ("PENDING", "BeginTime")
    bench.later(30)
    assert (job.state, job.restarts) == ("RUNNING", 1)


def test_a_time_limit_ends_a_job_soon_after(bench: Bench) -> None:
    job = bench.submit(time_limit=10)
    bench.later(590)
    assert job.state == "RUNNING"
    bench.later(30)
    assert (job.state, job.completing) == ("TIMEOUT", False)


def test_an_ended_job_is_forgotten_in_time_and_accounting_keeps_it(bench: Bench) -> None:
    job = bench.submit()
    bench.later()
    bench.cluster.finish(job, Exit(0))
    bench.later(290)
    assert bench.cluster.knows(job.id)
    bench.later(20)
    assert not bench.cluster.knows(job.id)
    assert bench.cluster.accounting.rows[job.id, 0].state == "COMPLETED"


def test_accounting_is_as_late_as_its_lag(bench: Bench) -> None:
    bench.site.timings = Timings(tick=1.0, dbd_lag=30.0)
    job = bench.submit()
    bench.later(20)
    assert not bench.cluster.accounting.rows
    bench.later(20)
    assert bench.cluster.accounting.rows[job.id, 0].state == "RUNNING"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"qos": "short", "time_limit": 120}, "QOSMaxWallDurationPerJobLimit"),
        ({"account": "spent"}, "AssocGrpCPUMinutesLimit"),
    ],
)
def test_a_limit_keeps_a_job_waiting_for_ever(
    bench: Bench, changes: dict[str, Any], reason: str
) -> None:
    job = bench.submit(**changes)
    bench.later()
    assert (job.state, job.reason) == ("PENDING", reason)


def test_a_partition_that_is_down_keeps_its_jobs(bench: Bench) -> None:
    bench.site.partitions["largemem"].state = "DOWN"
    job = bench.submit(partition="largemem")
    bench.later()
    assert job.reason == "PartitionDown"


def test_a_full_qos_refuses_further_jobs(bench: Bench) -> None:
    for _ in range(2):
        bench.submit(qos="tiny")
    bench.later()
    with pytest.raises(RefusedError, match="Job violates accounting") as refusal:
        bench.submit(qos="tiny")
    assert refusal.value.notes == ("QOSMaxSubmitJobPerUserLimit",)


def test_a_full_controller_is_full_with_array_elements_counted(bench: Bench) -> None:
    bench.site.max_jobs = 12
    bench.submit(array="0-9")
    assert not bench.cluster.is_full()
    bench.submit(hold=True)
    assert bench.cluster.is_full()


def test_more_memory_per_cpu_than_allowed_takes_more_cpus(bench: Bench) -> None:
    bench.site.partitions["standard"].max_mem_per_cpu = 4000
    job = bench.submit(mem_per_cpu=10_000)
    bench.later()
    assert job.nodes["c1"].cpus == 3


def test_tasks_are_spread_over_the_nodes_asked_for(bench: Bench) -> None:
    job = bench.submit(partition="parallel", ntasks=5, min_nodes=3, max_nodes=3, asked_nodes=True)
    bench.later()
    assert [share.tasks for share in job.nodes.values()] == [2, 2, 1]


def test_two_thousand_elements_are_one_record_until_they_start(bench: Bench) -> None:
    bench.site.max_array_size = 2001
    array = bench.submit(array="0-1999")
    assert len(bench.cluster.jobs) == 1
    bench.later()
    running = [job for job in bench.cluster.jobs.values() if job.state == "RUNNING"]
    assert len(running) == 80
    assert array.element_text == "80-1999"


# -- lists


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("c1", ["c1"]),
        ("c[1-3,7],login", ["c1", "c2", "c3", "c7", "login"]),
        ("n[01-03]", ["n01", "n02", "n03"]),
    ],
)
def test_host_lists_go_both_ways(text: str, names: list[str]) -> None:
    assert expand_hosts(text) == names
    assert compress_hosts(names) == text


def test_elements_go_both_ways() -> None:
    assert parse_elements("0-4,7,10-14:2") == [0, 1, 2, 3, 4, 7, 10, 12, 14]
    assert compress_elements([0, 1, 2, 3, 4, 7, 10, 12]) == "0-4,7,10,12"


@pytest.mark.parametrize("text", ["", "a", "5-1", "1-", "3:2", "1-5:0", "1-5:x", "-1"])
def test_a_bad_element_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"number|backwards|range"):
        parse_elements(text)


def test_a_timing_that_is_negative_is_refused() -> None:
    with pytest.raises(SiteError, match="cannot be negative"):
        Timings.from_texts({"tick": -1})
