"""`hpc-flows server user` and `hpc-flows server project`: who may see which runs."""

from __future__ import annotations

import time
from urllib.parse import quote

import click

from hpc_flows.cli.command import LazyGroup, json_option
from hpc_flows.cli.terminal import moment, print_json, print_rows
from hpc_flows.client import open_client
from hpc_flows.settings import get_settings

#: Seconds that the token of a new user is valid.
_YEAR = 365 * 86400.0


@click.group(cls=LazyGroup)
def user() -> None:
    """Make, list and close users' accounts; for admins of the server."""


@user.command("create")
@click.argument("name")
@click.option("--admin", is_flag=True, help="May do everything, and see all runs.")
def create_user(name: str, admin: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Make a user, and print a token for them that is valid for a year.

    They set it as api_key, and may make others with it.
    """
    scopes = ["report", "read", "control", *(["admin"] if admin else [])]
    wanted = {"name": "first", "user": name, "scopes": scopes, "expires": time.time() + _YEAR}
    with open_client(get_settings()) as client:
        client.post("/users", {"name": name, "admin": admin}, patience=0.0)
        made = client.post("/tokens", wanted, patience=0.0)
    click.echo(made["token"])


@user.command("ls")
@json_option
def list_users(as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """List the users."""
    with open_client(get_settings()) as client:
        items = client.get("/users")["items"]
    if as_json:
        print_json(items)
        return
    rows = [
        (u["name"], "yes" if u["admin"] else "", moment(u["created"]), moment(u["disabled"]))
        for u in items
    ]
    print_rows(("name", "admin", "created", "closed"), rows)


@user.command("close")
@click.argument("name")
def close(name: str) -> None:
    """Close a user's account: their tokens end at once, their runs stay."""
    with open_client(get_settings()) as client:
        client.request("DELETE", f"/users/{quote(name, safe='')}")
    click.echo(f"The account of {name} is closed.")


@click.group(cls=LazyGroup)
def project() -> None:
    """Let people see each other's runs.

    A run is seen by its owner, by the members of its project, and by admins.
    """


@project.command("create")
@click.argument("name")
def create_project(name: str) -> None:
    """Make a project; for admins."""
    with open_client(get_settings()) as client:
        client.post("/projects", {"name": name}, patience=0.0)
    click.echo(f"There is a project {name} now. hpc-flows server project add {name} USER")


@project.command("ls")
@json_option
def list_projects(as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """List projects and their members."""
    with open_client(get_settings()) as client:
        items = client.get("/projects")["items"]
    if as_json:
        print_json(items)
        return
    rows = [
        (p["name"], ", ".join(f"{m['user']} ({m['role']})" for m in p["members"])) for p in items
    ]
    print_rows(("project", "members"), rows)


@project.command("add")
@click.argument("project_name", metavar="PROJECT")
@click.argument("user_name", metavar="USER")
@click.option("--control", is_flag=True, help="May also cancel and remove the project's runs.")
def add(project_name: str, user_name: str, control: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Make a user a member of a project, or change what the member may do; for admins."""
    role = "control" if control else "read"
    with open_client(get_settings()) as client:
        client.request("PUT", _member(project_name, user_name), {"role": role})
    click.echo(f"{user_name} may {role} the runs of {project_name}.")


@project.command("remove")
@click.argument("project_name", metavar="PROJECT")
@click.argument("user_name", metavar="USER")
def remove(project_name: str, user_name: str) -> None:
    """Take a user out of a project; for admins."""
    with open_client(get_settings()) as client:
        client.request("DELETE", _member(project_name, user_name))
    click.echo(f"{user_name} is no member of {project_name} any more.")


def _member(project_name: str, user_name: str) -> str:
    return f"/projects/{quote(project_name, safe='')}/members/{quote(user_name, safe='')}"


@project.command("share")
@click.argument("run", metavar="FLOW_RUN")
@click.argument("project_name", metavar="PROJECT", required=False)
def share(run: str, project_name: str | None) -> None:
    """Put a run of yours into a project; without PROJECT, take it out of any."""
    with open_client(get_settings()) as client:
        path = f"/flow-runs/{quote(run, safe='')}/project"
        client.request("PUT", path, {"project": project_name})
    told = f"in the project {project_name}" if project_name else "in no project"
    click.echo(f"{run} is {told} now.")
