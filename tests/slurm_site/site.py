"""One site: munge, MariaDB, slurmdbd, slurmctld and four slurmd on this machine.

Every daemon runs in the foreground of a session of its own and is recorded by pid, so that no
systemd is needed and no program of others is ever touched.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_site import configuration
from slurm_site.configuration import NODES, Layout
from slurm_site.processes import Program, Programs, SiteError, end_all, program_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: In the order in which they are started.
DAEMONS = ("munged", "mariadb", "slurmdbd", "slurmctld", *NODES)
#: Those that a site beside another one has for itself.
OWN_DAEMONS = ("slurmctld", *NODES)

_COMMAND_SECONDS = 60


class Site:
    """A site in a folder of its own, as root."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.daemons = OWN_DAEMONS if layout.beside else DAEMONS
        self.programs = Programs(layout.folder)
        path = f"/usr/sbin:/usr/bin:/sbin:/bin:{os.environ.get('PATH', '')}"
        self.env = {"PATH": path, "SLURM_CONF": str(layout.conf), "LANG": "C.UTF-8"}

    def make_users(self) -> None:
        """Make the two plain users where the machine has none of their names."""
        for user in (self.layout.user, self.layout.other):
            _make_user(user)

    def up(self) -> None:
        """Write the files and start everything; ready when all nodes have registered.

        Raises:
            SiteError: a daemon did not come up; its log is in the message.
        """
        self._check_ports()
        configuration.write_all(self.layout)
        if self.layout.beside:
            self._make_accounts()
        else:
            self._make_database()
        for name in self.daemons:
            self.start(name)
        self.await_nodes()

    def down(self) -> None:
        """Stop everything that this site recorded, jobs included, in the reverse order."""
        for name in reversed(self.daemons):
            self.programs.stop(name)
            if name == NODES[0]:
                # What slurmd left: its jobs are ours to end.
                end_all(self.job_processes())

    def start(self, name: str) -> None:
        """Start a daemon that does not run, and wait until it answers."""
        _check(name)
        if self.programs.find(name) is None:
            starters: dict[str, Callable[[], None]] = {
                "munged": self._start_munged,
                "mariadb": self._start_mariadb,
                "slurmdbd": self._start_slurmdbd,
                "slurmctld": self._start_slurmctld,
            }
            starters.get(name, lambda: self._start_node(name))()

    def stop(self, name: str) -> None:
        """End a daemon politely; jobs of a node that is stopped live on."""
        _check(name)
        self.programs.stop(name)

    def kill(self, name: str) -> None:
        """End a daemon with SIGKILL; a node's jobs die too, as in a power cut."""
        _check(name)
        self.programs.stop(name, signal.SIGKILL)
        if name in NODES:
            end_all(self.job_processes(name), politely=False)

    def pause(self, name: str) -> None:
        """Make a daemon hang (SIGSTOP)."""
        self._living(name).send(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a daemon that hangs go on (SIGCONT)."""
        self._living(name).send(signal.SIGCONT)

    def status(self) -> dict[str, bool]:
        """Return which daemons live."""
        return {name: self.programs.find(name) is not None for name in self.daemons}

    def mend(self) -> None:
        """Start what was stopped and wake what hangs, so that the next test finds a whole site."""
        for name in self.daemons:
            program = self.programs.find(name)
            if program is None:
                self.start(name)
            else:
                program.send(signal.SIGCONT)
        self.await_nodes()

    def await_nodes(self) -> None:
        """Wait until every node has registered."""
        self.programs.await_ready("slurmctld", self._nodes_ready, 60)

    def job_processes(self, node: str = "") -> list[Program]:
        """Return the programs of this site's jobs: slurmstepd, and what runs under it.

        slurmstepd wipes its environment; the slurmd log that it holds open tells whose it is.
        """
        log = f"{self.layout.folder}/log/slurmd-{node}{'.log' if node else ''}"
        mark = f"SLURM_CONF={self.layout.conf}".encode()
        on_node = f"SLURMD_NODENAME={node}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            if _is_stepd(entry, log) or _is_job(entry, mark, on_node if node else b""):
                found.append(program_of(int(entry.name)))
        return [program for program in found if program is not None]

    def _living(self, name: str) -> Program:
        _check(name)
        program = self.programs.find(name)
        if program is None:
            raise SiteError(f"{name} does not run")
        return program

    def _check_ports(self) -> None:
        for name in self.daemons:
            if name == "munged":
                continue
            port = self.layout.port(name)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    raise SiteError(
                        f"port {port}, for {name}, is in use: another site runs here? Stop it, or "
                        "choose others with HPC_FLOWS_TEST_PORT_BASE=18000 (or --port-base)."
                    )

    def _run(self, argv: Sequence[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            input=stdin,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )

    def _answers(self, *argv: str) -> bool:
        return self._run(argv).returncode == 0

    def _must(self, argv: Sequence[str], stdin: str = "") -> None:
        done = self._run(argv, stdin)
        if done.returncode != 0:
            raise SiteError(f"{' '.join(argv)} failed: {done.stderr}{done.stdout}")

    def _start_munged(self) -> None:
        folder, listens = self.layout.folder, self.layout.socket
        for left in listens.parent.glob("munge.socket*"):
            left.unlink()
        argv = [
            *("munged", "--foreground", "--force", "--num-threads=4"),
            f"--key-file={folder}/etc/munge.key",
            f"--socket={listens}",
            f"--pid-file={folder}/run/munged.own",
            f"--log-file={folder}/log/munged.log",
            f"--seed-file={folder}/etc/munged.seed",
        ]
        self.programs.spawn("munged", argv, self.env)
        ready = partial(self._answers, "munge", "-n", "-S", str(listens))
        self.programs.await_ready("munged", ready, 10)

    def _make_database(self) -> None:
        data = self.layout.folder / "mysql"
        data.mkdir(mode=0o750)
        shutil.chown(data, "mysql")
        self._must(
            [
                *("mariadb-install-db", "--no-defaults", "--force", "--user=mysql"),
                *("--auth-root-authentication-method=socket", "--skip-test-db"),
                *("--skip-name-resolve", "--innodb-log-file-size=16M", f"--datadir={data}"),
            ]
        )

    def _start_mariadb(self) -> None:
        data, log = self.layout.folder / "mysql", self.layout.folder / "log" / "mariadb.log"
        log.touch()
        shutil.chown(log, "mysql")
        argv = [
            *("mariadbd", "--no-defaults", "--user=mysql", "--bind-address=127.0.0.1"),
            f"--datadir={data}",
            f"--socket={self.layout.database_socket}",
            f"--port={self.layout.port('mariadb')}",
            f"--pid-file={data}/own.pid",
            f"--log-error={log}",
            # slurmdbd complains below these; the other two spare the disk, for what is thrown away.
            *("--innodb-lock-wait-timeout=900", "--innodb-buffer-pool-size=128M"),
            *("--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0"),
            *("--skip-name-resolve", "--max-allowed-packet=16M", "--skip-log-bin"),
        ]
        self.programs.spawn("mariadb", argv, self.env)
        self.programs.await_ready("mariadb", lambda: self._sql("select 1").returncode == 0, 60)
        password = (self.layout.folder / "etc" / "db.password").read_text()
        made = self._sql(
            "create database if not exists slurm_acct_db; "
            f"create or replace user slurm@'127.0.0.1' identified by '{password}'; "
            "grant all on slurm_acct_db.* to slurm@'127.0.0.1';"
        )
        if made.returncode != 0:
            raise SiteError(f"the accounting database cannot be made: {made.stderr}")

    def _sql(self, statement: str) -> subprocess.CompletedProcess[str]:
        where = f"--socket={self.layout.database_socket}"
        return self._run(["mariadb", "--no-defaults", where, "-u", "root"], statement)

    def _start_slurmdbd(self) -> None:
        conf = self.layout.folder / "etc" / "slurmdbd.conf"
        env = {**self.env, "SLURM_CONF": str(conf)}
        self.programs.spawn("slurmdbd", ["slurmdbd", "-D"], env)
        ready = partial(self._answers, "sacctmgr", "-n", "-r", "show", "cluster")
        self.programs.await_ready("slurmdbd", ready, 60)
        # slurmctld believes only the associations that it has seen, so they come before it.
        self._make_accounts()

    def _make_accounts(self) -> None:
        ready = self.layout.folder / "state" / "accounts.ready"
        if ready.exists():
            return
        lines = configuration.ACCOUNTS.format(
            user=self.layout.user, other=self.layout.other, cluster=self.layout.cluster
        )
        done = self._run(["sacctmgr", "-i", "-Q"], lines)
        which = f"cluster={self.layout.cluster}"
        shown = self._run(["sacctmgr", "-n", "-P", "show", "assoc", which, "format=user,account"])
        if f"{self.layout.user}|mylab" not in shown.stdout:
            raise SiteError(f"accounts cannot be made: {done.stdout}{done.stderr}{shown.stderr}")
        ready.touch()

    def _start_slurmctld(self) -> None:
        # -i: begin afresh where the state of an earlier run cannot be read.
        self.programs.spawn("slurmctld", ["slurmctld", "-D", "-i"], self.env)
        ready = partial(self._answers, "scontrol", "ping")
        self.programs.await_ready("slurmctld", ready, 60)

    def _start_node(self, name: str) -> None:
        (self.layout.folder / "spool" / name).mkdir(exist_ok=True)
        self.programs.spawn(name, ["slurmd", "-D", "-N", name], self.env)

    def _nodes_ready(self) -> bool:
        shown = self._run(["sinfo", "-h", "-N", "-o", "%N %t"])
        states = [line.split()[-1] for line in shown.stdout.splitlines()]
        good = {"idle", "mix", "alloc", "comp", "resv", "drain", "drng"}
        return shown.returncode == 0 and bool(states) and good.issuperset(states)


def _check(name: str) -> None:
    if name not in DAEMONS:
        raise SiteError(f"there is no daemon {name!r}; there are {', '.join(DAEMONS)}")


def _make_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        subprocess.run(["/usr/sbin/useradd", "-m", "-s", "/bin/bash", name], check=True)


def _is_stepd(entry: Path, log: str) -> bool:
    try:
        if not Path(os.readlink(entry / "exe")).name.startswith("slurmstepd"):
            return False
        opened = [os.readlink(link) for link in (entry / "fd").iterdir()]
    except OSError:
        return False
    return any(path.startswith(log) for path in opened)


def _is_job(entry: Path, mark: bytes, on_node: bytes) -> bool:
    try:
        variables = (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    if mark not in variables or (on_node and on_node not in variables):
        return False
    return any(variable.startswith(b"SLURM_JOB_ID=") for variable in variables)
