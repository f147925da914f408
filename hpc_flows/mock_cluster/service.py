"""Everything of one mock cluster put together, and the commands that it answers."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import signal
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_flows.mock_cluster import incidents, restore
from hpc_flows.mock_cluster.admission import RefusedError
from hpc_flows.mock_cluster.client.unreachable import (
    CONNECT_FAILURE,
    TIMED_OUT,
    answer_without_controller,
)
from hpc_flows.mock_cluster.clock import Clock, RealClock
from hpc_flows.mock_cluster.cluster import Cluster
from hpc_flows.mock_cluster.controller import Call, Server
from hpc_flows.mock_cluster.dialects import slurm
from hpc_flows.mock_cluster.dialects.slurm.environment import make_plan
from hpc_flows.mock_cluster.dialects.slurm.options import UsageError
from hpc_flows.mock_cluster.dialects.slurm.sbatch import refuse
from hpc_flows.mock_cluster.faults import Fault, Faults
from hpc_flows.mock_cluster.runner import ProcessRunner
from hpc_flows.mock_cluster.sites import SiteError, load_site
from hpc_flows.mock_cluster.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.mock_cluster.job import Job
    from hpc_flows.mock_cluster.sites import Site
    from hpc_flows.mock_cluster.supervisor import Plan


#: Seconds between two looks whether the mock's folder is still there.
_LOOK_AROUND = 60.0


class Service:
    """A running mock cluster: what the handlers of commands are given."""

    def __init__(self, folder: Path, site: Site, clock: Clock) -> None:
        self.folder = folder
        self.log = folder / "controller.log"
        self.site = site
        self.clock = clock
        state = folder / "state"
        state.mkdir(parents=True, exist_ok=True)
        self.store = Store(state / "events.jsonl")
        self.faults = Faults(clock)
        self.runner = ProcessRunner(clock, state / "spool", self._plan)
        self.cluster = Cluster(site, clock, self.store, self.runner, self._lag)
        self.runner.cluster = self.cluster
        self.interactive: dict[int, Callable[[], None]] = {}
        self.runner.on_start = self._interactive_started
        self.cluster.on_start = lambda job: incidents.job_started(self, job)
        self.server = Server(clock, self.answer)
        #: What who starts it should know.
        self.warning = ""

    def now(self) -> float:
        """Return seconds since 1970."""
        return self.clock.now()

    def _interactive_started(self, job: Job) -> None:
        """Tell the srun or salloc that waits for its nodes; it has none after a restart."""
        waiting = self.interactive.pop(job.id, None)
        if waiting is not None:
            self.runner.track(job, adopted=True)
            self.clock.call_in(0.0, waiting)
        else:
            self.clock.call_in(0.0, lambda: self.cluster.finish(job, restore.killed()))

    def _plan(self, job: Job, spool: Path) -> Plan:
        plan = make_plan(self.site, self.folder, job, spool)
        plan.late = job.output_late
        return plan

    def _lag(self) -> float | None:
        """Return the seconds that a post to accounting takes now; None loses it."""
        if self.faults.fire("accounting_loses"):
            return None
        late = self.faults.fire("accounting_late")
        return self.site.timings.dbd_lag + (late.number("seconds", 30.0) if late else 0.0)

    # -- answering

    def answer(self, call: Call) -> None:
        """Answer one command."""
        if call.command == "mock":
            self.guard(call, lambda: self._control(call))
            return
        why, fault = self._absence(call)
        if fault is not None:
            delay = fault.number("delay", self.site.timings.message_timeout)
            self.clock.call_in(delay, lambda: self._refuse(call, why, fault))
            return
        handler = slurm.HANDLERS[call.command]
        self.guard(call, lambda: handler(self, call))

    def _absence(self, call: Call) -> tuple[str, Fault | None]:
        """Return the fault that keeps a command from the controller, if one fires."""
        name = call.command
        if name == "sacct":
            return "", self.faults.fire("refuse", command=name)
        for kind, why in (("controller_down", CONNECT_FAILURE), ("controller_hung", TIMED_OUT)):
            fault = self.faults.fire(kind, command=name)
            if fault is not None:
                return why, fault
        return CONNECT_FAILURE, self.faults.fire("refuse", command=name)

    def _refuse(self, call: Call, why: str, fault: Fault) -> None:
        text = fault.options.get("text")
        if text is not None:
            call.err(f"{text}\n")
            call.finish(int(fault.number("status", 1)))
            return
        out, err, status = answer_without_controller(
            call.command, call.argv, why or CONNECT_FAILURE, self.site.version
        )
        call.out(out)
        call.err(err)
        call.finish(status)

    def guard(self, call: Call, handle: Callable[[], None]) -> None:
        """Run a handler; what it raises becomes the command's stderr and status.

        A bug of the mock ends the one command that met it and leaves a traceback in the log.
        """
        try:
            handle()
        except UsageError as error:
            call.err(error.text)
            call.finish(error.status)
        except RefusedError as refusal:
            refuse(self, call, call.command, refusal)
        except SiteError as error:
            call.err(f"{error}\n")
            call.finish(2)
        except Exception:  # noqa: BLE001 - one command must not end the cluster of all others
            traceback.print_exc()
            call.err(f"{call.command}: error: the mock cluster has a bug; see {self.log}\n")
            call.finish(1)

    # -- control

    def _control(self, call: Call) -> None:
        """Answer the mock's own command: status, faults, stop."""
        verb, *words = call.argv
        if verb == "status":
            call.out(json.dumps(self.status()))
        elif verb == "faults":
            call.out(json.dumps(self._set_faults(words)))
        elif verb == "stop":
            self.stop(keep_jobs="keep-jobs" in words)
        call.finish(0)

    def status(self) -> dict[str, Any]:
        """Return what `mock status` shows."""
        states: dict[str, int] = {}
        for job in self.cluster.jobs.values():
            states[job.state] = states.get(job.state, 0) + max(len(job.waiting), 1)
        return {
            "name": self.folder.name,
            "pid": os.getpid(),
            "site": self.site.name,
            "version": self.site.version,
            "accounting": self.site.accounting,
            "nodes": {name: node.state for name, node in self.cluster.nodes.items()},
            "partitions": list(self.site.partitions),
            "jobs": states,
            "timings": dataclasses.asdict(self.site.timings),
            "faults": self.faults.to_dict()["fault"],
        }

    def _set_faults(self, words: list[str]) -> dict[str, Any]:
        """Show, replace, add or clear faults; return all of them with their counters."""
        verb = words[0] if words else "show"
        if verb == "replace":
            self.faults.replace(json.loads(words[1]))
            for fault in self.faults.entries:
                incidents.arm(self, fault)
        elif verb == "add":
            incidents.arm(self, self.faults.add(json.loads(words[1])))
        elif verb == "clear":
            self.faults.replace({})
        return self.faults.to_dict()

    def stop(self, *, keep_jobs: bool) -> None:
        """End the controller, and its jobs unless they are to live on."""
        if not keep_jobs:
            from hpc_flows.mock_cluster import actions  # noqa: PLC0415 - at the end only

            for job in [job for job in self.cluster.jobs.values() if job.active]:
                actions.cancel(self.cluster, job, 0)
            for job in list(self.cluster.running()):
                self.runner.power_cut(job)
                self.cluster.finish(job, restore.killed())
        self.server.stop()

    def _look_around(self) -> None:
        """End when the folder was removed: nobody could stop the controller any more."""
        if self.folder.is_dir():
            self.clock.call_in(_LOOK_AROUND, self._look_around)
            return
        try:
            self.stop(keep_jobs=False)
        finally:
            self.server.stop()

    def die(self) -> None:
        """Be killed, as by `kill -9`."""
        os.kill(os.getpid(), signal.SIGKILL)

    # -- running

    def serve(self, path: str, ready: Callable[[], None]) -> None:
        """Take up what was left, listen, and answer until stopped."""
        restore.load(self)
        self.faults.on_change = lambda: self.store.write("faults", self.faults.to_dict())
        for fault in self.faults.entries:
            incidents.arm(self, fault)
        self.server.listen(path)
        self.server.on_signal(signal.SIGCHLD, self.runner.reap)
        self.server.on_signal(signal.SIGTERM, self.server.stop)
        gc.collect()
        gc.freeze()
        self.runner.reap()
        self.clock.call_in(_LOOK_AROUND, self._look_around)
        ready()
        self.server.run()
        self.server.close()
        self.store.close()


def make_service(folder: Path, settings: dict[str, Any]) -> Service:
    """Return the service of a mock's folder and the settings that start wrote there.

    Raises:
        SiteError: the profile or a setting cannot be used.
    """
    profile = settings.get("profile")
    site = load_site(Path(profile) if profile else None)
    for name, value in settings.get("site", {}).items():
        setattr(site, name, value)
    known = {**dataclasses.asdict(site.timings), **settings.get("timings", {})}
    site.timings = type(site.timings).from_texts(known)
    return Service(folder, site, RealClock())
