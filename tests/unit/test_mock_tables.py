"""What the mock prints is what Slurm prints: tables, fields, times, records."""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING

import mock_site
import pytest
from mock_site import MockSite
from slurm_samples import REAL, transcript

from hpc_flows import mock_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockSite]:
    with mock_site.running(tmp_path_factory.mktemp("tables")) as site:
        site.submit("-H -J held --comment='a|b' --wrap true")
        yield site


def recorded(name: str, command: str) -> str:
    return next(told.stdout for told in transcript(name) if told.command == command)


def test_sinfo_of_an_idle_site_is_the_recorded_one(site: MockSite) -> None:
    assert site.out("sinfo") == recorded("nodes-and-gpus.txt", "sinfo")


def test_sinfo_node_lines_are_the_recorded_ones_but_for_load_and_order(site: MockSite) -> None:
    form = "%N|%P|%t|%T|%c|%m|%G|%f|%C"
    told = recorded("nodes-and-gpus.txt", f'sinfo -h -N -o "{form}|%O|%e"')
    without_load = sorted(line.rsplit("|", 2)[0] for line in told.splitlines())
    assert sorted(site.out(f"sinfo -h -N -o '{form}'").splitlines()) == without_load


def test_partitions_are_the_recorded_ones(site: MockSite) -> None:
    command = "scontrol show partition -o"
    assert site.out(command) == recorded("nodes-and-gpus.txt", command)


def test_sinfo_of_an_unknown_partition_is_only_a_header(site: MockSite) -> None:
    text = site.out("sinfo -p nosuch")
    assert text == "PARTITION AVAIL  TIMELIMIT  NODES  STATE NODELIST\n"


def test_the_summary_counts_nodes(site: MockSite) -> None:
    first, second = site.out("sinfo -s").splitlines()[:2]
    assert first == "PARTITION   AVAIL  TIMELIMIT   NODES(A/I/O/T) NODELIST"
    assert second == "standard*      up 7-00:00:00          0/2/0/2 c[1-2]"


def test_the_default_table_cuts_each_field_to_its_width(site: MockSite) -> None:
    job = site.submit("-H -J a-very-long-name --wrap true")
    header, line = site.out(f"squeue -j {job}").splitlines()
    assert (
        header == recorded("json-and-ids.txt", "")
        if False
        else header.startswith(
            "             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)"
        )
    )
    user = site.out("id -un").strip()[:8]
    assert line == f"{job:>18}  standard a-very-l {user:>8} PD       0:00      1 (JobHeldUser)"


def test_long_fields_have_widths_suffixes_or_their_own_length(site: MockSite) -> None:
    fixed = site.out("squeue -h -n held -O 'JobID:.4,Name:.8,State:.12,Comment:.10'")
    assert fixed == "   1    held     PENDING       a|b\n"
    free = site.out("squeue -h -n held -O 'JobArrayID:\x1f,State:\x1f,exit_code:\x1f'")
    assert free == "1\x1fPENDING\x1f0\x1f\n"
    assert site.out("squeue -h -n held -O JobID,State") == f"{'1':20}{'PENDING':20}\n"


def test_any_byte_separates_fields(site: MockSite) -> None:
    assert site.out("squeue -h -n held -o '%i\x1f%k\x1f%T'") == "1\x1fa|b\x1fPENDING\n"


def test_the_environment_sets_a_format_that_an_option_overrides(site: MockSite) -> None:
    assert site.out("squeue -h -n held", SQUEUE_FORMAT="%A only") == "1 only\n"
    assert site.out("squeue -h -n held -o '%i %T'", SQUEUE_FORMAT="x") == "1 PENDING\n"


def test_unknown_ids_are_left_out_beside_known_ones(site: MockSite) -> None:
    assert site.out("squeue -h -j 999999,1 -o %i") == "1\n"


def test_only_my_jobs_are_mine(site: MockSite) -> None:
    assert "1\n" in site.out("squeue -h --me -o %i")
    assert site.out("squeue -h -u nobody-here -o %i") == ""


def test_times_are_in_the_callers_zone_or_form(site: MockSite) -> None:
    epoch = int(site.out("squeue -h -n held -o %V", SLURM_TIME_FORMAT="%s"))
    assert abs(time.time() - epoch) < 3600
    shown = site.out("squeue -h -n held -o %V", TZ="America/New_York").strip()
    with_zone = os.environ.get("TZ")
    os.environ["TZ"] = "America/New_York"
    time.tzset()
    try:
        assert shown == time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(epoch))
    finally:
        os.environ.pop("TZ")
        if with_zone is not None:
            os.environ["TZ"] = with_zone
        time.tzset()


def test_a_record_has_slurms_keys_in_slurms_order(site: MockSite) -> None:
    told = recorded("submit.txt", "scontrol show job -o $(squeue -h -n j1 -o %A)")
    key = re.compile(r"(?:^|\s)([A-Z][\w/:]*)=")
    keys = key.findall(told.replace("run=abc task=1", "").replace("MinMemoryNode", "MinMemoryCPU"))
    assert key.findall(site.out("scontrol show job -o 1")) == keys


def test_a_records_lines_end_with_an_empty_one(site: MockSite) -> None:
    text = site.out("scontrol show job 1")
    assert text.startswith("JobId=1 JobName=held\n   UserId=")
    assert text.endswith("   Power=\n   \n\n")


def test_the_configuration_names_limits_and_version(site: MockSite) -> None:
    text = site.out("scontrol show config")
    for line in ("MaxArraySize            = 1001", "SLURM_VERSION           = 22.05.8"):
        assert line in text.splitlines()
    assert site.out("scontrol ping") == "Slurmctld(primary) at login is UP\n"


def test_a_node_tells_what_jobs_hold(site: MockSite) -> None:
    job = site.submit("-w c2 -c 4 --mem=2G -o /dev/null --wrap 'sleep 60'")
    site.wait(job, "RUNNING")
    text = site.out("scontrol show node -o c2")
    assert "CPUAlloc=4 CPUEfctv=40 CPUTot=40" in text
    assert "RealMemory=384000 AllocMem=2048" in text
    assert "State=MIXED" in text
    assert "AllocTRES=cpu=4,mem=2G" in text
    site.out(f"scancel {job}")
    site.wait(job, "CANCELLED")


# -- sacct


def test_accounting_lists_the_fields_that_22_05_has(site: MockSite) -> None:
    told = (REAL / "sacct.txt").read_text().partition("$ sacct --helpformat\n--- stdout\n")[2]
    assert site.out("sacct --helpformat") == told.partition("--- stderr")[0]


def test_accounting_separates_as_asked(site: MockSite) -> None:
    job = site.submit("-o /dev/null --comment='a|b' --wrap true")
    site.wait(job, "COMPLETED")
    assert site.out(f"sacct -X -n -P -j {job} -o JobID,Comment,State") == f"{job}|a|b|COMPLETED\n"
    clean = site.out(f"sacct -X -n -P --delimiter=\x1f -j {job} -o JobID,Comment,State")
    assert clean == f"{job}\x1fa|b\x1fCOMPLETED\n"
    header = "JobID|JobName|Partition|Account|AllocCPUS|State|ExitCode"
    assert site.out(f"sacct -P -j {job}").splitlines() == [
        header,
        f"{job}|wrap|standard|mylab|1|COMPLETED|0:0",
        f"{job}.batch|batch||mylab|1|COMPLETED|0:0",
    ]
    assert site.out(f"sacct -p -n -X -j {job} -o JobID,State") == f"{job}|COMPLETED|\n"


def test_a_batch_step_is_on_the_first_node_only(site: MockSite) -> None:
    job = site.submit("-p parallel -N2 -n4 --mem=1G -o /dev/null --wrap true")
    site.wait(job, "COMPLETED")
    fields = "JobID,NNodes,AllocCPUS,NodeList,AllocTRES"
    assert site.out(f"sacct -n -P -j {job} -o {fields}").splitlines() == [
        f"{job}|2|4|c[1-2]|billing=4,cpu=4,mem=2G,node=2",
        f"{job}.batch|1|2|c1|cpu=2,mem=1G,node=1",
    ]


def test_a_cancelled_job_keeps_the_reason_it_waited_for(site: MockSite) -> None:
    job = site.submit("-H --wrap true")
    site.out(f"scancel {job}")
    assert site.out(f"squeue -h -t all -j {job} -o %r") == "JobHeldUser\n"


def test_accounting_pads_a_table_for_people(site: MockSite) -> None:
    job = site.submit("-o /dev/null --wrap true")
    site.wait(job, "COMPLETED")
    lines = site.out(f"sacct -X -j {job} -o JobID,State,ExitCode").splitlines()
    assert lines == [
        "JobID             State ExitCode ",
        "------------ ---------- -------- ",
        f"{job:<12}  COMPLETED      0:0 ",
    ]


def test_unknown_and_held_jobs_are_missing_from_accounting(site: MockSite) -> None:
    assert site.run("sacct -X -n -P -j 1,999999 -o JobID") == ("", "", 0)


def test_accounting_filters_by_name_state_and_time(site: MockSite) -> None:
    job = site.submit("-J filtered -o /dev/null --wrap 'exit 1'")
    site.wait(job, "FAILED")
    ask = "sacct -X -n -P --name=filtered -o JobID"
    assert site.out(f"{ask} -S now-5minutes") == f"{job}\n"
    assert site.out(f"{ask} -s F") == f"{job}\n"
    assert site.out(f"{ask} -s CD,TO") == ""
    assert site.out(f"{ask} -S now-2hours -E now-1hour") == ""


def test_a_site_without_accounting_says_so(tmp_path: Path) -> None:
    options = mock_cluster.StartOptions(accounting=False, timings=dict(mock_site.QUICK))
    with mock_site.running(tmp_path, options) as site:
        for command in ("sacct", "sacct -j 1"):
            assert site.run(command) == ("", "Slurm accounting storage is disabled\n", 1)
        job = site.submit("-A anything -o /dev/null --wrap 'exit 3'")
        site.wait(job, "FAILED")
        shown = site.out(f"scontrol show job -o {job}")
        assert "Account=(null) QOS=(null) JobState=FAILED" in shown
        config = site.out("scontrol show config")
        assert "AccountingStorageType   = accounting_storage/none" in config


# -- JSON


def test_22_05_writes_bare_values_and_ignores_filters(site: MockSite) -> None:
    job = site.submit("-J js -o /dev/null --wrap 'exit 7'")
    site.wait(job, "FAILED")
    told = json.loads(site.out("squeue --json -n nobody"))
    record = next(entry for entry in told["jobs"] if entry["job_id"] == int(job))
    assert (record["job_state"], record["exit_code"]) == ("FAILED", 1792)
    assert (record["array_task_id"], record["array_job_id"]) == (None, 0)
    assert record["state_reason"] == "NonZeroExitCode"
    assert told["meta"]["Slurm"]["version"] == {"major": 22, "micro": 8, "minor": 5}
    row = json.loads(site.out(f"sacct --json -j {job}"))["jobs"][0]
    assert row["state"] == {"current": "FAILED", "reason": "None"}
    assert row["exit_code"] == {"status": "ERROR", "return_code": 7}


def test_24_11_writes_lists_and_set_objects_and_obeys_filters(tmp_path: Path) -> None:
    options = mock_cluster.StartOptions(version="24.11.5", timings=dict(mock_site.QUICK))
    with mock_site.running(tmp_path, options) as site:
        job = site.submit("-J js -o /dev/null --wrap 'exit 7'")
        site.wait(job, "FAILED")
        assert json.loads(site.out("squeue --json -n nobody -t all"))["jobs"] == []
        told = json.loads(site.out("squeue --json -n js -t all"))
        record = told["jobs"][0]
        assert record["job_state"] == ["FAILED"]
        assert record["exit_code"]["return_code"] == {"set": True, "infinite": False, "number": 7}
        assert record["array_task_id"]["set"] is False
        assert told["meta"]["slurm"]["version"]["major"] == "24"
