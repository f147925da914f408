"""The profiles file keeps what people wrote into it: comments, order, ways of writing."""

from __future__ import annotations

import os
import stat
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows.exceptions import SettingsError
from hpc_flows.settings.profiles import (
    create_profile,
    delete_profile,
    profiles_path,
    rename_profile,
    set_settings,
    unset_settings,
    use_profile,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WRITTEN = """\
# My profiles. Ask Ann before you change the second.
active = "laptop"  # at home

[profiles.laptop]
# nothing is sent from here
log_level = "DEBUG" # loud # very
HPC_FLOWS_CLUSTER = 'mock'

# The cluster of the department
# (two GPUs a node)
[profiles."uva afton"]  # quoted, for its blank
cluster = "uva_afton"
# the end
"""

#: The same with a setting's own name, which it gets when its profile is changed.
NAMED = WRITTEN.replace("HPC_FLOWS_CLUSTER", "cluster")


@pytest.fixture
def file(home: Path) -> Path:
    home.mkdir()
    path = home / "profiles.toml"
    path.write_text(WRITTEN)
    return path


def test_a_value_is_changed_in_its_line_and_its_comment_stays(file: Path) -> None:
    set_settings({"log_level": "WARNING"})
    assert file.read_text() == NAMED.replace('"DEBUG"', '"WARNING"')


def test_a_setting_keeps_its_place_where_it_gets_its_own_name(file: Path) -> None:
    set_settings({"cluster": "uva_afton"})
    expected = WRITTEN.replace("HPC_FLOWS_CLUSTER = 'mock'", 'cluster = "uva_afton"')
    assert file.read_text() == expected


def test_a_new_setting_comes_after_the_others_of_its_profile(file: Path) -> None:
    set_settings({"api_url": "http://127.0.0.1:4200"})
    written = file.read_text()
    assert "cluster = 'mock'\napi_url = \"http://127.0.0.1:4200\"\n\n# The cluster" in written
    assert written.count("#") == WRITTEN.count("#")


def test_a_setting_that_is_taken_out_takes_only_its_line(file: Path) -> None:
    assert unset_settings(["log_level"]) == ["log_level"]
    assert file.read_text() == NAMED.replace('log_level = "DEBUG" # loud # very\n', "")


def test_the_active_profile_is_changed_in_its_line(file: Path) -> None:
    use_profile("uva afton")
    assert file.read_text() == WRITTEN.replace('"laptop"  # at', '"uva afton"  # at')


def test_the_active_profile_is_written_above_the_first_comment_of_a_table(file: Path) -> None:
    file.write_text('# one\n[profiles.default]\nlog_level = "INFO"\n\n# two\n[profiles.b]\n')
    use_profile("b")
    expected = (
        'active = "b"\n# one\n[profiles.default]\nlog_level = "INFO"\n\n# two\n[profiles.b]\n'
    )
    assert file.read_text() == expected


def test_a_renamed_profile_stays_where_it_is(file: Path) -> None:
    rename_profile("laptop", "home")
    expected = WRITTEN.replace("[profiles.laptop]", '[profiles."home"]')
    assert file.read_text() == expected.replace('active = "laptop"', 'active = "home"')


def test_a_deleted_profile_takes_its_own_comments_and_no_others(file: Path) -> None:
    delete_profile("uva afton")
    assert file.read_text() == WRITTEN[: WRITTEN.index("# The cluster of")]


def test_a_profile_between_others_leaves_the_next_ones_comment(file: Path) -> None:
    use_profile("uva afton")
    delete_profile("laptop")
    written = file.read_text()
    assert "[profiles.laptop]" not in written
    assert written.endswith(WRITTEN[WRITTEN.index("# The cluster of") :])
    assert written.startswith("# My profiles.")


def test_a_new_profile_comes_last(file: Path) -> None:
    create_profile("spare", "laptop")
    added = '\n[profiles."spare"]\nlog_level = "DEBUG"\nHPC_FLOWS_CLUSTER = "mock"\n'
    assert file.read_text() == WRITTEN + added


def test_setting_and_unsetting_leaves_the_file_as_it_was(file: Path) -> None:
    set_settings({"cluster": "mock"})
    before = file.read_text()
    set_settings({"api_url": "http://127.0.0.1:4200", "api_key": ""})
    unset_settings(["api_url"])
    assert file.read_text() == before


ODD = [
    'active = "a"\r\n# one\r\n[profiles.a]\r\nlog_level = "INFO" # two\r\n',
    '# one\nactive = "a"\nprofiles.a.log_level = "INFO" # two\nprofiles.a.cluster = "mock"\n',
    '# one\nactive = "a"\n[profiles]\na.log_level = "INFO" # two\n',
    '# one\n# two\nactive = "a"\n[ profiles . \'a\' ]\n  log_level="INFO"',
    '# one # two\nactive = "a"\n[profiles.a]\n"log_level" = """\nINFO"""\n[mine]\nx = [\n1 #\n]\n',
    '# one # two\nactive = "a"\n[profiles.a]\n\n[profiles.b]\ncluster = "#"\n',
    "# one\n[profiles.b]\n# two\nactive_not = 1\n[profiles.a]\n",
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda: set_settings({"log_level": "ERROR"}), {"log_level": "ERROR"}),
        (
            lambda: set_settings({"cluster": "mock", "log_level": "ERROR"}),
            {"cluster": "mock", "log_level": "ERROR"},
        ),
        (lambda: unset_settings(["log_level"]), {"log_level": None}),
    ],
    ids=["set", "two", "unset"],
)
def test_however_the_file_is_written_it_says_what_was_set_and_keeps_comments(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    change: Callable[[], Any],
    expected: dict[str, Any],
) -> None:
    home.mkdir()
    path = home / "profiles.toml"
    path.write_bytes(text.encode())
    monkeypatch.setenv("HPC_FLOWS_PROFILE", "a")
    change()
    written = path.read_bytes().decode()
    data = tomllib.loads(written)
    for name, value in expected.items():
        assert data["profiles"].get("a", {}).get(name) == value
    assert "# one" in written
    assert "two" in written or expected["log_level"] is None  # the comment of its line
    assert written.count("\r\n") in (0, written.count("\n"))
    assert data.get("mine") == tomllib.loads(text).get("mine")


def test_a_form_that_cannot_be_changed_with_its_comments_is_refused_and_left_alone(
    home: Path,
) -> None:
    home.mkdir()
    path = home / "profiles.toml"
    written = '# mine\nprofiles = {default = {cluster = "mock"}}\n'
    path.write_text(written)
    with pytest.raises(SettingsError, match="Change it by hand"):
        set_settings({"log_level": "ERROR"})
    assert path.read_text() == written
    path.write_text(written.removeprefix("# mine\n"))
    set_settings({"log_level": "ERROR"})
    stored = {"cluster": "mock", "log_level": "ERROR"}
    assert tomllib.loads(path.read_text())["profiles"] == {"default": stored}


def test_a_file_with_a_secret_is_its_owners_alone(file: Path) -> None:
    file.chmod(0o644)
    set_settings({"log_level": "INFO"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    set_settings({"prefect_api_key": "pnu_1234567890"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().count("#") == WRITTEN.count("#")


def test_an_interrupted_write_leaves_the_file_and_nothing_beside_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        set_settings({"prefect_api_key": "pnu_1234567890"})
    assert file.read_text() == WRITTEN
    assert sorted(os.listdir(file.parent)) == ["profiles.toml", "profiles.toml.lock"]


def test_a_file_that_is_a_link_stays_one(file: Path) -> None:
    kept = file.parent / "dotfiles.toml"
    file.rename(kept)
    file.symlink_to(kept)
    set_settings({"log_level": "WARNING"})
    assert file.is_symlink()
    assert kept.read_text() == NAMED.replace('"DEBUG"', '"WARNING"')
    assert profiles_path() == str(file)
