"""The profiles file: `profiles.toml` in the home folder.

Its form is `active = "name"` and one table `[profiles.<name>]` for each profile. Whoever changes it
holds the lock beside it from reading to writing, so that of two at once neither loses what it
wrote; and the file appears whole or not at all. Comments and order stay as people wrote them.
"""

from __future__ import annotations

import os

from hpc_flows.exceptions import SettingsError, close_match
from hpc_flows.settings.kinds import PREFIX, whole_path
from hpc_flows.settings.known import find_setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from hpc_flows.settings.kinds import Setting

DEFAULT_PROFILE = "default"

#: Characters of a new profile's name.
_LONGEST_NAME = 64

#: How files of known names are opened: where somebody has put a link, it is not followed.
_ITSELF = os.O_NOFOLLOW | os.O_CLOEXEC


def profiles_path() -> str:
    """Return the path of the profiles file."""
    home = os.environ.get(PREFIX + "HOME") or "~/.hpc_flows"
    return os.path.join(whole_path(home), "profiles.toml")


def read_profiles(path: str | None = None) -> dict[str, Any]:
    """Return `{"active": name, "profiles": {name: {setting: value}}}` of the profiles file.

    Raises:
        SettingsError: the file cannot be read.
    """
    path = path or profiles_path()
    if not os.path.exists(path):
        return {"active": DEFAULT_PROFILE, "profiles": {}}
    import tomllib  # noqa: PLC0415 - only where there is a file

    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except (OSError, ValueError) as error:
        msg = f"The profiles file {path} cannot be read: {error}. Mend it or move it away."
        raise SettingsError(msg) from error
    profiles = data.get("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(v, dict) for v in profiles.values()):
        msg = f"{path}: settings belong under [profiles.<name>]."
        raise SettingsError(msg)
    return {"active": str(data.get("active", DEFAULT_PROFILE)), "profiles": profiles}


def active_profile(path: str) -> tuple[str, dict[str, Any]]:
    """Return the active profile's name and its values by setting name.

    Raises:
        SettingsError: there is no such profile, or it has a setting that does not exist.
    """
    data = read_profiles(path)
    wanted = os.environ.get(PREFIX + "PROFILE")
    active = wanted or data["active"]
    profiles = data["profiles"]
    if active not in profiles:
        if active == DEFAULT_PROFILE:
            return active, {}
        source = PREFIX + "PROFILE" if wanted else path
        msg = f"{source}: there is no profile {active!r} in {path}.{close_match(active, profiles)}"
        raise SettingsError(msg)
    return active, {find_setting(name).name: value for name, value in profiles[active].items()}


def change_profiles(change: Callable[[dict[str, Any]], Any]) -> Any:
    """Change the profiles file while nobody else does, and return what `change` returned.

    Args:
        change: is given what `read_profiles` returns, and changes it in place.

    Raises:
        SettingsError: the file cannot be read or written.
    """
    path = profiles_path()
    lock = _locked(path)
    try:
        data = read_profiles(path)
        before = {**data, "profiles": {name: dict(v) for name, v in data["profiles"].items()}}
        result = change(data)
        if data != before:
            _write(path, data, _changed(path, before, data))
        return result
    finally:
        os.close(lock)


def _changed(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the file's text with another content, and with its comments.

    Raises:
        SettingsError: it is written in a form of TOML that cannot be changed like that.
    """
    if not os.path.exists(path):
        return _as_text(after)
    from hpc_flows.settings.profile_text import Edit  # noqa: PLC0415 - for those who write

    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except OSError as error:
        raise _unwritable(path, error) from error
    edit = Edit(text, _toml)
    edit.apply(before, after)
    if _content(edit.text) == {key: after[key] for key in ("active", "profiles")}:
        return edit.text
    if "#" not in text:
        return _as_text(after)
    msg = (
        f"{path} is written in a form that cannot be changed without losing its comments. Change "
        f"it by hand, or write each profile as [profiles.<name>] with lines of `setting = value`."
    )
    raise SettingsError(msg)


def _content(text: str) -> dict[str, Any] | None:
    """Return what `read_profiles` would make of a text, or None if it cannot be read."""
    import tomllib  # noqa: PLC0415 - as in read_profiles

    try:
        data = tomllib.loads(text)
    except ValueError:
        return None
    active = str(data.get("active", DEFAULT_PROFILE))
    return {"active": active, "profiles": data.get("profiles", {})}


def _locked(path: str) -> int:
    """Wait for the lock on the file and return it; closing it, or the end of us, lets it go."""
    import fcntl  # noqa: PLC0415 - for those who write

    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | _ITSELF, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        os.close(lock)
        raise _unwritable(path, error) from error
    return lock


def _unwritable(path: str, error: OSError) -> SettingsError:
    return SettingsError(
        f"The profiles file {path} cannot be written: {error}. Is HPC_FLOWS_HOME right?"
    )


def _write(path: str, data: Mapping[str, Any], content: str) -> None:
    path = os.path.realpath(path)  # a link stays one, such as into a folder of kept settings
    temporary = f"{path}.{os.getpid()}"
    try:
        # Nobody else may read it for an instant: it may hold a secret.
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _ITSELF, 0o600)
        try:
            os.fchmod(file, _mode(path, data))
            with open(file, "w", encoding="utf-8", newline="", closefd=False) as text:
                text.write(content)
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        _remove(temporary)  # also after Ctrl-C: it may hold a secret


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return  # it has become the file, was not made, or is a leftover that nobody else can read


def _mode(path: str, data: Mapping[str, Any]) -> int:
    """Return the file's permissions: its owner's alone when it holds a secret, else as it was."""
    if holds_secret(data):
        return 0o600
    try:
        return os.stat(path).st_mode & 0o777
    except OSError:
        return 0o600  # a new file; a secret may come later


def holds_secret(data: Mapping[str, Any]) -> bool:
    """Tell whether a profile of the file holds what is not for everyone's eyes."""
    return any(
        find_setting(name).hides(value)
        for values in data["profiles"].values()
        for name, value in values.items()
        if _is_known(name)
    )


def _is_known(name: str) -> bool:
    try:
        find_setting(name)
    except SettingsError:
        return False
    return True


def _as_text(data: Mapping[str, Any]) -> str:
    lines = [f"active = {_toml(data['active'])}"]
    for name, values in data["profiles"].items():
        lines.append(f"\n[profiles.{_toml(name)}]")
        lines.extend(f"{key} = {_toml(value)}" for key, value in values.items())
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    import json  # noqa: PLC0415 - a JSON text is a TOML text, once DEL is escaped too

    return json.dumps(str(value)).replace("\x7f", "\\u007f")


def set_setting(name: str, value: str) -> Any:
    """Store a setting in the active profile and return the value as it was read.

    Raises:
        SettingsError: no such setting, or the value is wrong.
    """
    return set_settings({name: value})[find_setting(name).name]


def set_settings(texts: Mapping[str, str]) -> dict[str, Any]:
    """Store settings in the active profile, all or none; return the values by name as read.

    An empty text takes the setting out where nothing is a value of it.

    Raises:
        SettingsError: no such setting, or a value is wrong.
    """
    parsed = {}
    for name, text in texts.items():
        setting = _storable(name)
        parsed[setting.name] = setting.parse(text, f"{setting.name}={setting.shown(text)}")

    def change(data: dict[str, Any]) -> None:
        stored = _active_values(data)
        for name, value in parsed.items():
            stored[name] = value
            if value is None:
                del stored[name]

    change_profiles(change)
    return parsed


def unset_setting(name: str) -> bool:
    """Remove a setting from the active profile; return whether it was there.

    Raises:
        SettingsError: no such setting.
    """
    return bool(unset_settings([name]))


def unset_settings(names: Iterable[str]) -> list[str]:
    """Remove settings from the active profile; return the names of those that were there.

    Raises:
        SettingsError: no such setting.
    """
    wanted = [_storable(name).name for name in names]

    def change(data: dict[str, Any]) -> list[str]:
        stored = _active_values(data)
        return [name for name in wanted if stored.pop(name, None) is not None]

    found: list[str] = change_profiles(change)
    return found


def _storable(name: str) -> Setting:
    setting = find_setting(name)
    if setting.name == "home":
        msg = f"home is where the profiles file lies; set {setting.variable} in the environment."
        raise SettingsError(msg)
    return setting


def _active_values(data: dict[str, Any]) -> dict[str, Any]:
    """Return the part of the file that is the active profile, under the settings' own names."""
    active, values = active_profile(profiles_path())
    data["profiles"][active] = values
    return values


# Whole profiles -----------------------------------------------------------------------------------


def profile_names() -> list[str]:
    """Return the names of all profiles; `default` is always one of them.

    Raises:
        SettingsError: the file cannot be read.
    """
    return list(dict.fromkeys((*read_profiles()["profiles"], DEFAULT_PROFILE)))


def profile_values(name: str) -> dict[str, Any]:
    """Return what a profile sets, as the file has it, by the settings' names.

    Raises:
        SettingsError: there is no such profile, or the file cannot be read.
    """
    data = read_profiles()
    return dict(data["profiles"].get(_known_profile(data, name), {}))


def active_profile_name() -> tuple[str, str]:
    """Return the name of the profile in force, and what says so: the file or the variable."""
    wanted = os.environ.get(PREFIX + "PROFILE")
    if wanted:
        return wanted, PREFIX + "PROFILE"
    return read_profiles()["active"], profiles_path()


def create_profile(name: str, source: str | None = None) -> None:
    """Make a profile, empty or with what another one sets.

    Raises:
        SettingsError: it exists, the name cannot be used, or there is no `source`.
    """
    _check_new_name(name)

    def change(data: dict[str, Any]) -> None:
        _check_free(data, name)
        values = {} if source is None else data["profiles"].get(_known_profile(data, source), {})
        data["profiles"][name] = dict(values)

    change_profiles(change)


def use_profile(name: str) -> None:
    """Make a profile the active one.

    Raises:
        SettingsError: there is none of that name.
    """

    def change(data: dict[str, Any]) -> None:
        data["active"] = _known_profile(data, name)

    change_profiles(change)


def rename_profile(name: str, new: str) -> None:
    """Give a profile another name; it stays active if it was.

    Raises:
        SettingsError: there is none, or one of the new name, which may also not be usable.
    """
    _check_new_name(new)

    def change(data: dict[str, Any]) -> None:
        _known_profile(data, name)
        _check_free(data, new)
        profiles = data["profiles"]
        profiles.setdefault(name, {})
        data["profiles"] = {new if old == name else old: profiles[old] for old in profiles}
        if data["active"] == name:
            data["active"] = new

    change_profiles(change)


def delete_profile(name: str) -> None:
    """Delete a profile that is not the active one.

    Raises:
        SettingsError: there is none, or it is active.
    """

    def change(data: dict[str, Any]) -> None:
        _known_profile(data, name)
        if name == data["active"]:
            msg = f"{name!r} is the active profile. `hpc-flows profile use` another one first."
            raise SettingsError(msg)
        data["profiles"].pop(name, None)

    change_profiles(change)


def _known_profile(data: Mapping[str, Any], name: str) -> str:
    if name not in data["profiles"] and name != DEFAULT_PROFILE:
        hint = close_match(name, (*data["profiles"], DEFAULT_PROFILE))
        known = hint or " `hpc-flows profile ls` lists those that there are."
        msg = f"There is no profile {name!r} in {profiles_path()}.{known}"
        raise SettingsError(msg)
    return name


def _check_free(data: Mapping[str, Any], name: str) -> None:
    if name in data["profiles"]:
        msg = f"There is a profile {name!r} already; `hpc-flows profile inspect {name}` shows it."
        raise SettingsError(msg)


def _check_new_name(name: str) -> None:
    fits = name.isprintable() and not name.startswith("-") and not set(name) & set(" '\"\\/=[]#")
    if not name or len(name) > _LONGEST_NAME or not fits:
        msg = (
            f"{name!r} is no name for a profile: take letters, digits, '-', '_' and '.', at most "
            f"{_LONGEST_NAME}, and no '-' in front."
        )
        raise SettingsError(msg)
