"""Reading where ssh goes, and what is wanted there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_flows.exceptions import SettingsError
from hpc_flows.transports.ssh_destination import (
    Destination,
    Target,
    parse_destination,
    parse_report,
    target_of,
    unix_target,
)


@pytest.mark.parametrize(
    ("text", "destination", "target"),
    [
        ("ssh://login/127.0.0.1:4200", Destination("login"), "127.0.0.1:4200"),
        ("ssh://me@login.hpc.edu:2222/db:1", Destination("login.hpc.edu", "me", 2222), "db:1"),
        ("ssh://login/home/me/s.sock", Destination("login"), "/home/me/s.sock"),
        ("ssh://login//home/me/s.sock", Destination("login"), "/home/me/s.sock"),
        ("ssh://[2001:db8::1]:22/[::1]:4200", Destination("2001:db8::1", None, 22), "[::1]:4200"),
        ("ssh://Afton", Destination("Afton"), "None"),
        ("ssh://Afton/", Destination("Afton"), "None"),
    ],
)
def test_a_report_setting_is_read(text: str, destination: Destination, target: str) -> None:
    found, wanted = parse_report(text)
    assert (found, str(wanted)) == (destination, target)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ssh://-oProxyCommand=x/127.0.0.1:1", "host"),
        ("ssh:///127.0.0.1:1", "missing"),
        ("ssh://a b/127.0.0.1:1", "host"),
        ("ssh://host:0x/127.0.0.1:1", "cannot be read"),
        ("ssh://host:70000/127.0.0.1:1", "cannot be read"),
        ("ssh://host/127.0.0.1:70000", "no port"),
        ("ssh://host/127.0.0.1:0", "no port"),
        ("ssh://-l@host/127.0.0.1:1", "user"),
        ("ssh://host/tmp/a:b/x", "path"),
        ("ssh://host/tmp/$(id)", "path"),
        ("ssh://host/tmp/a b", "path"),
        ("ssh://host/x?y", "'?'"),
        ("http://host/x", "ssh://"),
    ],
)
def test_what_is_no_tunnel_is_refused_with_an_example(text: str, words: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_report(text)
    assert words in str(raised.value)
    assert "ssh://" in str(raised.value)


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as raised:
        parse_report("ssh://me:hunter2@host/127.0.0.1:1")
    assert "hunter2" not in str(raised.value)
    assert "host" in str(raised.value)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:4200", "127.0.0.1:4200"),
        ("https://flows.uni.edu/prefix", "flows.uni.edu:443"),
        ("http://flows", "flows:80"),
        ("http://[::1]:4200", "[::1]:4200"),
        ("unix:///home/me/server.sock", "/home/me/server.sock"),
    ],
)
def test_an_address_of_a_server_becomes_a_target(url: str, target: str) -> None:
    assert str(target_of(url)) == target


@pytest.mark.parametrize("url", ["", "ftp://x", "127.0.0.1:4200", "unix://x/y", "http://x:y"])
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(SettingsError):
        target_of(url)


@pytest.mark.parametrize("text", ["login", "ssh://login", "me@login:22", "ssh://me@login:22"])
def test_a_machine_is_read_with_or_without_ssh_before_it(text: str) -> None:
    assert str(parse_destination(text)) == text.removeprefix("ssh://")


def test_a_machine_with_a_path_is_refused() -> None:
    with pytest.raises(SettingsError, match="'/'"):
        parse_destination("login/127.0.0.1:1")


def test_a_socket_in_a_target_is_whole_and_plain() -> None:
    assert unix_target("/a/../b/s.sock") == Target(path="/b/s.sock")
    with pytest.raises(SettingsError):
        unix_target("s.sock")


@given(st.text(max_size=30), st.text(max_size=30))
def test_nothing_that_is_read_can_be_an_option_or_a_second_field(host: str, path: str) -> None:
    try:
        destination, target = parse_report(f"ssh://{host}/{path}")
    except SettingsError:
        return
    for word in (destination.host, destination.user or "x"):
        assert not word.startswith("-")
        assert not set(word) & set(" \t\n'\"$`;&|<>()\\*?%")
    if target is not None and target.path:
        assert not set(target.path) & set(" \t\n'\"$`;&|<>()\\*?%:[]")
