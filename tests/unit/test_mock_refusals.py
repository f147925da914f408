"""The mock refuses what real Slurm 22.05 refused, in the same words and with the same status."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import mock_site
import pytest
from mock_site import MockSite
from slurm_samples import Told, transcript

if TYPE_CHECKING:
    from collections.abc import Iterator

#: These wait for tens of seconds by design; the faults of the mock are tested for them.
SLOW = ("for i in", "timeout 20")
CASES = [told for told in transcript("rejected.txt") if not told.command.startswith(SLOW)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockSite]:
    with mock_site.running(tmp_path_factory.mktemp("refusals")) as site:
        yield site


def without_ids(text: str) -> str:
    """Return a text without what differs between two runs: ids and times."""
    text = re.sub(r"(job |Job )\d+", r"\1N", text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", "TIME", text)


@pytest.mark.parametrize("case", CASES, ids=[told.command[:60] for told in CASES])
def test_a_recorded_submission_gets_the_recorded_answer(site: MockSite, case: Told) -> None:
    if "--uid=0" in case.command and os.getuid() == 0:
        pytest.skip("root may give --uid; the recorded user was not root")
    answer = site.run(case.command)
    said = (without_ids(answer.out), without_ids(answer.err), answer.status)
    recorded = (without_ids(case.stdout), without_ids(case.stderr), case.status)
    assert said == recorded


def test_a_refused_submission_queues_nothing(site: MockSite) -> None:
    site.run("sbatch -J refused -p nosuch --wrap true")
    assert site.out("squeue -h -t all -n refused") == ""


def test_another_cluster_is_unknown(site: MockSite) -> None:
    answer = site.run("squeue -M elsewhere")
    assert (answer.status, answer.out) == (1, "")
    assert "No cluster 'elsewhere' known by database." in answer.err


@pytest.mark.parametrize(
    ("line", "text", "status"),
    [
        ("sbatch -c 0 --wrap true", 'Invalid numeric value "0" for --cpus-per-task.', 1),
        ("sbatch -N banana --wrap true", '"banana" is not a valid node count', 255),
        ("sbatch -N 2-1 --wrap true", "Maximum node count 1 is less than minimum node", 255),
        ("sbatch --signal=FOO --wrap true", "Invalid --signal specification", 255),
        ("sbatch --open-mode=x --wrap true", "Invalid --open-mode specification", 255),
        ("sbatch --mem=1G --mem-per-cpu=1G --wrap true", "are mutually exclusive.", 1),
        ("squeue --nosuch", "squeue: unrecognized option '--nosuch'\nTry \"squeue --help\"", 1),
        ("squeue -t nosuch", "squeue: error: Invalid job state specified: nosuch\n", 1),
        ("squeue -j nonsense", "squeue: error: Invalid job id: nonsense\n", 1),
        ("squeue -j 999999", "slurm_load_jobs error: Invalid job id specified\n", 1),
        ("squeue -S K", "squeue: error: Invalid sort specification: K\n", 1),
        ("squeue -l -o %i", "squeue: fatal: Options -o(--format) and -l(--long) are mut", 1),
        ("squeue -O derived_ec", "Invalid job format specification: derived_ec\n", 1),
        ("sacct -j nonsense", "sacct: fatal: Bad job/step specified: nonsense\n", 1),
        ("sacct -s nosuch", "sacct: fatal: unrecognized job state value 'nosuch'\n", 1),
        ("sacct -o Restarts", 'sacct: error: Invalid field requested: "Restarts"\n', 1),
        ("scancel", "scancel: error: No job identification provided\n", 1),
        ("scancel notajob", "scancel: error: Invalid job id notajob\n", 1),
        ("scancel 8_[0-1],7", "scancel: error: Invalid job id 8_[0-1],7\n", 1),
        ("scontrol show job 999999", "slurm_load_jobs error: Invalid job id specified\n", 1),
        ("scontrol show nosuch", "invalid entity:nosuch for keyword:show \n", 1),
        ("scontrol nosuch", "invalid keyword: nosuch\n", 1),
        ("scontrol hold 99999", "Invalid job id specified for job 99999\nslurm_suspend error", 1),
    ],
)
def test_bad_usage_is_answered_as_by_slurm(
    site: MockSite, line: str, text: str, status: int
) -> None:
    answer = site.run(line)
    assert text in answer.err
    assert (answer.out, answer.status) == ("", status)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("scontrol show partition nosuch", "Partition nosuch not found\n"),
        ("scontrol show node c9", "Node c9 not found\n"),
    ],
)
def test_unknown_names_are_said_on_stdout(site: MockSite, line: str, text: str) -> None:
    assert site.run(line) == (text, "", 1)


@pytest.mark.parametrize("line", ["scancel 999999", "scancel 999999_3", "scancel -n nobody"])
def test_scancel_is_silent_about_what_is_not_there(site: MockSite, line: str) -> None:
    assert site.run(line) == ("", "", 0)


def test_an_abbreviated_long_option_is_understood_where_it_is_clear(site: MockSite) -> None:
    assert site.run("sbatch --test --wrap true").status == 0
    answer = site.run("sbatch --ex --wrap true")
    assert answer.status == 255
    assert "option '--ex' is ambiguous; possibilities:" in answer.err


@pytest.mark.parametrize(
    "line", ["squeue -i 5", "sbatch --container=x --wrap true", "srun --pty sh", "sinfo --json"]
)
def test_what_the_mock_does_not_play_is_refused_and_never_ignored(
    site: MockSite, line: str
) -> None:
    answer = site.run(line)
    assert answer.err.endswith("' is not played by the mock cluster\n")
    assert answer.status != 0


def test_a_heterogeneous_job_is_refused(site: MockSite) -> None:
    (site.work / "het.sh").write_text("#!/bin/sh\n#SBATCH -n1\n#SBATCH hetjob\n#SBATCH -n1\ntrue\n")
    answer = site.run("sbatch het.sh")
    assert (answer.err, answer.status) == (
        "sbatch: error: heterogeneous jobs are not played by the mock cluster\n",
        1,
    )
