"""Settings come from the environment, over the active profile, over defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_flows.exceptions import SettingsError
from hpc_flows.settings import (
    SETTINGS,
    data_dir,
    get_settings,
    read_profiles,
    set_setting,
    unset_setting,
)


def _write_profiles(home: Path, text: str) -> Path:
    home.mkdir(exist_ok=True)
    path = home / "profiles.toml"
    path.write_text(text)
    return path


def test_every_setting_has_its_default_when_nothing_is_set(home: Path) -> None:
    values = get_settings().to_dict()
    assert values.pop("home") == str(home)
    assert values == {s.name: s.default for s in SETTINGS if s.name != "home"}


def test_a_profile_is_over_the_default_and_the_environment_over_the_profile(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_profiles(home, '[profiles.default]\ncluster = "afton"\nthread_workers = 7\n')
    assert get_settings().cluster == "afton"
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "mock")
    settings = get_settings()
    assert (settings.cluster, settings.thread_workers) == ("mock", 7)
    assert settings.sources["cluster"] == "HPC_FLOWS_CLUSTER"
    assert settings.sources["thread_workers"].endswith("profiles.toml")


def test_the_environment_picks_the_profile(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_profiles(
        home, 'active = "a"\n[profiles.a]\nlog_level = "ERROR"\n[profiles.b]\ncluster = "x"\n'
    )
    assert get_settings().log_level == "ERROR"
    monkeypatch.setenv("HPC_FLOWS_PROFILE", "b")
    assert (get_settings().profile, get_settings().cluster) == ("b", "x")


def test_a_changed_profile_file_is_noticed(home: Path) -> None:
    path = _write_profiles(home, '[profiles.default]\ncluster = "one"\n')
    assert get_settings().cluster == "one"
    path.write_text('[profiles.default]\ncluster = "another"\n')
    assert get_settings().cluster == "another"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("LOG_PRINTS", "yes", True),
        ("LOG_PRINTS", "0", False),
        ("THREAD_WORKERS", "12", 12),
        ("THREAD_WORKERS", "", None),
        ("ARRAY_WINDOW_SECONDS", "0.5", 0.5),
        ("LOG_LEVEL", "warning", "WARNING"),
        ("CLUSTER", "", None),
    ],
)
def test_a_text_from_the_environment_becomes_the_settings_kind(
    name: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"HPC_FLOWS_{name}", text)
    assert getattr(get_settings(), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("THREAD_WORKERS", "many"),
        ("THREAD_WORKERS", "-1"),
        ("LOG_PRINTS", "perhaps"),
        ("ARRAY_WINDOW_SECONDS", "nan"),
        ("ARRAY_WINDOW_SECONDS", "-1"),
    ],
)
def test_a_wrong_value_is_refused_by_the_variables_name(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"HPC_FLOWS_{name}", text)
    with pytest.raises(SettingsError, match=f"HPC_FLOWS_{name}.*{text}"):
        get_settings()


def test_a_wrong_choice_gets_the_close_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_FLOWS_LOG_LEVEL", "WARNNG")
    with pytest.raises(SettingsError, match="Did you mean 'WARNING'"):
        get_settings()


def test_an_unknown_name_in_a_profile_gets_the_close_match(home: Path) -> None:
    _write_profiles(home, '[profiles.default]\nclustr = "mock"\n')
    with pytest.raises(SettingsError, match=r"'clustr'.*Did you mean 'cluster'"):
        get_settings()


def test_an_unknown_profile_gets_the_close_match(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_profiles(home, "[profiles.afton]\n")
    monkeypatch.setenv("HPC_FLOWS_PROFILE", "aftn")
    with pytest.raises(SettingsError, match=r"HPC_FLOWS_PROFILE.*Did you mean 'afton'"):
        get_settings()


def test_a_profiles_file_that_is_no_toml_is_named(home: Path) -> None:
    path = _write_profiles(home, "[profiles\n")
    with pytest.raises(SettingsError, match=str(path)):
        get_settings()


def test_what_is_set_is_read_again_and_what_is_unset_is_gone(home: Path) -> None:
    assert set_setting("HPC_FLOWS_CLUSTER", 'we"ird\x7fü') == 'we"ird\x7fü'
    assert set_setting("thread_workers", "3") == 3
    assert set_setting("log_prints", "true") is True
    settings = get_settings()
    assert (settings.cluster, settings.thread_workers) == ('we"ird\x7fü', 3)
    assert read_profiles()["profiles"]["default"]["log_prints"] is True
    assert unset_setting("cluster")
    assert not unset_setting("cluster")
    assert get_settings().cluster is None


def test_a_wrong_value_is_not_stored(home: Path) -> None:
    with pytest.raises(SettingsError):
        set_setting("thread_workers", "many")
    assert read_profiles()["profiles"] == {}


def test_home_cannot_be_stored_in_a_file_that_lies_in_it() -> None:
    with pytest.raises(SettingsError, match="HPC_FLOWS_HOME in the environment"):
        set_setting("home", "/x")


def test_a_home_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HPC_FLOWS_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(SettingsError, match="Is HPC_FLOWS_HOME right"):
        set_setting("cluster", "mock")


def test_shipped_files_are_found_beside_the_package() -> None:
    assert Path(data_dir("profiles")).is_dir()


def test_a_home_that_nobody_knows_is_not_a_folder_called_tilde(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HPC_FLOWS_HOME", "~no-such-user/runs")
    with pytest.raises(SettingsError, match="Set HOME, or set HPC_FLOWS_HOME to a whole path"):
        get_settings()
