"""What is said to Slurm: script headers, argument lists, environments."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_flows.exceptions import ClusterError, ResourceError
from hpc_flows.resources import Resources
from hpc_flows.schedulers import slurm_commands as say
from hpc_flows.schedulers.base import JobSpec
from hpc_flows.schedulers.slurm import Slurm
from hpc_flows.transports.local import LocalTransport

SPEC = JobSpec(
    token="hf-1a2b-c3", resources=Resources(), output="/runs/out-%a.log", workdir="/home/alice"
)


def header(rule: str = "per_node", export: str | None = None, **fields: object) -> list[str]:
    resources = {name: fields.pop(name) for name in list(fields) if not hasattr(SPEC, name)}
    spec = replace(SPEC, resources=Resources.from_dict(resources), **fields)  # type: ignore[arg-type]
    return [line.removeprefix("#SBATCH ") for line in say.directives(spec, rule, export)]


def test_every_line_is_a_directive() -> None:
    lines = say.directives(SPEC)
    assert all(line.startswith("#SBATCH --") for line in lines)


def test_a_job_is_known_by_its_token_and_appends_to_its_output() -> None:
    lines = header()
    assert "--job-name=hf-1a2b-c3" in lines
    assert "--output=/runs/out-%a.log" in lines
    assert "--chdir=/home/alice" in lines
    # Else the second run of a requeued job cuts the first one's lines.
    assert "--open-mode=append" in lines


def test_everything_that_is_asked_for_is_said() -> None:
    lines = header(
        cpus=8,
        memory="16G",
        gpus="a100:2",
        walltime="1-02:03:04",
        nodes=2,
        tasks_per_node=4,
        partition="gpu",
        account="mylab",
        qos="short",
        constraint="skylake|genoa",
        exclusive=True,
        licenses=["matlab:2", "ansys"],
        extra=["--reservation=course", "-x c3"],
    )
    assert {
        "--cpus-per-task=8",
        "--mem=16384M",
        "--gres=gpu:a100:2",
        "--time=1-02:03:04",
        "--nodes=2",
        "--ntasks=8",
        "--ntasks-per-node=4",
        "--partition=gpu",
        "--account=mylab",
        "--qos=short",
        "--constraint=skylake|genoa",
        "--exclusive",
        "--licenses=matlab:2,ansys",
        "--reservation=course",
        "-x c3",
    } <= set(lines)


def test_one_node_and_one_task_are_said_even_when_not_asked_for() -> None:
    assert {"--nodes=1", "--ntasks=1"} <= set(header(cpus=8))


def test_nothing_is_said_of_what_is_not_asked_for() -> None:
    names = {line.partition("=")[0] for line in header()}
    assert names == {
        "--job-name",
        "--output",
        "--chdir",
        "--open-mode",
        "--nodes",
        "--ntasks",
        "--ntasks-per-node",
        "--requeue",
    }


def test_untyped_gpus_are_any_gpus() -> None:
    assert "--gres=gpu:2" in header(gpus=2)


@pytest.mark.parametrize(
    ("rule", "fields", "said"),
    [
        ("per_node", {"memory": "16G", "cpus": 4}, ["--mem=16384M"]),
        ("per_cpu", {"memory": "16G", "cpus": 4}, ["--mem-per-cpu=4096M"]),
        ("per_cpu", {"memory": "1000M", "cpus": 3}, ["--mem-per-cpu=334M"]),
        ("per_cpu", {"memory": "16G", "cpus": 4, "tasks_per_node": 2}, ["--mem-per-cpu=2048M"]),
        ("per_cpu", {"memory": "16G"}, ["--mem-per-cpu=16384M"]),
        ("omit", {"memory": "16G"}, []),
        ("per_node", {}, []),
    ],
)
def test_memory_is_asked_for_by_the_sites_rule(
    rule: str, fields: dict[str, object], said: list[str]
) -> None:
    assert [line for line in header(rule, **fields) if line.startswith("--mem")] == said


def test_an_unknown_rule_for_memory_is_refused_with_the_close_match() -> None:
    with pytest.raises(ClusterError, match="Did you mean 'per_node'"):
        Slurm(LocalTransport(), memory="per-node")


def test_an_array_may_be_throttled() -> None:
    assert "--array=0-9,12" in header(array="0-9,12")
    assert "--array=0-9%2" in header(array="0-9", throttle=2)


def test_dependencies_end_a_job_that_can_never_start() -> None:
    lines = header(depends_on=("351", "360"))
    assert "--dependency=afterok:351:360" in lines
    assert "--kill-on-invalid-dep=yes" in lines
    lines = header(depends_on=("351",), kill_on_invalid_dependency=False)
    assert not [line for line in lines if line.startswith("--kill")]


def test_requeue_is_said_either_way() -> None:
    # A site's JobRequeue decides otherwise.
    assert "--requeue" in header(requeue=True)
    assert "--no-requeue" in header(requeue=False)


def test_a_clean_job_inherits_who_where_and_modules_but_no_secrets() -> None:
    kept = say.job_environment(
        {
            "PATH": "/usr/bin",
            "HOME": "/home/alice",
            "SLURM_CONF": "/etc/slurm.conf",
            "LC_ALL": "C.UTF-8",
            "BASH_FUNC_module%%": "() { :; }",
            "LMOD_CMD": "/lmod",
            "API_TOKEN": "secret",
            "PYTHONPATH": "/elsewhere",
        }
    )
    assert sorted(kept) == [
        "BASH_FUNC_module%%",
        "HOME",
        "LC_ALL",
        "LMOD_CMD",
        "PATH",
        "SLURM_CONF",
    ]


def test_the_sites_way_of_exporting_the_environment_is_said() -> None:
    assert "--export=NONE" in header(export="NONE")
    assert not [line for line in header() if line.startswith("--export")]


def test_values_with_blanks_and_signs_are_quoted() -> None:
    assert '--output="/home/my files/#1/out.log"' in header(output="/home/my files/#1/out.log")
    assert '--chdir="/a \\"b\\" \\\\c"' in header(workdir='/a "b" \\c')
    assert '--comment="two words"' in header(extra=["--comment=two words"])


@pytest.mark.parametrize("field", ["output", "workdir", "token"])
def test_a_newline_cannot_bring_a_line_into_the_script(field: str) -> None:
    with pytest.raises(ResourceError, match="control character"):
        say.directives(replace(SPEC, **{field: "x\nrm -rf ~"}))


def test_the_callers_slurm_variables_do_not_reach_the_commands() -> None:
    inherited = {
        "HOME": "/home/alice",
        "PATH": "/usr/bin",
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_JOB_ID": "7",
        "SBATCH_PARTITION": "gpu",
        "SQUEUE_FORMAT": "x",
        "SACCT_FORMAT": "jobid",
        "SLURM_TIME_FORMAT": "relative",
    }
    environment = say.command_environment(inherited, ["/opt/slurm/bin"])
    assert environment == {
        "HOME": "/home/alice",
        "PATH": "/opt/slurm/bin:/usr/bin",
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_TIME_FORMAT": "%s",
    }


def test_nothing_is_added_to_what_a_job_may_inherit() -> None:
    assert say.command_environment({"A": "b"}, times=False) == {"A": "b"}


@pytest.mark.parametrize(
    "name",
    [
        "HPC_FLOWS_API_KEY",
        "HPC_FLOWS_PREFECT_API_KEY",
        "PREFECT_API_KEY",
        "PREFECT_API_AUTH_STRING",
    ],
)
def test_keys_of_servers_do_not_become_part_of_jobs(name: str) -> None:
    """T5 of the threat model: a site's accounting may keep the environment of jobs."""
    kept = say.command_environment({name: "secret", "API_KEY": "the user's own"}, times=False)
    assert kept == {"API_KEY": "the user's own"}


def test_a_missing_path_does_not_put_the_working_folder_on_it() -> None:
    assert say.command_environment({}, ["/opt/slurm/bin"])["PATH"] == "/opt/slurm/bin"


def test_elements_of_an_array_are_cancelled_as_ranges() -> None:
    ids = ["351_3", "360", "351_4", "351_5", "351_9", "362_0", "360"]
    assert say.cancel_argv(ids) == ["scancel", "360", "351_[3-5,9]", "362_0"]


def test_many_elements_make_one_question_about_their_array() -> None:
    ids = [f"351_{index}" for index in range(1000)] + ["360"]
    assert list(say.batches(ids, 1000)) == [["351", "360"]]
    assert say.poll_argv(["351", "360"])[-2:] == ["-j", "351,360"]


def test_too_many_ids_are_asked_about_in_turns() -> None:
    assert [len(batch) for batch in say.batches(map(str, range(25)), 10)] == [10, 10, 5]


def test_a_search_looks_back_a_little_more_than_it_was_told() -> None:
    assert say.history_find_argv(["t"], 59)[-1] == "now-2minutes"
    assert say.history_find_argv(["t"], 3600)[-1] == "now-62minutes"
    assert say.history_find_argv(["t"], None)[-1] == say.LOOK_BACK


@given(st.sets(st.integers(0, 300)))
def test_ranges_hold_just_the_indexes(indexes: set[int]) -> None:
    found: set[int] = set()
    for part in filter(None, say.index_text(indexes).split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    assert found == indexes
