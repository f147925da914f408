"""`hpc-flows completion`: tab completion for the shell."""

from __future__ import annotations

import os

import click
from click.shell_completion import get_completion_class

from hpc_flows.cli.command import Command, NamedChoice

_HOW = {
    "bash": "echo 'eval \"$(hpc-flows completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(hpc-flows completion zsh)\"' >> ~/.zshrc",
    "fish": "hpc-flows completion fish > ~/.config/fish/completions/hpc-flows.fish",
}


@click.command(cls=Command, short_help="Print the shell's completion script.")
@click.argument("shell", metavar="[SHELL]", type=NamedChoice(list(_HOW)), required=False)
def completion(shell: str | None) -> None:
    r"""Print the script that makes the shell complete hpc-flows commands, runs and clusters.

    SHELL is bash, zsh or fish; the one that you use (from $SHELL) when left out.

    \b
    To have it in every new shell, once:
      echo 'eval "$(hpc-flows completion bash)"' >> ~/.bashrc
      echo 'eval "$(hpc-flows completion zsh)"' >> ~/.zshrc
      hpc-flows completion fish > ~/.config/fish/completions/hpc-flows.fish
    """
    name = shell or os.path.basename(os.environ.get("SHELL", ""))
    kind = get_completion_class(name) if name in _HOW else None
    if kind is None:
        known = ", ".join(_HOW)
        raise click.UsageError(f"There is no completion for the shell {name!r}; name one: {known}.")
    root = click.get_current_context().find_root()
    click.echo(kind(root.command, {}, "hpc-flows", "_HPC_FLOWS_COMPLETE").source())
