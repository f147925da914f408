"""Jobs of the mock really run, end as Slurm's do, and are told of in its words."""

from __future__ import annotations

import os
import pwd
import re
from typing import TYPE_CHECKING

import mock_site
import pytest
from mock_site import MockSite

from hpc_flows import mock_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockSite]:
    timings = {**mock_site.QUICK, "minute": 0.6}
    options = mock_cluster.StartOptions(timings=timings)
    with mock_site.running(tmp_path_factory.mktemp("jobs"), options) as site:
        yield site


def test_a_script_runs_where_it_was_submitted_with_its_arguments(site: MockSite) -> None:
    (site.work / "script.sh").write_text("#!/bin/bash\n#SBATCH -J named\npwd; echo $1-$2\n")
    job = site.submit("script.sh one two")
    site.wait(job, "COMPLETED")
    assert site.output(f"slurm-{job}.out") == f"{site.work}\none-two\n"
    assert site.history(job, "JobName,State,ExitCode") == "named|COMPLETED|0:0"


def test_a_script_may_come_from_stdin(site: MockSite) -> None:
    job = site.out("printf '#!/bin/sh\\necho from stdin\\n' | sbatch --parsable").strip()
    site.wait(job, "COMPLETED")
    assert site.output(f"slurm-{job}.out") == "from stdin\n"
    assert site.history(job, "JobName") == "sbatch"


@pytest.mark.parametrize(
    ("line", "state", "code", "reason"),
    [
        ("exit 7", "FAILED", "7:0", "NonZeroExitCode"),
        ("no-such-command", "FAILED", "127:0", "NonZeroExitCode"),
        ("ulimit -c 0; kill -SEGV $$", "FAILED", "0:11", "JobLaunchFailure"),
        ("kill -KILL $$", "FAILED", "0:9", "JobLaunchFailure"),
        ("true", "COMPLETED", "0:0", "None"),
    ],
)
def test_an_ending_has_its_state_code_and_reason(
    site: MockSite, line: str, state: str, code: str, reason: str
) -> None:
    job = site.submit(f"-o /dev/null --wrap '{line}'")
    site.wait(job, state)
    assert site.history(job, "State,ExitCode") == f"{state}|{code}"
    assert site.out(f"squeue -h -t all -j {job} -o %r").strip() == reason


def test_a_missing_output_folder_ends_a_job_with_53_and_no_trace(site: MockSite) -> None:
    job = site.submit("-o nosuch/x.out --wrap 'touch ran'")
    site.wait(job, "FAILED")
    assert site.history(job, "State,ExitCode") == "FAILED|0:53"
    assert site.out(f"sacct -n -P -j {job}.batch -o JobID,State,ExitCode") == (
        f"{job}|FAILED|0:53\n{job}.batch|CANCELLED|0:53\n"
    )
    assert not (site.work / "ran").exists()


def test_a_missing_working_folder_does_the_same(site: MockSite) -> None:
    job = site.submit("-D /nonexistent --wrap true")
    site.wait(job, "FAILED")
    assert site.history(job, "ExitCode") == "0:53"


def test_sbatch_waits_for_the_job_and_takes_its_status(site: MockSite) -> None:
    answer = site.run("sbatch -W --parsable --wrap 'exit 2'")
    assert (answer.out.strip().isdecimal(), answer.status) == (True, 2)


def test_output_patterns_are_filled_in(site: MockSite) -> None:
    job = site.submit(
        "-J pat --array=7 -o 'o-%x-%A-%a-%u-%N-%4a-%%' -e 'e-%j' --wrap 'echo o; echo e >&2'"
    )
    site.wait(job, "COMPLETED")
    assert site.output(f"o-pat-{job}-7-{ME}-c1-0007-%") == "o\n"
    assert site.output(f"e-{job}") == "e\n"


def test_a_second_job_cuts_an_output_file_unless_it_appends(site: MockSite) -> None:
    for _ in range(2):
        site.wait(site.submit("-o cut.out --wrap 'echo line'"), "COMPLETED")
        site.wait(site.submit("-o kept.out --open-mode=append --wrap 'echo line'"), "COMPLETED")
    assert site.output("cut.out") == "line\n"
    assert site.output("kept.out") == "line\nline\n"


# -- environment


def slurm_environment(site: MockSite, options: str, **env: str) -> dict[str, str]:
    job = site.out(f"sbatch --parsable -o env.out {options} --wrap env", **env).strip()
    site.wait(job, "COMPLETED")
    lines = site.output("env.out").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_a_job_has_the_variables_that_slurm_gives(site: MockSite) -> None:
    env = slurm_environment(site, "-J vars", FOO="bar")
    names = {name for name in env if name.startswith("SLURM")}
    assert len(names) == 32  # 34 with --export, which adds SLURM_EXPORT_ENV and _GET_USER_ENV
    assert env["FOO"] == "bar"
    assert env["SLURM_SUBMIT_DIR"] == str(site.work)
    assert (env["SLURM_JOB_NAME"], env["SLURM_JOB_NODELIST"]) == ("vars", "c1")
    assert (env["SLURM_MEM_PER_CPU"], env["ENVIRONMENT"]) == ("9000", "BATCH")
    assert "SLURM_NTASKS" not in env


def test_what_was_asked_for_is_in_the_environment(site: MockSite) -> None:
    env = slurm_environment(site, "-n2 -c3 --mem=2G --array=6")
    assert env["SLURM_NTASKS"] == env["SLURM_NPROCS"] == "2"
    assert (env["SLURM_CPUS_PER_TASK"], env["SLURM_CPUS_ON_NODE"]) == ("3", "6")
    assert env["SLURM_MEM_PER_NODE"] == "2048"
    assert "SLURM_MEM_PER_CPU" not in env
    assert (env["SLURM_ARRAY_TASK_ID"], env["SLURM_ARRAY_TASK_COUNT"]) == ("6", "1")


def test_several_nodes_are_told_as_slurm_counts_them(site: MockSite) -> None:
    env = slurm_environment(site, "-p parallel -N2 -n4")
    assert (env["SLURM_JOB_NODELIST"], env["SLURM_NNODES"]) == ("c[1-2]", "2")
    assert env["SLURM_TASKS_PER_NODE"] == env["SLURM_JOB_CPUS_PER_NODE"] == "2(x2)"


def test_gpus_are_visible_to_the_job_that_has_them(site: MockSite) -> None:
    first = site.submit("-p gpu --gres=gpu:a100:1 --wrap 'sleep 30'")
    site.wait(first, "RUNNING")
    env = slurm_environment(site, "-p gpu --gpus=2")
    site.out(f"scancel {first}")
    assert (env["SLURM_GPUS_ON_NODE"], env["SLURM_JOB_GPUS"]) == ("2", "1,2")
    assert env["CUDA_VISIBLE_DEVICES"] == "1,2"


@pytest.mark.parametrize("export", ["NONE", "NIL", "FOO,BAZ=qux"])
def test_export_gives_a_login_environment_and_what_is_named(site: MockSite, export: str) -> None:
    env = slurm_environment(site, f"--export={export}", FOO="bar", OTHER="x")
    assert "OTHER" not in env
    assert env["SLURM_EXPORT_ENV"] == export
    assert env["SLURM_GET_USER_ENV"] == "1"
    assert env["USER"] == ME
    assert (env.get("FOO"), env.get("BAZ")) == (("bar", "qux") if "FOO" in export else (None, None))


def test_the_command_line_beats_the_environment_which_beats_the_script(site: MockSite) -> None:
    (site.work / "p.sh").write_text("#!/bin/sh\n#SBATCH -p largemem\ntrue\n")
    script = site.run("sbatch --test-only p.sh").err
    variable = site.run("sbatch --test-only p.sh", SBATCH_PARTITION="gpu").err
    option = site.run("sbatch --test-only -p standard p.sh", SBATCH_PARTITION="gpu").err
    found = [text.split()[-1] for text in (script, variable, option)]
    assert found == ["largemem", "gpu", "standard"]


def test_directives_end_at_the_first_command(site: MockSite) -> None:
    (site.work / "d.sh").write_text("#!/bin/sh\n#SBATCH -J before\ntrue\n#SBATCH -J after\n")
    job = site.submit("d.sh")
    assert site.out(f"squeue -h -t all -j {job} -o %j").strip() == "before"


# -- time, memory, cancellation


def test_a_time_limit_sends_term_and_then_ends_the_job(site: MockSite) -> None:
    script = 'trap "echo got TERM; exit 3" TERM; while :; do sleep 0.1; done'
    job = site.submit(f"-t 1 --wrap '{script}'")
    site.wait(job, "TIMEOUT")
    text = site.output(f"slurm-{job}.out")
    assert "got TERM\n" in text
    assert re.search(rf"\*\*\* JOB {job} ON c1 CANCELLED AT \S+ DUE TO TIME LIMIT \*\*\*\n", text)
    lines = site.out(f"sacct -n -P -j {job} -o JobID,State,ExitCode").splitlines()
    assert lines == [f"{job}|TIMEOUT|0:0", f"{job}.batch|FAILED|3:0"]


def test_a_job_that_ignores_term_is_killed(site: MockSite) -> None:
    job = site.submit("-t 1 --wrap 'trap \"\" TERM; while :; do sleep 0.1; done'")
    site.wait(job, "TIMEOUT")
    assert site.history(job, "State,ExitCode") == "TIMEOUT|0:0"


def test_a_warning_signal_comes_before_the_limit(site: MockSite) -> None:
    script = 'trap "echo warned; exit 0" USR1; while :; do sleep 0.05; done'
    job = site.submit(f"-t 3 --signal=B:USR1@120 --wrap '{script}'")
    site.wait(job, "COMPLETED")
    assert site.output(f"slurm-{job}.out") == "warned\n"


def test_a_process_that_took_too_much_memory_ends_its_job(site: MockSite) -> None:
    job = site.submit(
        "-t 100 --mem=60M --wrap '/usr/bin/env python3 -c \"bytearray(10**8)\"; exit 0'"
    )
    site.wait(job, "OUT_OF_MEMORY")
    assert site.history(job, "State,ExitCode,ReqMem") == "OUT_OF_MEMORY|0:125|60M"
    assert f"Detected 1 oom-kill event(s) in StepId={job}.batch." in site.output(f"slurm-{job}.out")
    shown = site.out(f"scontrol show job -o {job}")
    assert "JobState=OUT_OF_MEMORY Reason=OutOfMemory" in shown


def test_memory_is_watched_while_a_job_runs(site: MockSite) -> None:
    program = "import time; x = bytearray(10**8); time.sleep(60)"
    job = site.submit(
        f"-t 1000 --mem=60M --wrap '/usr/bin/env python3 -c \"{program}\"; echo rc=$?'"
    )
    site.wait(job, "OUT_OF_MEMORY")
    assert "rc=137\n" in site.output(f"slurm-{job}.out")


def test_a_running_job_is_cancelled(site: MockSite) -> None:
    job = site.submit("-t 1000 --wrap 'sleep 60'")
    site.wait(job, "RUNNING")
    assert site.run(f"scancel {job}") == ("", "", 0)
    site.wait(job, "CANCELLED")
    assert site.history(job, "State,ExitCode") == f"CANCELLED by {os.getuid()}|0:0"
    assert f"*** JOB {job} ON c1 CANCELLED AT" in site.output(f"slurm-{job}.out")
    assert "ExitCode=0:15" in site.out(f"scontrol show job -o {job}")


def test_a_signal_can_be_sent_without_cancelling(site: MockSite) -> None:
    script = 'trap "echo usr1" USR1; while [ ! -e stop ]; do sleep 0.05; done'
    job = site.submit(f"-t 1000 -o signal.out --wrap '{script}'")
    site.wait(job, "RUNNING")
    site.until(lambda: str((site.work / "signal.out").exists()), "True")
    site.out(f"scancel --batch -s USR1 {job}")
    site.until(lambda: site.output("signal.out").strip(), "usr1")
    (site.work / "stop").touch()
    site.wait(job, "COMPLETED")


def test_what_a_script_leaves_running_is_killed_with_it(site: MockSite) -> None:
    job = site.submit("--wrap 'sleep 300 & setsid sleep 300 & echo $! > left.pid'")
    site.wait(job, "COMPLETED")
    pid = int(site.output("left.pid"))
    site.until_gone(pid)
