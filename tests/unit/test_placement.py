"""Placing requests: which partition holds them, and what is said when none does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_flows.clusters import Cluster, Partition
from hpc_flows.exceptions import DoesNotFit, ResourceError
from hpc_flows.resources import Resources

GIB = 1024**3
HOUR, DAY = 3600, 86400

SITE = Cluster(
    "site",
    partitions={
        "short": Partition("short", "", 2 * HOUR, max_nodes=1, cpus_per_node=16,
                           memory_per_node=64 * GIB),
        "long": Partition("long", "", 7 * DAY, max_nodes=1, cpus_per_node=40,
                          memory_per_node=384 * GIB),
        "wide": Partition("wide", "", DAY, min_nodes=2, max_nodes=8, max_cpus=200,
                          cpus_per_node=40, memory_per_node=384 * GIB),
        "gpu": Partition("gpu", "", 3 * DAY, max_nodes=2, max_gpus=8, cpus_per_node=64,
                         memory_per_node=512 * GIB, gpus={"a100": 4, "a40": 8},
                         gpus_required=True),
        "spare": Partition("spare", "", 30 * DAY, max_nodes=1, cpus_per_node=8,
                           memory_per_node=32 * GIB, automatic=False, preemptible=True),
    },
)  # fmt: skip


# Choosing a partition


@pytest.mark.parametrize(
    ("asked", "partition"),
    [
        ({}, "short"),
        ({"cpus": 16, "walltime": "2h"}, "short"),
        ({"walltime": "3h"}, "long"),
        ({"memory": "65G"}, "long"),
        ({"cpus": 8, "tasks_per_node": 3}, "long"),
        ({"nodes": 2}, "wide"),
        ({"gpus": 1}, "gpu"),
        ({"gpus": "a40:8"}, "gpu"),
    ],
)
def test_the_smallest_partition_that_holds_a_request_is_chosen_and_said(
    asked: dict[str, Any], partition: str
) -> None:
    placed, notes = SITE.placement(Resources(**asked))
    assert placed == Resources(**asked, partition=partition)
    (note,) = notes
    assert f"No partition was named; {partition} is the smallest" in note


def test_the_default_partition_is_taken_in_silence_where_it_holds_the_request() -> None:
    site = replace(SITE, default_partition="long")
    assert site.placement(Resources(cpus=1)) == (Resources(cpus=1, partition="long"), ())
    assert site.place(Resources(gpus=1)).partition == "gpu"


def test_a_default_partition_that_is_not_there_is_refused_and_not_passed_over() -> None:
    with pytest.raises(ResourceError, match="no partition 'log'"):
        replace(SITE, default_partition="log").place(Resources(cpus=1))


def test_the_default_partition_is_named_also_where_no_partition_is_known() -> None:
    blank = Cluster("blank", default_partition="batch", required=("partition",))
    assert blank.place(Resources(cpus=1)) == Resources(cpus=1, partition="batch")
    assert blank.place(Resources(partition="gpu")).partition == "gpu"
    with pytest.raises(ResourceError, match="takes no job without partition="):
        replace(blank, default_partition=None).place(Resources(cpus=1))


def test_a_named_partition_is_kept_also_when_a_smaller_one_would_do() -> None:
    placed, notes = SITE.placement(Resources(partition="long"))
    assert placed.partition == "long"
    assert notes == ()
    assert SITE.place(Resources(partition="short,long")).partition == "short,long"


def test_a_partition_that_is_not_automatic_is_taken_only_when_it_is_named() -> None:
    assert SITE.place(Resources(cpus=1, partition="spare")).partition == "spare"
    with pytest.raises(DoesNotFit) as caught:
        SITE.place(Resources(walltime="20d"))
    assert "nearest is partition long" in str(caught.value)
    assert "It fits partition spare, only taken when named" in str(caught.value)


def test_an_unknown_partition_is_answered_with_the_close_match_and_the_list() -> None:
    with pytest.raises(ResourceError) as caught:
        SITE.place(Resources(partition="log"))
    assert "no partition 'log'. Did you mean 'long'" in str(caught.value)
    assert "short, long, wide, gpu, spare" in str(caught.value)


def test_a_partition_that_is_down_holds_nothing() -> None:
    down = replace(SITE.partitions["short"], up=False)
    site = replace(SITE, partitions={**SITE.partitions, "short": down})
    assert site.place(Resources(cpus=1)).partition == "long"
    with pytest.raises(DoesNotFit, match="it is down"):
        site.place(Resources(partition="short"))


# What does not fit


def test_a_request_that_is_too_big_for_all_is_told_what_the_most_is_and_where() -> None:
    with pytest.raises(DoesNotFit) as caught:
        SITE.place(Resources(memory="2TB"))
    assert (
        "it asks for 2T of memory per node; the most on site is 512G in partition gpu, 384G in "
        "long, 384G in wide (memory_per_node)."
    ) in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"walltime": "60d"}, "60-00:00:00 of walltime; the most on site is 30-00:00:00 in"),
        ({"cpus": 65}, "65 cpus per node; the most on site is 64 cpus in partition gpu"),
        ({"nodes": 9}, "9 nodes; the most on site is 8 nodes in partition wide"),
        (
            {"gpus": "a100:5"},
            "5 a100 GPUs per node; the most on site is 4 per node in partition gpu",
        ),
        ({"gpus": "h100"}, "where it asks for 1 h100 GPU per node; it has a100, a40 (gpus)"),
        (
            {"gpus": 5, "nodes": 2},
            "gpu, where it asks for 10 GPUs in one job; the most there is 8 GPUs (max_gpus)",
        ),
        ({"gpus": 1, "walltime": "4d"}, "nearest is partition gpu, where it asks for 4-00:00:00"),
        (
            {"nodes": 6, "cpus": 40},
            "wide, where it asks for 240 cpus in one job; the most there is 200 cpus (max_cpus)",
        ),
    ],
)
def test_what_fits_nowhere_is_refused_with_the_limit(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(DoesNotFit) as caught:
        SITE.place(Resources(**asked))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "limit", "nearest"),
    [
        ({"partition": "short", "walltime": "3h"}, "max_walltime", "long"),
        ({"partition": "short", "memory": "65G"}, "memory_per_node", "long"),
        ({"partition": "wide"}, "it takes 2 nodes or more (min_nodes)", "short"),
        ({"partition": "gpu"}, "it takes only jobs with GPUs (gpus_required)", "short"),
        ({"partition": "long", "gpus": 1}, "it has no GPUs (gpus)", "gpu"),
        ({"partition": "long", "nodes": 2}, "max_nodes", "wide"),
    ],
)
def test_what_does_not_fit_the_named_partition_is_told_the_nearest_that_holds_it(
    asked: dict[str, Any], limit: str, nearest: str
) -> None:
    with pytest.raises(DoesNotFit) as caught:
        SITE.place(Resources(**asked))
    assert f"does not fit partition {asked['partition']} of site" in str(caught.value)
    assert limit in str(caught.value)
    assert f"Nearest that fits: partition {nearest}." in str(caught.value)


@settings(deadline=None)
@given(
    cpus=st.integers(1, 80),
    memory=st.integers(1, 600),
    walltime=st.integers(1, 40 * DAY),
    nodes=st.integers(1, 10),
    gpus=st.one_of(st.none(), st.integers(1, 10)),
)
def test_what_is_placed_breaks_no_limit_of_its_partition(
    cpus: int, memory: int, walltime: int, nodes: int, gpus: int | None
) -> None:
    asked = Resources(cpus=cpus, memory=f"{memory}G", walltime=walltime, nodes=nodes, gpus=gpus)
    try:
        placed = SITE.place(asked)
    except DoesNotFit:
        open_ = [p for p in SITE.partitions.values() if p.automatic]
        assert all(partition.problems(asked) for partition in open_)
    else:
        assert SITE.partitions[str(placed.partition)].problems(placed) == []
        assert placed == asked.merged({"partition": placed.partition})


# Memory


def test_memory_above_what_a_cpu_may_have_takes_more_cpus_and_says_so() -> None:
    partition = replace(SITE.partitions["long"], max_memory_per_cpu=4 * GIB)
    site = replace(SITE, partitions={"long": partition})
    placed, notes = site.placement(Resources(cpus=2, memory="30G", partition="long"))
    assert placed.cpus == 8
    assert notes == (
        "Partition long gives at most 4G of memory per cpu, so 30G takes 8 cpus instead of 2.",
    )
    assert site.place(Resources(cpus=2, memory="8G")).cpus == 2
    assert site.place(Resources(cpus=1, tasks_per_node=4, memory="30G")).cpus == 2
    with pytest.raises(DoesNotFit, match="41 cpus per node"):
        site.place(Resources(memory="161G"))


@settings(deadline=None)
@given(cpus=st.integers(1, 40), mebibytes=st.integers(1, 300 * 1024))
def test_memory_per_cpu_divides_into_whole_mebibytes_and_is_never_less(
    cpus: int, mebibytes: int
) -> None:
    site = replace(SITE, memory="per_cpu")
    placed = site.place(Resources(cpus=cpus, memory=f"{mebibytes}M"))
    assert placed.memory is not None
    assert placed.cpus is not None
    assert placed.memory % (placed.cpus * 1024**2) == 0
    assert 0 <= placed.memory // 1024**2 - mebibytes < cpus


def test_memory_is_left_out_where_nodes_are_given_whole_and_have_enough() -> None:
    site = replace(SITE, memory="omit")
    assert site.place(Resources(memory="100G")) == Resources(partition="long")
    with pytest.raises(DoesNotFit):
        site.place(Resources(memory="2T"))


def test_memory_is_not_dropped_where_nobody_knows_what_a_node_has() -> None:
    site = Cluster("whole", memory="omit", partitions={"normal": Partition("normal")})
    with pytest.raises(ResourceError, match="does not say how much memory a node has"):
        site.place(Resources(memory="100G"))
    assert site.place(Resources(cpus=1)).partition == "normal"


def test_a_site_that_charges_memory_as_cpus_is_said_to() -> None:
    afton = replace(Cluster.load("afton"), account="mylab")
    _, notes = afton.placement(Resources(cpus=2, memory="90G", walltime="1h"))
    assert "90G of memory is the share of 10 cpus in partition standard (9G each)" in notes[-1]
    assert afton.placement(Resources(cpus=2, memory="18G", walltime="1h")).notes[1:] == ()


# What the site requires


def test_a_missing_account_is_refused_with_the_sites_command_and_the_file_to_write() -> None:
    afton = Cluster.load("afton")
    with pytest.raises(ResourceError) as caught:
        afton.place(Resources(cpus=1))
    assert "afton takes no job without account=" in str(caught.value)
    assert "`allocations`" in str(caught.value)
    assert 'extends = "afton"' in str(caught.value)
    assert afton.place(Resources(cpus=1, account="mylab")).account == "mylab"


def test_defaults_lie_under_the_request_and_a_default_walltime_is_said() -> None:
    site = replace(SITE, defaults=Resources(walltime="3h", environment={"A": "1", "B": "1"}))
    placed, notes = site.placement(Resources(environment={"B": "2"}))
    assert (placed.walltime, placed.partition) == (3 * HOUR, "long")
    assert placed.environment == {"A": "1", "B": "2"}
    assert notes[0] == "No walltime was asked for; the profile of site takes 03:00:00."
    assert len(site.placement(Resources(walltime="3h", partition="long")).notes) == 0


def test_a_partition_brings_its_qos_unless_one_is_asked_for() -> None:
    partition = replace(SITE.partitions["long"], default_qos="normal")
    site = replace(SITE, partitions={"long": partition})
    assert site.place(Resources(cpus=1)).qos == "normal"
    assert site.place(Resources(cpus=1, qos="high")).qos == "high"


def test_a_container_is_refused_where_the_profile_cannot_start_one() -> None:
    with pytest.raises(ResourceError, match="does not say how to start containers"):
        SITE.place(Resources(container="image.sif"))
    site = replace(SITE, container=("apptainer", "exec", "{image}"))
    placed = site.place(Resources(container="image.sif"))
    assert site.wrap(["python", "x.py"], placed) == [
        *("apptainer", "exec", "image.sif", "python", "x.py"),
    ]
    assert site.wrap(["python"], Resources()) == ["python"]


def test_generic_resources_are_not_asked_for_twice() -> None:
    with pytest.raises(ResourceError, match="ask for generic resources twice"):
        SITE.place(Resources(gpus=1, extra="--gres=shard:1"))
    assert SITE.place(Resources(extra="--gres=tmp:1")).extra == ("--gres=tmp:1",)
