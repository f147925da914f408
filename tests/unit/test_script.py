"""Scripts of jobs: short, readable, fit to be submitted again, and silent about secrets."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from job_doubles import DoubleScheduler, quick_cluster

from hpc_flows import Resources
from hpc_flows.exceptions import DoesNotFit, ResourceError
from hpc_flows.jobs.script import Folders, environment_text, preview, render, spec_for

if TYPE_CHECKING:
    from pathlib import Path

    from hpc_flows.clusters import Cluster

FOLDERS = Folders("/scratch/my runs/1b4e28ba", "hf-1b4e28ba-7c9a10d2")


def text_for(
    resources: Resources, *, count: int = 1, cluster: Cluster | None = None, array: bool = False
) -> str:
    cluster = cluster or quick_cluster()
    spec = spec_for(cluster, FOLDERS, resources, range(count), array=array or count > 1)
    return render(cluster, DoubleScheduler(), spec, FOLDERS, "Task train")


@pytest.mark.parametrize("count", [1, 10])
def test_a_script_is_short_and_valid_shell(count: int) -> None:
    text = text_for(Resources(cpus=8, memory="32G", walltime="2h", gpus="a100:2"), count=count)
    assert 10 <= len([line for line in text.splitlines() if line.strip()]) <= 30
    checked = subprocess.run(["/bin/bash", "-n"], input=text, text=True, check=False)
    assert checked.returncode == 0


def test_an_array_writes_a_file_for_each_element_and_says_its_indexes() -> None:
    text = text_for(Resources(), count=12)
    assert "#SBATCH --array=0-11" in text
    assert "out-%a.log" in text


def test_left_out_elements_are_left_out_of_the_array() -> None:
    spec = spec_for(quick_cluster(), FOLDERS, Resources(), [0, 1, 4], array=True)
    assert spec.array == "0-1,4"


def test_the_command_names_interpreter_entry_point_run_and_token() -> None:
    last = text_for(Resources()).splitlines()[-1]
    words = shlex.split(last)
    assert words[0] == "exec"
    assert words[1] == sys.executable
    assert words[2].endswith("hpc_flows/jobs/run.py")
    assert words[3:] == [FOLDERS.run_dir, FOLDERS.token, "$@"]


def test_the_profiles_python_is_used_on_the_nodes() -> None:
    text = text_for(Resources(), cluster=quick_cluster(python="/sw/python-3.11/bin/python"))
    assert "exec /sw/python-3.11/bin/python " in text


def test_setup_lines_come_before_modules_and_modules_before_the_command() -> None:
    cluster = quick_cluster(setup=("module purge",), modules="module load {modules}")
    lines = text_for(Resources(modules=["gcc/12", "cuda"]), cluster=cluster).splitlines()
    purge, load = lines.index("module purge"), lines.index("module load gcc/12 cuda")
    assert purge < load < len(lines) - 1


def test_variables_of_a_task_are_not_in_the_script_which_slurm_keeps() -> None:
    resources = Resources(environment={"API_TOKEN": "s3cret"})
    text = text_for(resources)
    assert "s3cret" not in text
    assert f". {shlex.quote(FOLDERS.environment)}" in text


def test_variables_of_a_task_reach_it_whatever_they_hold(tmp_path: Path) -> None:
    value = 'it\'s $HOME "and" `more`\nlines'
    file = tmp_path / "environment.sh"
    file.write_text(environment_text(Resources(environment={"ODD": value})))
    shown = subprocess.run(
        ["/bin/bash", "-c", f'. {file}; printf %s "$ODD"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == value


def test_a_container_is_put_around_the_command() -> None:
    cluster = quick_cluster(container=("apptainer", "exec", "{image}"))
    text = text_for(Resources(container="tools.sif"), cluster=cluster)
    assert f"exec apptainer exec tools.sif {sys.executable} " in text


def test_threads_and_srun_follow_the_cpus_that_were_asked_for() -> None:
    body = text_for(Resources(cpus=4)).replace("exec ", 'echo "$OMP_NUM_THREADS" #')
    shown = subprocess.run(
        ["/bin/bash", "-c", body],
        capture_output=True,
        text=True,
        check=True,
        env={"SLURM_CPUS_PER_TASK": "4", "PATH": "/bin:/usr/bin"},
    )
    assert shown.stdout.strip() == "4"


def test_a_number_of_threads_that_the_user_has_set_stays() -> None:
    body = text_for(Resources(cpus=4)).replace("exec ", 'echo "$OMP_NUM_THREADS" #')
    shown = subprocess.run(
        ["/bin/bash", "-c", body],
        capture_output=True,
        text=True,
        check=True,
        env={"OMP_NUM_THREADS": "2", "PATH": "/bin:/usr/bin"},
    )
    assert shown.stdout.strip() == "2"


def test_a_task_name_cannot_break_out_of_its_comment() -> None:
    cluster = quick_cluster()
    spec = spec_for(cluster, FOLDERS, Resources(), [0], array=False)
    text = render(cluster, DoubleScheduler(), spec, FOLDERS, "Task x\nrm -rf /tmp/y")
    assert text.splitlines()[1] == "# Task x rm -rf /tmp/y"


@given(
    title=st.text(max_size=60),
    folder=st.text(min_size=1, max_size=30).map(lambda text: text.replace("/", "_")),
    module=st.text(min_size=1, max_size=30),
)
@example(title="x\n#SBATCH --uid=0", folder="$(touch x)", module="`touch x`")
@example(title="\x0b#SBATCH -p x", folder="a b'; touch x; '", module="a; touch x")
@example(title="\u2028touch x", folder='"; touch x #', module="-h")
@settings(deadline=None, max_examples=60)
def test_t7_no_text_becomes_a_directive_or_a_command(title: str, folder: str, module: str) -> None:
    """Whatever things are called, the script has the lines and words that plain names have."""
    folders = Folders(f"/scratch/{folder}", FOLDERS.token)
    plain = _lines_of(FOLDERS, "Task train", "gcc")
    try:
        lines = _lines_of(folders, title, module)
    except ResourceError:  # refused, before anything is submitted
        return
    assert len(lines) == len(plain)
    for line, expected in zip(lines, plain, strict=True):
        assert line.partition("=")[0] == expected.partition("=")[0] or not line.startswith(
            "#SBATCH"
        )
        assert line.startswith("#") == expected.startswith("#")
        if line.startswith(("module ", "exec ")):
            words, usual = shlex.split(line), shlex.split(expected)
            assert len(words) == len(usual)
            known = {FOLDERS.run_dir: folders.run_dir, "gcc": module}
            assert words == [known.get(word, word) for word in usual]


def _lines_of(folders: Folders, title: str, module: str) -> list[str]:
    """Return a script's lines as a shell and Slurm tell them apart, by nothing but a newline."""
    cluster = quick_cluster()
    resources = Resources(modules=[module])
    spec = spec_for(cluster, folders, resources, [0], array=False)
    return render(cluster, DoubleScheduler(), spec, folders, title).split("\n")


def test_a_preview_places_the_request_and_submits_nothing() -> None:
    scheduler = DoubleScheduler()
    cluster = replace(quick_cluster(), default_partition="standard")
    text = preview(cluster, scheduler, Resources(cpus=2), task="train", count=100)
    assert "#SBATCH --partition=standard" in text
    assert "#SBATCH --array=0-99" in text
    assert scheduler.commands == []


def test_a_preview_of_what_fits_nowhere_says_so() -> None:
    with pytest.raises(DoesNotFit):
        preview(quick_cluster(), DoubleScheduler(), Resources(memory="900T"), task="train")
