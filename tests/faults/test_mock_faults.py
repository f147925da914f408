"""Every scripted fault of the mock happens as written, and its counter says that it did."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import mock_site
import pytest
from mock_site import MockSite

from hpc_flows import mock_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HUNG = "Socket timed out on send/recv operation"
AWAY = "Unable to contact slurm controller (connect failure)"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockSite]:
    timings = {**mock_site.QUICK, "minute": 6}
    options = mock_cluster.StartOptions(timings=timings)
    with mock_site.running(tmp_path_factory.mktemp("faults"), options) as site:
        yield site


@pytest.fixture
def site(shared: MockSite) -> Iterator[MockSite]:
    """Give a site without faults, and every node back in service at the end."""
    yield shared
    mock_cluster.clear_faults(shared.home, "m")
    shared.out("scancel -u $(id -un)")
    for node in ("c1", "c2", "c3", "c4"):
        shared.out(f"scontrol update nodename={node} state=resume")


def put(site: MockSite, *faults: dict[str, Any], seed: int = 0) -> None:
    mock_cluster.set_faults(site.home, "m", {"seed": seed, "fault": list(faults)})


def fired(site: MockSite) -> list[int]:
    return [fault["fired"] for fault in mock_cluster.show_faults(site.home, "m")["fault"]]


# -- commands


def test_a_submission_may_time_out_and_run_all_the_same(site: MockSite) -> None:
    put(site, {"kind": "sbatch_times_out"})
    answer = site.run("sbatch --parsable -J doubt -o doubt.out --wrap 'echo ran'")
    assert answer == ("", f"sbatch: error: Batch job submission failed: {HUNG}\n", 1)
    job = site.out("squeue -h -t all -n doubt -o %i").strip()
    site.wait(job, "COMPLETED")
    assert site.output("doubt.out") == "ran\n"
    assert fired(site) == [1]
    assert site.submit("-H --wrap true").isdecimal()


def test_a_command_may_be_refused_so_many_times(site: MockSite) -> None:
    put(site, {"kind": "refuse", "commands": ["sbatch"], "times": 2, "delay": 0})
    for _ in range(2):
        answer = site.run("sbatch -J refused --wrap true")
        assert answer == ("", f"sbatch: error: Batch job submission failed: {AWAY}\n", 1)
    assert site.out("squeue -h -t all -n refused") == ""
    site.submit("-H --wrap true")
    assert fired(site) == [2]


def test_a_refusal_may_have_words_of_its_own(site: MockSite) -> None:
    text = "sbatch: error: Batch job submission failed: Insufficient balance"
    put(site, {"kind": "refuse", "commands": ["sbatch"], "text": text, "delay": 0})
    assert site.run("sbatch --wrap true") == ("", text + "\n", 1)


def test_every_other_call_may_fail(site: MockSite) -> None:
    put(site, {"kind": "refuse", "commands": ["squeue"], "every": 2, "delay": 0})
    assert [site.run("squeue -h").status for _ in range(6)] == [0, 1, 0, 1, 0, 1]
    assert fired(site) == [3]


def test_chances_are_seeded(site: MockSite) -> None:
    fault = {"kind": "refuse", "commands": ["sinfo"], "probability": 0.5, "delay": 0}
    runs = []
    for _ in range(2):
        put(site, fault, seed=7)
        runs.append([site.run("sinfo").status for _ in range(12)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {0, 1}


def test_a_controller_that_is_down_answers_nobody_for_a_while(site: MockSite) -> None:
    put(site, {"kind": "controller_down", "for": 3600, "delay": 0})
    assert site.run("squeue") == ("", f"slurm_load_jobs error: {AWAY}\n", 1)
    assert site.run("scancel 5").status == 8
    assert site.run("scontrol ping").out == "Slurmctld(primary) at login is DOWN\n"
    assert site.run("sacct -X -n -P").status == 0
    told = site.run("squeue --json")
    assert (json.loads(told.out)["errors"][0]["description"], told.status) == (
        "Failed while looking for jobs",
        0,
    )
    mock_cluster.clear_faults(site.home, "m")
    assert site.run("squeue -h").status == 0


def test_a_window_ends_by_itself(site: MockSite) -> None:
    window = 0.4
    put(site, {"kind": "controller_down", "for": window, "delay": 0})
    while site.run("squeue").status == 0:  # this machine is slower than that
        window *= 4
        put(site, {"kind": "controller_down", "for": window, "delay": 0})
    site.until(lambda: site.run("squeue -h").status, "0")
    assert fired(site)[0] >= 1


def test_a_controller_that_hangs_lets_clients_time_out(site: MockSite) -> None:
    put(site, {"kind": "controller_hung", "times": 3, "delay": 0.2})
    began = time.monotonic()
    assert site.run("squeue") == ("", f"slurm_load_jobs error: {HUNG}\n", 1)
    assert time.monotonic() - began >= 0.2
    assert site.run("scancel 1").status == 140
    assert site.run("srun true").err == f"srun: error: Unable to allocate resources: {HUNG}\n"
    assert site.run("squeue -h").status == 0


def test_a_controller_may_die_between_the_queue_and_the_answer(tmp_path: Path) -> None:
    with mock_site.running(tmp_path) as own:
        put(own, {"kind": "controller_dies", "job": "dies"})
        answer = own.run("sbatch --parsable -J dies -o /dev/null --wrap true")
        assert (answer.out, answer.status) == ("", 1)
        assert answer.err.endswith("Zero Bytes were transmitted or received\n")
        assert mock_cluster.start(own.home, "m", own.options).started
        assert own.out("squeue -h -t all -n dies -o %j") == "dies\n"
        assert fired(own) == [1]


def test_a_full_controller_makes_sbatch_wait(site: MockSite) -> None:
    put(site, {"kind": "max_job_count", "for": 3600, "job": "full"})
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(site.run, "sbatch --parsable -J full -H --wrap true 2> said")
        text = site.until_written("said")
        assert not waiting.done()
        mock_cluster.clear_faults(site.home, "m")
        answer = waiting.result()
    assert text == "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
    assert site.output("said") == text
    assert answer.status == 0
    assert answer.out.strip().isdecimal()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_banner_may_stand_before_the_id(site: MockSite, stream: str) -> None:
    put(site, {"kind": "banner", "text": "*** maintenance on Monday ***", "stream": stream})
    answer = site.run("sbatch --parsable -H --wrap true")
    said = answer.out if stream == "stdout" else answer.err
    assert said.startswith("*** maintenance on Monday ***\n")
    assert answer.out.splitlines()[-1].isdecimal()


# -- accounting


def test_accounting_may_be_late(site: MockSite) -> None:
    put(site, {"kind": "accounting_late", "seconds": 3600, "for": 3600})
    job = site.submit("-o /dev/null --wrap true")
    site.wait(job, "COMPLETED")
    assert site.history(job, "State") == ""
    assert fired(site)[0] >= 2
    put(site, {"kind": "accounting_late", "seconds": 0.5, "for": 3600})
    job = site.submit("-o /dev/null --wrap true")
    site.until(lambda: site.history(job, "State"), "COMPLETED")
    assert fired(site)[0] >= 2


def test_accounting_may_never_hear_of_a_job(site: MockSite) -> None:
    put(site, {"kind": "accounting_loses", "for": 3600})
    job = site.submit("-o /dev/null --wrap true")
    site.wait(job, "COMPLETED")
    assert site.history(job, "State") == ""


def test_the_database_may_be_down(site: MockSite) -> None:
    put(site, {"kind": "slurmdbd_down", "times": 1})
    answer = site.run("sacct -X -n -P")
    assert answer.err.splitlines()[-1] == (
        "sacct: error: Problem talking to the database: Connection refused"
    )
    assert (answer.out, answer.status) == ("", 1)
    assert site.run("sacct -X -n -P").status == 0


def test_accounting_may_be_absent(site: MockSite) -> None:
    put(site, {"kind": "accounting_absent", "times": 0})
    assert site.run("sacct") == ("", "Slurm accounting storage is disabled\n", 1)
    assert fired(site) == [1]


# -- jobs and nodes


def test_a_node_dies_and_its_job_runs_again(site: MockSite) -> None:
    put(site, {"kind": "node_dies", "job": "nf", "after": 0.2})
    script = 'echo restart ${SLURM_RESTART_COUNT:-0}; [ -n "$SLURM_RESTART_COUNT" ] || sleep 60'
    job = site.submit(f"-J nf -w c1 -o nf.out --wrap '{script}'")
    site.until(lambda: site.history(job, "State,ExitCode"), "NODE_FAIL|0:0")
    site.out("scontrol update nodename=c1 state=resume")
    site.wait(job, "COMPLETED")
    assert site.output("nf.out") == "restart 1\n"
    rows = site.out(f"sacct -D -X -n -P -j {job} -o State,NodeList").splitlines()
    assert rows == ["NODE_FAIL|c1", "COMPLETED|c1"]
    assert fired(site) == [1]


def test_a_node_dies_and_takes_a_job_that_may_not_be_requeued(site: MockSite) -> None:
    put(site, {"kind": "node_dies", "node": "c2", "job": "nr", "percent": 5})
    job = site.submit("-J nr -t 1 --no-requeue -w c2 -o /dev/null --wrap 'sleep 60'")
    site.wait(job, "NODE_FAIL")
    assert site.history(job, "State,NodeList") == "NODE_FAIL|c2"
    assert site.out("sinfo -h -N -n c2 -p standard -o %t") == "down*\n"
    assert "Not responding" in site.out("sinfo -R")
    waiting = site.submit("-w c2 -o /dev/null --wrap true")
    site.until(
        lambda: site.out(f"squeue -h -j {waiting} -o %r").strip(),
        "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority "
        "partitions",
    )


def test_a_dying_node_is_first_not_responding(site: MockSite) -> None:
    put(site, {"kind": "node_dies", "node": "c3", "at": 0})
    site.until(lambda: site.out("sinfo -h -N -n c3 -p largemem -o %t").strip(), "idle*", "down*")
    site.until(lambda: site.out("sinfo -h -N -n c3 -p largemem -o %t").strip(), "down*")


def test_a_job_on_two_nodes_goes_on_without_one_if_it_may(site: MockSite) -> None:
    put(site, {"kind": "node_dies", "node": "c2", "job": "nk", "after": 0.1})
    job = site.submit("-J nk -k -p parallel -N2 -o /dev/null --wrap 'sleep 60'")
    site.until(lambda: site.history(job, "State,NodeList"), "RUNNING|c1")
    rows = site.out(f"sacct -D -X -n -P -j {job} -o State,NodeList").splitlines()
    assert rows == ["RESIZING|c[1-2]", "RUNNING|c1"]


def test_a_node_may_be_drained(site: MockSite) -> None:
    put(site, {"kind": "node_drained", "node": "c4", "at": 0, "reason": "gpu fell off"})
    site.until(lambda: site.out("sinfo -h -p gpu -o %t").strip(), "drain")
    assert "gpu fell off" in site.out("sinfo -R")


def test_a_job_may_be_killed_for_memory(site: MockSite) -> None:
    put(site, {"kind": "out_of_memory", "job": "oom", "after": 0.1})
    job = site.submit("-J oom -o /dev/null --wrap 'sleep 60; exit 0'")
    site.wait(job, "OUT_OF_MEMORY")
    assert site.history(job, "State,ExitCode") == "OUT_OF_MEMORY|0:125"
    assert fired(site) == [1]


def test_a_job_may_be_preempted_and_requeued(site: MockSite) -> None:
    put(site, {"kind": "preempt", "job": "victim", "after": 0.1})
    script = '[ -n "$SLURM_RESTART_COUNT" ] || sleep 60'
    job = site.submit(f"-J victim --wrap '{script}' -o victim.out")
    site.wait(job, "COMPLETED")
    assert site.out(f"sacct -D -X -n -P -j {job} -o State").split() == ["PREEMPTED", "COMPLETED"]


def test_a_preempted_job_that_may_not_be_requeued_ends(site: MockSite) -> None:
    put(site, {"kind": "preempt", "job": "victim2", "after": 0.1})
    job = site.submit("-J victim2 --no-requeue -o v2.out --wrap 'sleep 60'")
    site.wait(job, "PREEMPTED")
    assert "DUE TO PREEMPTION ***" in site.output("v2.out")


def test_a_job_may_be_requeued_or_killed_behind_its_back(site: MockSite) -> None:
    put(
        site,
        {"kind": "requeue", "job": "again", "after": 0.1},
        {"kind": "kill", "job": "killed", "after": 0.1},
    )
    again = site.submit(
        "-J again -o /dev/null --wrap '[ -n \"$SLURM_RESTART_COUNT\" ] || sleep 60'"
    )
    killed = site.submit("-J killed -o /dev/null --wrap 'sleep 60'")
    site.wait(killed, "FAILED")
    assert site.history(killed, "ExitCode") == "0:9"
    site.wait(again, "COMPLETED")
    assert fired(site) == [1, 1]


def test_a_job_may_vanish(site: MockSite) -> None:
    put(site, {"kind": "job_vanishes", "job": "gone", "after": 0.1})
    job = site.submit("-J gone -o /dev/null --wrap 'sleep 60'")
    site.until(
        lambda: site.run(f"squeue -h -t all -j {job}").err,
        "slurm_load_jobs error: Invalid job id specified",
    )
    assert site.history(job, "State") == ""


def test_an_output_file_may_appear_late(site: MockSite) -> None:
    put(
        site,
        {"kind": "output_late", "job": "very-late", "seconds": 90},
        {"kind": "output_late", "job": "late", "seconds": 0.5},
    )
    very = site.submit("-J very-late -o very-late.out --wrap 'echo here'")
    site.wait(very, "COMPLETED")
    assert not (site.work / "very-late.out").exists()
    site.submit("-J late -o late.out --wrap 'echo here'")
    assert site.until_written("late.out") == "here\n"
    assert fired(site) == [1, 1]


def test_an_id_may_be_handed_out_again(tmp_path: Path) -> None:
    with mock_site.running(tmp_path) as own:
        first = own.submit("-J first -o /dev/null --wrap 'exit 3'")
        own.wait(first, "FAILED")
        put(own, {"kind": "id_reset", "to": int(first), "at": 0})
        own.until(lambda: own.run(f"squeue -j {first}").status, "1")
        second = own.submit("-J second -o /dev/null --wrap true")
        assert second == first
        own.wait(second, "COMPLETED")
        assert own.history(first, "JobName,State") == "second|COMPLETED"
        both = own.out(f"sacct -D -X -n -P -j {first} -o JobName,State").splitlines()
        assert both == ["first|FAILED", "second|COMPLETED"]


def test_another_users_job_with_a_hostile_name_is_not_ours(site: MockSite) -> None:
    put(site, {"kind": "foreign_job", "job_name": "x|y\nz", "user": "mallory", "at": 0})
    site.until(lambda: site.out("squeue -h -u mallory -o %T").strip(), "RUNNING")
    job = site.out("squeue -h -u mallory -o %i").strip()
    assert site.out(f"squeue -h -j {job} -o %j") == "x|y\nz\n"
    if os.getuid() != 0:
        answer = site.run(f"scancel {job}")
        text = f"scancel: error: Kill job error on job id {job}: Access/permission denied\n"
        assert answer == ("", text, 210)


# -- the script itself


def test_counters_say_what_never_fired(site: MockSite) -> None:
    put(site, {"kind": "sbatch_times_out", "job": "never*"}, {"kind": "banner", "name": "hello"})
    site.run("sbatch -H -J other --wrap true")
    found = mock_cluster.show_faults(site.home, "m")["fault"]
    assert [(fault["name"], fault["fired"]) for fault in found] == [
        ("sbatch_times_out", 0),
        ("hello", 1),
    ]


def test_counters_outlive_the_controller(tmp_path: Path) -> None:
    with mock_site.running(tmp_path) as own:
        put(own, {"kind": "refuse", "commands": ["sinfo"], "times": 3, "delay": 0})
        own.run("sinfo")
        mock_cluster.stop(own.home, "m", keep_jobs=True)
        mock_cluster.start(own.home, "m", own.options)
        assert fired(own) == [1]
        assert [own.run("sinfo").status for _ in range(3)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"kind": "sbatch_time_out"}, "did you mean 'sbatch_times_out'?"),
        ({"kind": "refuse", "comands": ["squeue"]}, "did you mean 'commands'?"),
    ],
)
def test_a_misspelt_fault_is_refused_with_the_close_match(
    site: MockSite, entry: dict[str, Any], text: str
) -> None:
    with pytest.raises(mock_cluster.SiteError, match=text.replace("?", r"\?")):
        put(site, entry)


def test_a_fault_that_names_no_node_is_refused(site: MockSite) -> None:
    with pytest.raises(mock_cluster.MockError, match="unknown node of a fault 'c9'"):
        put(site, {"kind": "node_dies", "node": "c9", "at": 0})


def test_a_faults_file_may_be_toml_or_json(tmp_path: Path) -> None:
    toml = tmp_path / "f.toml"
    toml.write_text('seed = 3\n[[fault]]\nkind = "banner"\ntimes = 2\n')
    text = tmp_path / "f.json"
    text.write_text('{"seed": 3, "fault": [{"kind": "banner", "times": 2}]}')
    assert mock_cluster.read_faults(toml) == mock_cluster.read_faults(text)
    assert mock_cluster.parse_fault(["banner", "times=2", "text=hi"]) == {
        "kind": "banner",
        "times": 2,
        "text": "hi",
    }
