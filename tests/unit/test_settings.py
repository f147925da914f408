"""Settings come from the environment, over the active profile, over defaults."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from hpc_flows.exceptions import SettingsError
from hpc_flows.settings import SECRET, data_dir, get_settings
from hpc_flows.settings.addresses import tunnel
from hpc_flows.settings.known import SETTINGS, find_setting
from hpc_flows.settings.profiles import (
    read_profiles,
    set_setting,
    set_settings,
    unset_setting,
    unset_settings,
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


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://localhost:4300", "http://localhost:4300"),
        ("https://runs.example.org/hpc/", "https://runs.example.org/hpc"),
        ("http://[::1]:4300", "http://[::1]:4300"),
        ("unix:///run/user/1000/hpc.sock", "unix:///run/user/1000/hpc.sock"),
        ("", None),
    ],
)
def test_the_address_of_a_server_is_kept_without_its_last_slash(url: str, kept: str | None) -> None:
    assert find_setting("api_url").parse(url, "here") == kept


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("localhost:4300", "begins with 'localhost'"),
        ("runs.example.org", "no 'http://' in front"),
        ("ftp://host", "begins with 'ftp'"),
        ("http://", "names no host"),
        ("http://host:99999", "[Pp]ort out of range"),
        ("http://host:many", "[Pp]ort could not be cast"),
        ("http://host:0", "port 0"),
        ("http://me:secret@host", "a token belongs in api_key"),
        ("http://host/?a=b", r"after '\?'"),
        ("http://ho st", "spaces"),
        ("http://host\n", "spaces or signs"),
        ("http://[::1", "Invalid|invalid"),
        ("unix://run/x.sock", "three slashes"),
        ("unix:///", "three slashes"),
        ("unix:///" + "x" * 107, "at most 107 bytes"),
    ],
)
def test_the_address_of_a_server_that_is_none_is_refused_with_what_is_wrong(
    url: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_FLOWS_API_URL", url)
    with pytest.raises(SettingsError, match=f"HPC_FLOWS_API_URL: api_url must be .*(?:{wrong})"):
        get_settings()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ssh://login.example.org", (None, "login.example.org", None, None)),
        ("ssh://login/", (None, "login", None, None)),
        ("ssh://me@login:2222/127.0.0.1:4200", ("me", "login", 2222, "127.0.0.1:4200")),
        ("ssh://Afton//run/hpc.sock", (None, "Afton", None, "/run/hpc.sock")),
        ("ssh://afton/run/hpc.sock", (None, "afton", None, "/run/hpc.sock")),
        ("ssh://[fe80::1]:22/[::1]:4200", (None, "fe80::1", 22, "[::1]:4200")),
    ],
)
def test_a_tunnels_address_is_read_in_parts(text: str, parts: tuple[object, ...]) -> None:
    assert find_setting("report").parse(text, "here") == text
    assert tunnel(text) == parts


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("sometimes", "auto, off, relay or ssh"),
        ("ssh:///x.sock", "names no host"),
        ("ssh://me:secret@host", "without a password"),
        ("ssh://-oProxyCommand=x/", "begins with '-'"),
        ("ssh://-l@host/", "begins with '-'"),
        ("ssh://host/127.0.0.1:0", "'0' is no port"),
        ("ssh://host/127.0.0.1:http", "'http' is no port"),
        ("ssh://host:x/", "[Pp]ort could not be cast"),
    ],
)
def test_a_report_that_goes_nowhere_is_refused(text: str, wrong: str) -> None:
    with pytest.raises(SettingsError, match=f"here: report must be .*{wrong}"):
        find_setting("report").parse(text, "here")


def test_a_database_is_sqlite_or_postgresql_and_its_password_is_not_shown() -> None:
    setting = find_setting("server_database")
    url = "postgresql://me:canary@db:5432/runs"
    assert setting.parse("postgres" + url.removeprefix("postgresql"), "here") == url
    assert setting.shown(url) == "postgresql://me:********@db:5432/runs"
    assert "canary" not in setting.shown("postgresql:///runs?password=canary&host=/run")
    assert setting.shown("sqlite:////x/y.db") == setting.parse("sqlite:////x/y.db", "here")
    for wrong in ("mysql://x/y", "sqlite:///relative.db", "postgresql://host", "/x/y.db"):
        with pytest.raises(SettingsError, match="server_database must be sqlite"):
            setting.parse(wrong, "here")


def test_prefects_variables_are_taken_and_ours_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://theirs:4200/api")
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_key")
    settings = get_settings()
    assert (settings.prefect_api_url, settings.prefect_api_key) == (
        "http://theirs:4200/api",
        "pnu_key",
    )
    assert settings.sources["prefect_api_url"] == "PREFECT_API_URL"
    monkeypatch.setenv("HPC_FLOWS_PREFECT_API_URL", "http://ours/api")
    assert get_settings().prefect_api_url == "http://ours/api"
    monkeypatch.setenv("HPC_FLOWS_PREFECT_API_URL", "")
    assert get_settings().prefect_api_url is None


def test_prefects_names_can_be_stored(home: Path) -> None:
    set_setting("PREFECT_API_URL", "http://theirs:4200/api/")
    assert read_profiles()["profiles"]["default"] == {"prefect_api_url": "http://theirs:4200/api"}


def test_a_secret_is_neither_pickled_nor_in_a_repr_nor_among_the_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("API_KEY", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"):
        monkeypatch.setenv(f"HPC_FLOWS_{name}", "canary")
    monkeypatch.setenv("HPC_FLOWS_SERVER_DATABASE", "postgresql://me:canary@db/x")
    settings = get_settings()
    assert settings.api_key == settings.replaced(log_prints=True).api_key == "canary"
    for text in (repr(settings), repr(settings.to_dict()), repr(pickle.dumps(settings))):
        assert "canary" not in text
    copied = pickle.loads(pickle.dumps(settings))  # noqa: S301 - our own
    assert (copied.api_key, copied.home) == (None, settings.home)
    assert settings.to_dict(secrets=True)["api_key"] == "canary"


def test_the_secrets_that_are_not_pickled_are_those_that_are_marked() -> None:
    marked = {each.name for each in SETTINGS if each.secret or each.kind == "database"}
    assert marked == SECRET


def test_a_wrong_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_FLOWS_API_KEY", "can\nary")
    with pytest.raises(SettingsError, match=r"HPC_FLOWS_API_KEY: .*cannot be seen") as caught:
        get_settings()
    assert "can\nary" not in str(caught.value)
    monkeypatch.setenv("HPC_FLOWS_API_KEY", "")
    monkeypatch.setenv("HPC_FLOWS_API_URL", "http://me:canary@host")
    with pytest.raises(SettingsError, match=r"not 'http://me:\*+@host'"):
        get_settings()
    with pytest.raises(SettingsError, match="shown in a secret's place"):
        set_setting("api_key", "********")


def test_a_file_with_a_secret_is_its_owners_alone(home: Path) -> None:
    path = _write_profiles(home, '[profiles.default]\ncluster = "afton"\n')
    path.chmod(0o644)
    set_setting("log_prints", "true")
    assert path.stat().st_mode & 0o777 == 0o644
    set_setting("api_key", "hpcf_x_y")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_new_file_is_its_owners_alone(home: Path) -> None:
    set_setting("cluster", "afton")
    assert (home / "profiles.toml").stat().st_mode & 0o777 == 0o600


def test_several_settings_are_stored_together_or_not_at_all(home: Path) -> None:
    with pytest.raises(SettingsError, match="thread_workers"):
        set_settings({"cluster": "afton", "thread_workers": "many"})
    assert read_profiles()["profiles"] == {}
    assert set_settings({"cluster": "afton", "thread_workers": "3"}) == {
        "cluster": "afton",
        "thread_workers": 3,
    }
    assert unset_settings(["cluster", "log_prints"]) == ["cluster"]
    assert read_profiles()["profiles"]["default"] == {"thread_workers": 3}


def test_of_two_that_write_at_once_neither_loses_anything(home: Path) -> None:
    names = ["results_inline_limit", "task_default_retries", "flow_default_retries"]
    code = (
        "import sys; from hpc_flows.settings.profiles import set_setting, unset_setting\n"
        "for number in range(40): set_setting(sys.argv[1], str(number))\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, name]) for name in names]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert read_profiles()["profiles"]["default"] == dict.fromkeys(names, 39)
    left = {path.name for path in home.iterdir()}
    assert left == {"profiles.toml", "profiles.toml.lock"}
