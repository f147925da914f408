"""Cluster profiles: finding, reading and checking them, and completing them from live clusters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from hpc_flows.clusters import Cluster, Partition, Storage, lint
from hpc_flows.clusters.parts import Limits
from hpc_flows.exceptions import ClusterError, DoesNotFit, UnknownCluster
from hpc_flows.resources import Resources
from hpc_flows.schedulers.base import PartitionInfo, SchedulerInfo

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1024**3
HOUR, DAY = 3600, 86400

SITE = Cluster("site")


def write_profile(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


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


def test_live_partitions_that_are_not_for_batch_jobs_are_taken_by_name_only() -> None:
    infos = [
        PartitionInfo("skx-dev", 4, cpus_per_node=8),
        PartitionInfo("skx", 4, cpus_per_node=48),
    ]
    live = Cluster("site").with_live_partitions(infos)
    assert live.place(Resources(cpus=1)).partition == "skx"
    assert live.place(Resources(cpus=1, partition="skx-dev")).partition == "skx-dev"


def test_the_smaller_limit_on_arrays_counts() -> None:
    info = SchedulerInfo("slurm", "22.05.8", max_array_size=500,
                         partitions={p.name: p for p in LIVE})  # fmt: skip
    mine = replace(SITE, limits=Limits(max_array_size=1000))
    assert mine.with_live(info).limits.max_array_size == 500
    assert SITE.with_live(info).limits.max_array_size == 500
    silent = replace(info, max_array_size=None)
    assert mine.with_live(silent).limits.max_array_size == 1000


def test_differences_between_profile_and_cluster_are_told_in_sentences() -> None:
    mine = Cluster(
        "site",
        partitions={
            "batch": Partition(
                "batch", max_walltime=HOUR, cpus_per_node=24, memory_per_node=200 * GIB
            ),
            "gone": Partition("gone"),
        },
    )
    assert mine.differences(LIVE) == [
        "partitions.gone is in the profile and not on the cluster.",
        "partitions.batch.max_walltime is 01:00:00 in the profile and 2-00:00:00 on the cluster.",
        "partitions.batch.memory_per_node is 200G in the profile and 128G on the cluster.",
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


def test_a_home_that_cannot_be_read_does_not_hide_the_shipped_profiles(home: Path) -> None:
    (home / "clusters").mkdir(parents=True)
    home.chmod(0)
    try:
        assert Cluster.load("mock").name == "mock"
        assert "mock" in Cluster.names()
    finally:
        home.chmod(0o700)


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


def test_the_file_that_the_message_describes_gives_the_account(home: Path) -> None:
    text = 'extends = "afton"\n[defaults]\naccount = "mylab"\n'
    path = write_profile(home / "clusters", "afton", text)
    afton = Cluster.load("afton")
    assert afton.file == str(path)
    assert afton.mock_file.endswith("profiles/afton.toml")
    assert afton.place(Resources(cpus=1)).account == "mylab"
    assert afton.place(Resources(cpus=1, account="other")).account == "other"


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
    storage = Storage(purged=(str(tmp_path),), purge_days=90)
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
