"""`hpc-flows profile` and `config`, as Prefect users know them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from cli_process import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CANARY = "hpcf_0123456789ab_canary"


@pytest.fixture
def shell(home: Path, tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path, {"HPC_FLOWS_HOME": str(home)}) as shell:
        yield shell


def _names(shell: Shell) -> dict[str, bool]:
    return {row["name"]: row["active"] for row in shell.json("profile", "ls")}


def _value(shell: Shell, name: str, *before: str) -> object:
    return shell.json(*before, "config", "view")["settings"][name]["value"]


def test_a_profile_is_made_used_renamed_and_deleted(shell: Shell) -> None:
    assert _names(shell) == {"default": True}
    shell.good("config", "set", "cluster=afton", "thread_workers=3")
    shell.good("profile", "create", "site", "--from", "default")
    shell.good("profile", "use", "site")
    assert _names(shell) == {"default": False, "site": True}
    assert shell.json("profile", "inspect", "site")["settings"] == {
        "cluster": "afton",
        "thread_workers": 3,
    }
    shell.good("config", "set", "cluster", "delftblue")
    assert (_value(shell, "cluster"), _value(shell, "cluster", "-p", "default")) == (
        "delftblue",
        "afton",
    )
    shell.good("profile", "rename", "site", "work")
    assert _names(shell) == {"default": False, "work": True}
    assert "is the active profile" in shell.run("profile", "delete", "work").stderr
    shell.good("profile", "use", "default")
    shell.good("profile", "delete", "work")
    assert _names(shell) == {"default": True}
    assert _value(shell, "cluster") == "afton"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("profile", "use", "sit"), "Did you mean 'site'"),
        (("profile", "inspect", "sitee"), "Did you mean 'site'"),
        (("profile", "rename", "sitt", "x"), "Did you mean 'site'"),
        (("profile", "delete", "sitt"), "Did you mean 'site'"),
        (("profile", "create", "x", "--from", "sitt"), "Did you mean 'site'"),
        (("profile", "create", "site"), "There is a profile 'site' already"),
        (("profile", "rename", "default", "site"), "There is a profile 'site' already"),
        (("profile", "create", "a b"), "no name for a profile"),
        (("profile", "create", ""), "no name for a profile"),
        (("-p", "sitt", "config", "view"), "Did you mean 'site'"),
        (("config", "set", "clustr=x"), "Did you mean 'cluster'"),
        (("config", "set", "clustr"), "Did you mean 'cluster'"),
        (("config", "set", "cluster"), "Give a value"),
        (("config", "set"), "Give what to set"),
        (("config", "set", "cluster=x", "log_level=loud"), "log_level"),
        (("config", "unset", "cluster", "clustr"), "Did you mean 'cluster'"),
        (("config", "set", "api_url=localhost:4300"), "api_url must be http"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_changed(
    shell: Shell, home: Path, arguments: tuple[str, ...], told: str
) -> None:
    shell.good("profile", "create", "site")
    before = (home / "profiles.toml").read_text()
    done = shell.run(*arguments)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert (home / "profiles.toml").read_text() == before


def test_the_environment_wins_and_that_is_said(shell: Shell) -> None:
    shell.good("profile", "create", "site")
    shell.environment["HPC_FLOWS_PROFILE"] = "site"
    assert _names(shell) == {"site": True, "default": False}
    assert "HPC_FLOWS_PROFILE is set to 'site'" in shell.run("profile", "use", "default").stderr
    shell.environment["PREFECT_API_URL"] = "http://theirs:4200/api"
    assert _value(shell, "prefect_api_url") == "http://theirs:4200/api"
    done = shell.run("config", "set", "PREFECT_API_URL=http://ours:4200/api")
    assert "PREFECT_API_URL is set in this shell and wins" in done.stderr
    shell.environment["HPC_FLOWS_PROFILE"] = "gone"
    assert "there is no such profile" in shell.run("profile", "ls").stderr


def test_a_profile_on_the_command_line_wins_over_the_environments(shell: Shell) -> None:
    shell.good("profile", "create", "site")
    shell.good("-p", "site", "config", "set", "cluster=afton")
    shell.environment["HPC_FLOWS_PROFILE"] = "default"
    assert _value(shell, "cluster") is None
    assert _value(shell, "cluster", "--profile", "site") == "afton"


def test_a_secret_is_masked_until_it_is_asked_for(shell: Shell, home: Path) -> None:
    out = shell.good("config", "set", f"api_key={CANARY}", "api_url=http://runs:4300")
    out += shell.good("config", "view") + shell.good("config", "view", "--json")
    out += shell.good("profile", "inspect") + shell.good("profile", "inspect", "--json")
    assert CANARY not in out
    assert "********" in out
    assert CANARY in shell.good("config", "view", "--show-secrets")
    assert CANARY in shell.good("profile", "inspect", "--show-secrets")
    path = home / "profiles.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert "others may read it" in shell.run("config", "view").stderr


def test_a_secret_can_be_given_on_standard_input(shell: Shell) -> None:
    process = shell.start("config", "set", "api_key=-", stdin=-1)
    _, err = process.communicate(CANARY + "\n", timeout=60)
    assert process.returncode == 0, err
    settings = shell.json("config", "view", "--show-secrets")["settings"]
    assert settings["api_key"]["value"] == CANARY


def test_the_view_leaves_out_what_is_not_wanted(shell: Shell) -> None:
    assert "Every setting has its default" not in shell.good("config", "view")
    shell.good("config", "set", "cluster=afton")
    rows = shell.json("config", "view", "--hide-defaults")["settings"]
    assert set(rows) == {"home", "cluster"}
    assert "source" in rows["cluster"]
    assert "source" not in shell.json("config", "view", "--hide-sources")["settings"]["cluster"]
    assert "HPC_FLOWS_HOME" in shell.good("config", "view").partition("\n")[2]
    assert "HPC_FLOWS_HOME" not in shell.good("config", "view", "--hide-sources")


def test_several_settings_are_unset_together(shell: Shell) -> None:
    shell.good("config", "set", "cluster=afton", "thread_workers=3")
    out = shell.good("config", "unset", "cluster", "thread_workers", "log_prints")
    assert "cluster = -" in out
    assert "log_prints was not set in profile 'default'" in out
    assert shell.json("profile", "inspect")["settings"] == {}


def test_names_are_completed(shell: Shell) -> None:
    shell.good("profile", "create", "site")
    for words, expected in (
        ("hpc-flows profile use s", "site"),
        ("hpc-flows -p s", "site"),
        ("hpc-flows config set api_", "api_url"),
        ("hpc-flows config set ssh_client=p", "ssh_client=paramiko"),
    ):
        shell.environment |= {
            "_HPC_FLOWS_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        assert expected in shell.run().stdout


def test_no_secret_is_in_what_a_run_leaves(shell: Shell, home: Path) -> None:
    shell.write(
        "a_flow.py",
        "from hpc_flows import Resources, flow, task\n"
        "from hpc_flows.settings import get_settings\n"
        "@task(resources=Resources(cpus=1, memory='100MB', walltime='5m'))\n"
        "def f(x):\n    return x\n"
        "@flow(log_prints=True)\n"
        "def main():\n"
        "    print(get_settings(), get_settings().to_dict())\n"
        "    f.map(range(2)).result()\n",
    )
    names = ("api_key", "prefect_api_key", "prefect_api_auth_string")
    shell.good("config", "set", "report=off", *(f"{name}={CANARY}" for name in names))
    shell.environment |= {f"HPC_FLOWS_{name.upper()}": CANARY for name in names}
    shell.environment["HPC_FLOWS_CLUSTER"] = "mock"
    try:
        done = shell.run("run", "a_flow.py")
        assert done.returncode == 0, done.stderr
        assert CANARY not in done.stdout + done.stderr
    finally:
        shell.run("mock", "stop")
    found = [
        path
        for path in home.rglob("*")
        if path.is_file() and not path.is_symlink() and CANARY.encode() in path.read_bytes()
    ]
    assert [os.path.relpath(path, home) for path in found] == ["profiles.toml"]
