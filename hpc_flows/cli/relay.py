"""`hpc-flows relay`: what brings the events of runs to servers."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import LazyGroup, json_option
from hpc_flows.cli.terminal import count, moment, print_json
from hpc_flows.cli.trouble import complain
from hpc_flows.exceptions import SettingsError
from hpc_flows.journal.index import find_run
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from types import FrameType

    from hpc_flows.reporting.dialling_in import Pulling, Source
    from hpc_flows.reporting.login import SinkThread
    from hpc_flows.settings import Settings


@click.group(cls=LazyGroup, invoke_without_command=True)
@click.option("--stdio", is_flag=True, help="The same as `hpc-flows relay stdio`.")
@click.pass_context
def relay(context: click.Context, stdio: bool) -> int:  # noqa: FBT001 - click gives flags as they are
    """Report runs to the servers, and to the file, that the settings name.

    A flow reports by itself while it runs. A relay reports the runs of all flows of a home, also
    after their processes have ended: on a login node, or once, or to whoever dials in.
    """
    if context.invoked_subcommand is not None:
        return 0
    if stdio:
        return int(context.invoke(speak_over_stdio, once=False))
    click.echo(context.get_help())
    return 0


@relay.command(short_help="Start the relay of this home.")
@click.option("--background", is_flag=True, help="Return at once; it outlives the terminal.")
def start(background: bool) -> int:  # noqa: FBT001 - as above
    """Start the relay of this home: one for each user, whichever login node it runs on.

    It ends by itself 15 minutes after the last run has ended.
    """
    from hpc_flows.reporting import login  # noqa: PLC0415 - loads http.client and more

    settings = get_settings()
    holder = login.running(settings.home)
    if holder is not None:
        click.echo(f"The relay runs already: {holder}.")
        return 0
    if not background:
        return _run(settings)
    holder = login.start_in_background(settings)
    click.echo(f"The relay runs: {holder}. It prints to {login.log_path(settings.home)}.")
    return 0


@relay.command(short_help="Run the relay of this home here, in the foreground.")
def run() -> int:
    """Run the relay of this home here, until Ctrl-C, `relay stop`, or nothing is left to do."""
    return _run(get_settings())


def _run(settings: Settings) -> int:
    from hpc_flows.reporting.login import LoginRelay  # noqa: PLC0415 - as above

    return LoginRelay(settings, click.echo).run()


@relay.command(short_help="Stop the relay of this home, on whatever node it runs.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait for its end.")
def stop(timeout: float) -> int:
    """Stop the relay of this home, on whatever login node it runs."""
    from hpc_flows.reporting import login  # noqa: PLC0415 - as above

    holder = login.stop(get_settings().home, timeout)
    click.echo("No relay runs." if holder is None else f"Stopped: {holder}.")
    return 0


@relay.command(short_help="Show the relays of this home and how they stand.")
@json_option
def status(as_json: bool) -> int:  # noqa: FBT001 - as above
    """Show the relays of this home, on all nodes, and how they stand with each server."""
    from hpc_flows.reporting import login  # noqa: PLC0415 - as above
    from hpc_flows.reporting.standing import standings  # noqa: PLC0415 - as above

    home = get_settings().home
    holder, found = login.running(home), standings(home)
    if as_json:
        facts = None if holder is None else _holder_facts(holder)
        print_json({"relay": facts, "reports": found})
        return 0
    click.echo(f"Relay of {home}: {holder or 'none runs'}.")
    for facts in found:
        for line in _standing(facts):
            click.echo(line)
    return 0


def _holder_facts(holder: Any) -> dict[str, Any]:
    return {"host": holder.host, "pid": holder.pid, "since": holder.since}


def _standing(facts: dict[str, Any]) -> list[str]:
    """Return how one relay stands with one sink, in lines."""
    where = f"{facts['mode']}, pid {facts['pid']} on {facts['host']}"
    alive = {True: "", False: ", which has ended", None: f", last heard {moment(facts['told'])}"}
    lines = [f"{facts['sink']}: {facts['state']} ({where}{alive[facts['lives']]})"]
    sent = f"  {count(facts['sent'], 'event')} sent, {_waiting(facts['unsent'])}"
    sent += f", {count(len(facts['live']), 'run')} alive"
    for name in ("refused", "damaged"):
        sent += f", {count(facts[name], 'line')} {name}" if facts[name] else ""
    lines.append(sent)
    if facts["heard"] is not None:
        lines.append(f"  last answer at {moment(facts['heard'])}")
    if facts["trouble"]:
        again = facts["next_try"] - (time.time() - facts["told"])
        lines.append(f"  {facts['trouble']} Again in {max(again, 0.0):.0f} s.")
    if facts["unsaved"]:
        lines.append(f"  Cursors cannot be kept: {facts['unsaved']}")
    lines += [f"  {note}" for note in (facts["way"], *facts["notes"]) if note]
    return lines


def _waiting(unsent: int | None) -> str:
    if unsent is None:  # where the cursors lie is known once the server has said who it is
        return "how much is to be sent is not known before the first answer"
    return f"{unsent} bytes to send"


@relay.command(short_help="Send what is not sent yet, and return.")
@click.argument("run", required=False)
@click.option("--timeout", default=300.0, show_default=True, help="Seconds to try for.")
def once(run: str | None, timeout: float) -> int:
    """Send what is not sent yet of all runs, or of RUN, and return.

    The exit status is 1 when something could not be sent.
    """
    from hpc_flows.reporting.login import SinkThread, end_all, sinks_of  # noqa: PLC0415 - as above

    settings = get_settings()
    only = None if run is None else _run_id(settings, run)
    threads = [SinkThread(sink, settings.home, only) for sink in sinks_of(settings)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and not all(_has_settled(each) for each in threads):
        time.sleep(0.05)
    told = [_told(thread) for thread in threads]
    end_all(threads)
    for line, _ in told:
        click.echo(line)
    return 0 if all(done for _, done in told) else 1


def _run_id(settings: Settings, wanted: str) -> str:
    return find_run(settings.home, wanted).rstrip("/").rpartition("/")[2]


def _has_settled(thread: SinkThread) -> bool:
    """Tell whether a sink has all, or cannot be made at all."""
    return thread.is_done() or (thread.relay is None and bool(thread.problem))


def _told(thread: SinkThread) -> tuple[str, bool]:
    relay_ = thread.relay
    done = thread.is_done()
    if relay_ is None:
        return f"{thread.sink_name}: nothing was sent: {thread.problem}", False
    facts = relay_.facts()
    text = f"{thread.sink_name}: {count(facts['sent'], 'event')} sent"
    if facts["refused"]:
        text += f", {count(facts['refused'], 'line')} refused"
    if not done:
        why = facts["trouble"] or thread.problem or "the time was over"
        text += f", {_waiting(facts['unsent'])}: {why}"
    return "\n  ".join([text, *facts["notes"]]), done


@relay.command("stdio", short_help="Report over standard input and output.")
@click.option("--once", is_flag=True, help="End once all is sent.")
def speak_over_stdio(once: bool) -> int:  # noqa: FBT001 - as above
    """Report over standard input and output, to a `relay pull` that has dialled in.

    People have no use for it: frames of bytes come out.
    """
    from hpc_flows.reporting.dialling_in import speak  # noqa: PLC0415 - as above

    return speak(get_settings().home, once=once)


@relay.command(short_help="Take reports from a machine that is only reached by ssh.")
@click.argument("source", nargs=-1, required=True)
@click.option("--once", is_flag=True, help="End once all that there is was taken.")
@click.option(
    "--remote-command",
    default="hpc-flows",
    show_default=True,
    help="What hpc-flows is called there, such as ~/venv/bin/hpc-flows.",
)
@click.option("--home", metavar="PATH", help="HPC_FLOWS_HOME there, if it is not the usual one.")
def pull(source: tuple[str, ...], once: bool, remote_command: str, home: str | None) -> int:  # noqa: FBT001 - as above
    """Take the reports of another machine, and bring them to the server that is configured here.

    SOURCE is ssh://[user@]host[:port]; or, after --, a command that starts `hpc-flows relay stdio`
    there and passes its streams on. Log in with `hpc-flows connect` first where ssh asks for more
    than a key.
    """
    from hpc_flows.reporting.dialling_in import Pulling  # noqa: PLC0415 - as above
    from hpc_flows.reporting.login import sinks_of  # noqa: PLC0415 - as above

    settings = get_settings()
    sink, *others = sinks_of(settings)
    if others:
        names = ", ".join(other.name for other in others)
        complain(f"What is pulled goes to {sink.name} only, and not to {names}.")
    argv = ["env", f"HPC_FLOWS_HOME={home}"] if home else []
    argv += [remote_command, "relay", "stdio", *(["--once"] if once else [])]
    pulling = Pulling(_source(settings, source, argv), sink, settings.home, click.echo)
    _end_on_signals(pulling)
    return pulling.run(once=once)


def _source(settings: Settings, words: tuple[str, ...], argv: list[str]) -> Source:
    from hpc_flows.reporting.dialling_in import Source  # noqa: PLC0415 - as above

    if len(words) > 1 or not words[0].startswith("ssh://"):
        return Source(" ".join(words), lambda: words)
    if settings.ssh_client != "openssh":
        msg = (
            f"Pulling needs the system's ssh, and ssh_client is {settings.ssh_client!r}: use "
            f"HPC_FLOWS_SSH_CLIENT=openssh, or give a command of your own after --."
        )
        raise SettingsError(msg)
    from hpc_flows.transports.openssh import ssh_command  # noqa: PLC0415 - few pull
    from hpc_flows.transports.openssh_client import environment  # noqa: PLC0415 - as above
    from hpc_flows.transports.ssh_destination import (  # noqa: PLC0415 - as above
        SshOptions,
        parse_destination,
    )

    destination = parse_destination(words[0])
    options = SshOptions(config=settings.ssh_config)
    return Source(words[0], lambda: ssh_command(destination, argv, options), environment())


def _end_on_signals(pulling: Pulling) -> None:
    def end(number: int, _: FrameType | None) -> None:
        pulling.ends.set()
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)


@relay.command("export", short_help="Write a run into a file that can be carried.")
@click.argument("run")
@click.option("-f", "--file", "path", default="-", help="The file; - is standard output.")
def export_(run: str, path: str) -> int:
    """Write RUN, as it is now, into a file for `hpc-flows relay import` on a machine elsewhere."""
    from hpc_flows.reporting.carrying import export_run  # noqa: PLC0415 - as above

    if path == "-" and sys.stdout.isatty():
        raise click.UsageError("This is no text: give a file with --file, or redirect the output.")
    with click.open_file(path, "wb") as stream:
        carried = export_run(get_settings().home, run, stream)
    told = f"{count(carried.lines, 'event')} and {count(carried.attachments, 'file')}"
    damaged = f" {count(carried.refused, 'line')} damaged." if carried.refused else ""
    click.echo(f"Exported {told} of run {carried.run}.{damaged}", err=True)
    return 0


@relay.command("import", short_help="Bring an exported run to the server.")
@click.argument("path")
def import_(path: str) -> int:
    """Bring a run from a file of `hpc-flows relay export` to the server that is configured here.

    It may be done twice: what is there already stays as it is.
    """
    from hpc_flows.client import open_client  # noqa: PLC0415 - as above
    from hpc_flows.reporting.carrying import import_run  # noqa: PLC0415 - as above
    from hpc_flows.reporting.server_sink import ServerSink  # noqa: PLC0415 - as above

    settings = get_settings()
    sink = ServerSink(lambda: open_client(settings, patience=60.0), "the server")
    try:
        sink.open()
        with click.open_file(path, "rb") as stream:
            carried = import_run(stream, sink)
    finally:
        sink.close()
    told = f"{count(carried.lines, 'event')} and {count(carried.attachments, 'file')}"
    refused = f", {carried.refused} refused" if carried.refused else ""
    click.echo(f"The server has {told} of run {carried.run}{refused}.")
    return 0
