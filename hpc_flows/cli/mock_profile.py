"""The profile of a mock cluster that plays another cluster: the other's rules, the mock's ways."""

from __future__ import annotations

import json
import os
import tomllib
from typing import TYPE_CHECKING, Any

from hpc_flows.exceptions import ClusterError

if TYPE_CHECKING:
    from hpc_flows.clusters import Cluster

#: First words of files that we may write again.
_MARK = "# Written by `hpc-flows mock start"

_TEMPLATE = """\
{mark} --profile {base}`, and again at each start.
# A pretend {base}: its partitions, limits and rules, on this machine. Nothing is measured in this
# file: poll and grace are short because nothing here is slow.
extends = {extends}
name = {name}
title = {title}
status = "maintained"
path = ["{{home}}/mock/{plain}/bin"]
start = [
  "{{python}}", "-m", "hpc_flows.mock_cluster",
  "start", "--home", "{{home}}", "--name", {name}, "--profile", "{{profile}}",
]
setup = []
modules = "true {{modules}}"

[limits]
submit_burst = 100
submit_per_minute = 6000

[poll]
first = 0.2
interval = 0.5
slowest = 2.0
history = 0.5

[grace]
file_system = 3.0
accounting = 5.0
lost = 10.0
"""


def write_profile(home: str, name: str, base: Cluster) -> str:
    """Write the profile of the mock `name` that plays `base`, and return its path.

    Raises:
        ClusterError: a profile of that name is there that we did not write, or it cannot be
            written.
    """
    path = os.path.join(home, "clusters", f"{name}.toml")
    _refuse_foreign(path, name)
    text = _TEMPLATE.format(
        mark=_MARK,
        base=base.name,
        extends=json.dumps(base.file),
        name=json.dumps(name),
        title=json.dumps(f"A pretend {base.name} on this machine"),
        plain=name,
    )
    account = first_account(base)
    if account is not None:
        text += f"\n[defaults]\naccount = {json.dumps(account)}\n"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{path}.{os.getpid()}", path)
    except OSError as error:
        raise ClusterError(f"{path} cannot be written: {error.strerror}.") from error
    return path


def _refuse_foreign(path: str, name: str) -> None:
    try:
        with open(path, encoding="utf-8") as file:
            ours = file.readline().startswith(_MARK)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ClusterError(f"{path} cannot be read: {error.strerror}.") from error
    if not ours:
        msg = f"There is a cluster {name!r} of your own: {path}. Give the mock another --name."
        raise ClusterError(msg)


def first_account(base: Cluster) -> str | None:
    """Return an account that the mock of a cluster knows; None where it asks for none."""
    with open(base.mock_file, "rb") as file:
        table: dict[str, Any] = tomllib.load(file)
    accounts = table.get("mock", {}).get("accounts", [])
    return str(accounts[0]) if accounts else None
