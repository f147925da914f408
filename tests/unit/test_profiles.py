"""The shipped cluster profiles: complete, sourced, and true to the rules of their sites."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from hpc_flows.clusters import Cluster, lint
from hpc_flows.exceptions import DoesNotFit, ResourceError
from hpc_flows.resources import Resources, parse_memory
from hpc_flows.settings import data_dir

FOLDER = Path(data_dir("profiles"))
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
WITH_MOCK = [
    name for name in NAMES if "mock" in tomllib.loads((FOLDER / f"{name}.toml").read_text())
]

GIB = 1024**3


def mock_nodes(name: str) -> list[dict[str, Any]]:
    table = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    nodes: list[dict[str, Any]] = table["mock"]["nodes"]
    return nodes


@pytest.fixture
def afton() -> Cluster:
    return Cluster.load("afton")


def on_afton(afton: Cluster, **asked: Any) -> Resources:
    return afton.place(Resources(account="mylab", **asked))


def test_the_profiles_of_the_first_release_are_shipped() -> None:
    assert {"afton", "delftblue", "generic_slurm", "mock"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_of_a_shipped_profile_has_a_source_and_a_date(name: str) -> None:
    assert lint(name) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_loads_under_its_own_name(name: str) -> None:
    cluster = Cluster.load(name)
    assert cluster.name == name
    assert cluster.file == str(FOLDER / f"{name}.toml")


@pytest.mark.parametrize("name", NAMES)
def test_a_default_partition_is_one_of_the_profiles_own(name: str) -> None:
    cluster = Cluster.load(name)
    assert cluster.default_partition in {None, *cluster.partitions}


@pytest.mark.parametrize("name", NAMES)
def test_polling_a_real_site_is_never_quicker_than_every_five_seconds(name: str) -> None:
    poll = Cluster.load(name).poll
    assert poll.interval <= poll.slowest
    assert name == "mock" or min(poll.first, poll.interval, poll.history) >= 5


@pytest.mark.parametrize("name", WITH_MOCK)
def test_every_partition_has_pretend_nodes_and_every_node_a_known_partition(name: str) -> None:
    used = {partition for node in mock_nodes(name) for partition in node["partitions"]}
    assert used == set(Cluster.load(name).partitions)


@pytest.mark.parametrize("name", WITH_MOCK)
def test_the_mock_can_read_units_without_our_parser(name: str) -> None:
    table = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    for partition in table["partitions"].values():
        for key, value in partition.items():
            if key.endswith("walltime"):
                assert re.fullmatch(r"(\d+-)?\d\d:\d\d:\d\d", value)
            if "memory" in key:
                assert re.fullmatch(r"\d+[KMGT]", value)
    assert all(re.fullmatch(r"\d+[KMGT]", node["memory"]) for node in mock_nodes(name))


def test_the_largest_request_that_mock_places_has_a_pretend_node_that_holds_it() -> None:
    mock = Cluster.load("mock")
    for partition in mock.partitions.values():
        nodes = [node for node in mock_nodes("mock") if partition.name in node["partitions"]]
        assert max(node["cpus"] for node in nodes) == partition.cpus_per_node
        assert max(parse_memory(node["memory"]) for node in nodes) == partition.memory_per_node
        gpus = {node["gpus"] for node in nodes} - {""}
        assert gpus == {f"{kind}:{count}" for kind, count in partition.gpus.items()}


def test_mock_takes_jobs_without_account_and_starts_itself(home: Path) -> None:
    mock = Cluster.load("mock")
    assert mock.place(Resources()) == Resources(partition="standard")
    assert mock.path == (f"{home}/mock/mock/bin",)
    assert mock.start[1:] == (
        *("-m", "hpc_flows.mock_cluster", "start", "--home", str(home), "--name", "mock"),
        *("--profile", str(FOLDER / "mock.toml")),
    )


def test_afton_names_no_default_partition_and_says_which_one_was_chosen(afton: Cluster) -> None:
    assert afton.default_partition is None
    placed, notes = afton.placement(Resources(cpus=1, walltime="1h", account="mylab"))
    assert placed.partition == "standard"
    said = "No partition was named; standard is the smallest of afton that holds 1 cpu, 1:00:00"
    assert notes == (f"{said}, account mylab.",)


def test_afton_wants_an_account_and_tells_the_command_that_shows_yours(afton: Cluster) -> None:
    with pytest.raises(ResourceError, match="run `allocations` on afton"):
        afton.place(Resources(cpus=1))


@pytest.mark.parametrize(
    ("asked", "partition"),
    [
        ({"cpus": 96, "memory": "1462G", "walltime": "7d"}, "standard"),
        ({"nodes": 2, "cpus": 40}, "parallel"),
        ({"nodes": 64, "cpus": 93}, "parallel"),
        ({"gpus": "a100:8"}, "gpu"),
        ({"gpus": "v100:4", "walltime": "3d"}, "gpu"),
        ({"gpus": "1g.10gb:1", "partition": "gpu-mig"}, "gpu-mig"),
        ({"cpus": 4, "partition": "interactive"}, "interactive"),
    ],
)
def test_afton_holds_what_the_site_says_it_holds(
    afton: Cluster, asked: dict[str, Any], partition: str
) -> None:
    assert on_afton(afton, **asked).partition == partition


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"memory": "2TB"}, "the most on afton is 1953G in partition gpu, 1462G in standard"),
        ({"walltime": "8d"}, "the most on afton is 7-00:00:00 in partition standard"),
        ({"nodes": 1, "partition": "parallel"}, "it takes 2 nodes or more"),
        ({"nodes": 65, "cpus": 4}, "the most on afton is 64 nodes in partition parallel"),
        ({"nodes": 64, "cpus": 96}, "6144 cpus in one job; the most there is 6000 cpus"),
        ({"partition": "gpu"}, "it takes only jobs with GPUs"),
        ({"partition": "standard", "gpus": 1}, "Nearest that fits: partition gpu"),
        (
            {"gpus": "v100:8"},
            "8 v100 GPUs per node; the most on afton is 4 per node in partition gpu",
        ),
        ({"gpus": "rtx2080"}, "It fits partition interactive, only taken when named"),
        ({"gpus": "1g.10gb"}, "It fits partition gpu-mig, only taken when named"),
        ({"gpus": "h100"}, "it has a100, a40, a6000, v100, h200"),
    ],
)
def test_afton_refuses_what_no_partition_holds(
    afton: Cluster, asked: dict[str, Any], says: str
) -> None:
    with pytest.raises(DoesNotFit) as caught:
        on_afton(afton, **asked)
    assert says in str(caught.value)


def test_afton_keeps_the_rules_of_the_house(afton: Cluster) -> None:
    assert not afton.submit_from_jobs
    assert afton.export == "NONE"
    assert afton.setup == ("module purge",)
    assert afton.policies.gpu_idle_hours == 3
    assert afton.policies.memory_charged_as_cpus
    assert (afton.storage.purged, afton.storage.purge_days) == (("/scratch",), 90)
    assert afton.login.hosts == ("login.hpc.virginia.edu",)
    assert "rivanna.hpc.virginia.edu" in afton.login.retired_hosts
    assert afton.poll.history >= 120


def test_afton_gives_three_hours_where_the_site_would_give_five(afton: Cluster) -> None:
    placed, notes = afton.placement(Resources(cpus=1, account="mylab"))
    assert placed.walltime == 3 * 3600
    assert "takes 03:00:00" in notes[0]


def test_afton_tells_of_idle_gpus_only_jobs_that_could_be_killed_for_them(afton: Cluster) -> None:
    long = afton.placement(Resources(gpus=1, walltime="4h", account="mylab"))
    short = afton.placement(Resources(gpus=1, walltime="3h", account="mylab"))
    assert long.notes[-1] == "afton kills jobs whose GPUs do nothing for 3 hours."
    assert not any("do nothing" in note for note in short.notes)


def test_delftblue_asks_for_memory_per_cpu_and_wants_an_account() -> None:
    delftblue = Cluster.load("delftblue")
    placed = delftblue.place(
        Resources(cpus=3, memory="10G", account="research-ceg-gse", walltime="5d")
    )
    assert placed.partition == "compute"
    assert placed.memory == 3414 * 3 * 1024**2
    with pytest.raises(ResourceError, match="delftblue takes no job without account="):
        delftblue.place(Resources(cpus=1))
    with pytest.raises(DoesNotFit, match="2-00:00:00"):
        delftblue.place(Resources(gpus=1, walltime="3d", account="research-ceg-gse"))


def test_generic_slurm_leaves_partitions_to_the_live_cluster() -> None:
    generic = Cluster.load("generic_slurm")
    assert generic.partitions == {}
    assert generic.place(Resources(cpus=4)) == Resources(cpus=4)
