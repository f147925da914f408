"""Reading cluster profiles, and placing requests on what they describe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_flows.clusters import Cluster, Partition, lint
from hpc_flows.exceptions import ClusterError, DoesNotFit, ResourceError, UnknownCluster
from hpc_flows.resources import Resources
from hpc_flows.schedulers.base import PartitionInfo, SchedulerInfo

if TYPE_CHECKING:
    from pathlib import Path

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


def write_profile(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


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


def test_the_file_that_the_message_describes_gives_the_account(home: Path) -> None:
    text = 'extends = "afton"\n[defaults]\naccount = "mylab"\n'
    path = write_profile(home / "clusters", "afton", text)
    afton = Cluster.load("afton")
    assert afton.file == str(path)
    assert afton.mock_file.endswith("profiles/afton.toml")
    assert afton.place(Resources(cpus=1)).account == "mylab"
    assert afton.place(Resources(cpus=1, account="other")).account == "other"


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


# The live cluster


LIVE = [
    PartitionInfo("batch", 4, 2 * DAY, HOUR, cpus_per_node=32, memory_per_node=128 * GIB,
                  default=True),
    PartitionInfo("gpu", 1, DAY, gpus=("gpu:a100:4(S:0-1)", "gpu:2"), cpus_per_node=64,
                  memory_per_node=256 * GIB, max_memory_per_cpu=4 * GIB),
    PartitionInfo("old", 1, DAY, up=False),
]  # fmt: skip


def test_a_profile_without_partitions_takes_those_of_the_live_cluster() -> None:
    blank = Cluster.load("generic_slurm")
    assert blank.place(Resources(memory="900T")).partition is None
    live = blank.with_live_partitions(LIVE)
    assert live.place(Resources(cpus=1)).partition == "batch"
    assert live.place(Resources(gpus="a100:4")).partition == "gpu"
    assert live.place(Resources(gpus=2, memory="8G")).cpus == 2
    with pytest.raises(DoesNotFit, match="the most on generic_slurm is 256G in partition gpu"):
        live.place(Resources(memory="900T"))
    with pytest.raises(DoesNotFit, match="it is down"):
        live.place(Resources(partition="old"))


def test_a_profile_with_partitions_keeps_its_own_and_fills_gaps_from_the_live_cluster() -> None:
    mine = Cluster("site", partitions={"batch": Partition("batch", max_walltime=HOUR)})
    live = mine.with_live_partitions(LIVE)
    assert list(live.partitions) == ["batch"]
    assert live.partitions["batch"].max_walltime == HOUR
    assert live.partitions["batch"].memory_per_node == 128 * GIB
    assert live.default_partition is None


def test_the_smaller_limit_on_arrays_counts() -> None:
    info = SchedulerInfo("slurm", "22.05.8", max_array_size=500,
                         partitions={p.name: p for p in LIVE})  # fmt: skip
    mine = replace(SITE, limits=replace(SITE.limits, max_array_size=1000))
    assert mine.with_live(info).limits.max_array_size == 500
    assert SITE.with_live(info).limits.max_array_size == 500
    silent = replace(info, max_array_size=None)
    assert mine.with_live(silent).limits.max_array_size == 1000


def test_differences_between_profile_and_cluster_are_told_in_sentences() -> None:
    mine = Cluster(
        "site",
        partitions={
            "batch": Partition("batch", max_walltime=HOUR, cpus_per_node=32),
            "gone": Partition("gone"),
        },
    )
    assert mine.differences(LIVE) == [
        "partitions.gone is in the profile and not on the cluster.",
        "partitions.batch.max_walltime is 01:00:00 in the profile and 2-00:00:00 on the cluster.",
    ]


# Profile files


def test_a_profile_is_found_first_where_the_user_says(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profile(home / "clusters", "site", 'title = "of the home"')
    assert Cluster.load("site").title == "of the home"
    named = write_profile(tmp_path / "named", "site", 'title = "of the variable"')
    monkeypatch.setenv("HPC_FLOWS_CLUSTER_PATH", f"{tmp_path}/nowhere:{tmp_path}/named")
    assert Cluster.load("site").title == "of the variable"
    assert Cluster.load(named).title == "of the variable"
    assert {"site", "mock", "afton"} <= set(Cluster.names())


def test_an_unknown_cluster_is_answered_with_the_close_match(home: Path) -> None:
    with pytest.raises(UnknownCluster) as caught:
        Cluster.load("aftn")
    assert "no cluster 'aftn'. Did you mean 'afton'" in str(caught.value)
    assert f"{home}/clusters/aftn.toml" in str(caught.value)
    with pytest.raises(UnknownCluster, match=r"no cluster profile '/nowhere/x\.toml'"):
        Cluster.load("/nowhere/x.toml")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('title = "x"\nmemroy = "omit"\n', 2, "no key 'memroy' in the top level.* 'memory'"),
        ('[partitions.a]\n\nmax_waltime = "1h"', 3, r"\[partitions.a\].*'max_walltime'"),
        ("[partitions]\na = { max_nodes = 0 }", 2, "a.max_nodes = 0 cannot be used.* 1 or more"),
        ('[partitions.a]\nmemory_per_node = "8 XB"', 2, "'XB' is not a unit of memory"),
        ('memory = "per_nod"', 1, "must be one of 'per_node'.*Did you mean 'per_node'"),
        ('required = ["acount"]', 1, "Did you mean 'account'"),
        ("[defaults]\ncpu = 3", 1, "no resource 'cpu'. Did you mean 'cpus'"),
        ('verified_on = "2026-11-21"', 1, "a date without quotes"),
        ("limits = 3", 1, r"must be a table, \[limits\]"),
        ("[poll]\nfirst = 0", 2, "a number above zero"),
        ('scheduler = "slrum"', 1, "it must be 'slurm'"),
        ('path = "bin"', 1, "a list of texts"),
        ('requeue = "yes"', 1, "true or false"),
        ('extends = "mock"\n[mock]\nnodes = []', 1, "must stand alone"),
        ('[mock]\nnodes = [{ name = "c1", cpu = 3 }]', 2, "no key 'cpu'. Did you mean 'cpus'"),
        ('[mock]\nnodes = [{ name = "c1" }]', 2, "lacks cpus, memory, partitions"),
    ],
)
def test_a_mistake_in_a_profile_is_refused_with_file_line_and_what_was_meant(
    tmp_path: Path, text: str, line: int, says: str
) -> None:
    path = write_profile(tmp_path, "mine", text)
    with pytest.raises(ClusterError, match=f"(?s){says}") as caught:
        Cluster.load(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_a_file_that_is_not_toml_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = write_profile(tmp_path, "mine", "name = [")
    with pytest.raises(ClusterError, match=f"{path} is not TOML"):
        Cluster.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ClusterError, match=f"{path} is not TOML"):
        Cluster.load(path)


def test_a_profile_extends_another_table_by_table(home: Path) -> None:
    write_profile(
        home / "clusters",
        "mine",
        'extends = "mock"\ndefault_partition = "gpu"\n[partitions.gpu]\nmax_nodes = 1\n',
    )
    mine, base = Cluster.load("mine"), Cluster.load("mock")
    assert mine.name == "mine"
    assert mine.partitions["gpu"] == replace(base.partitions["gpu"], max_nodes=1)
    assert mine.partitions["standard"] == base.partitions["standard"]
    assert mine.start == base.start
    assert mine.facts == base.facts


def test_a_profile_that_extends_itself_in_a_circle_is_refused(home: Path) -> None:
    write_profile(home / "clusters", "one", 'extends = "two"')
    write_profile(home / "clusters", "two", 'extends = "one"')
    with pytest.raises(UnknownCluster, match="extends 'one', and there is no"):
        Cluster.load("one")


def test_places_and_commands_are_filled_in(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE", "/opt/site")
    monkeypatch.setenv("HOME", str(tmp_path))
    text = 'path = ["{home}/bin", "$SITE/bin", "~/bin"]\nstart = ["{python}", "{profile}"]\n'
    path = write_profile(tmp_path, "mine", text)
    mine = Cluster.load(path)
    assert mine.path == (f"{home}/bin", "/opt/site/bin", f"{tmp_path}/bin")
    assert mine.start[1] == str(path)
    assert mine.start[0].endswith(("python", "python3", "python3.11", "python3.13"))


# Warnings and provenance


def test_a_profile_that_was_not_verified_for_a_year_is_warned_of() -> None:
    mine = replace(SITE, verified_on=date(2026, 1, 1))
    assert mine.warnings(date(2027, 1, 1)) == ()
    (warning,) = mine.warnings(date(2027, 1, 2))
    assert "last verified on 2026-01-01, more than twelve months ago" in warning
    (warning,) = replace(SITE, status="retired").warnings()
    assert "marked as retired" in warning


def test_a_home_below_a_purged_folder_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = replace(SITE.storage, purged=(str(tmp_path),), purge_days=90)
    mine = replace(SITE, storage=storage)
    (warning,) = mine.warnings()
    assert "deletes files that were not used for 90 days" in warning
    monkeypatch.setenv("HPC_FLOWS_HOME", "/elsewhere")
    assert mine.warnings() == ()


def test_a_fact_knows_its_source() -> None:
    afton = Cluster.load("afton")
    fact = afton.fact("partitions.standard.max_walltime")
    assert fact is not None
    assert "service.yaml" in fact.title
    assert fact.date == date(2026, 2, 24)
    special = afton.fact("partitions.gpu.gpus.h200")
    assert special is not None
    assert special.source == "h200_post"
    assert afton.fact("nothing") is None


def test_the_linter_names_what_a_profile_lacks(tmp_path: Path) -> None:
    path = write_profile(
        tmp_path,
        "mine",
        'memory = "omit"\n[sources.docs]\ntitle = "the docs"\n'
        '[provenance]\nrequired = "docs"\nmemory = "nobody"\n',
    )
    complaints = lint(path)
    assert {"name is missing", "title is missing", "verified_on is missing"} <= {*complaints}
    assert "sources.docs has no date" in complaints
    assert "provenance.'memory' names the source 'nobody', which is not there" in complaints
    assert "provenance.'required' is about nothing that the profile says" in complaints
    assert "memory has no source" in complaints


@dataclass
class Stranger:
    """What another scheduler's adapter may give: only some of the attributes."""

    name: str
    gpus: tuple[str, ...] = ()


def test_a_live_partition_needs_no_more_than_a_name() -> None:
    assert Partition.from_live(Stranger("x", ("v100:2",))) == Partition("x", gpus={"v100": 2})
