"""From the options of sbatch, srun and salloc to a request."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster.dialects.slurm import words
from hpc_flows.mock_cluster.dialects.slurm.options import Parsed, Parser, UsageError, options_of
from hpc_flows.mock_cluster.hostlist import expand_hosts
from hpc_flows.mock_cluster.job import Request

if TYPE_CHECKING:
    from hpc_flows.mock_cluster.controller import Call

#: Options that decide what a job gets; all three commands know them.
_SHARED = """
account A value
acctg-freq - value
bb - value refused
bbf - value refused
begin b value
bell - flag
chdir D value
cluster-constraint - value refused
clusters M value
comment - value
constraint C value
container - value refused
contiguous - flag refused
core-spec S value refused
cores-per-socket - value refused
cpu-freq - value
cpus-per-gpu - value refused
cpus-per-task c value
deadline - value
delay-boot - value
dependency d value
distribution m value
exclude x value
exclusive - maybe
extra-node-info B value refused
get-user-env - maybe
gid - value refused
gpu-bind - value
gpu-freq - value
gpus G value
gpus-per-node - value
gpus-per-socket - value refused
gpus-per-task - value
gres - value
gres-flags - value
help h flag
hint - value
hold H flag
immediate I maybe refused
job-name J value
licenses L value
mail-type - value
mail-user - value
mcs-label - value
mem - value
mem-bind - value
mem-per-cpu - value
mem-per-gpu - value refused
mincpus - value
network - value
nice - maybe
no-kill k maybe
nodefile F value refused
nodelist w value
nodes N value
ntasks n value
ntasks-per-core - value refused
ntasks-per-gpu - value refused
ntasks-per-node - value
ntasks-per-socket - value refused
overcommit O flag
oversubscribe s flag
partition p value
power - value
prefer - value
priority - value refused
profile - value
qos q value
quiet Q flag
reboot - flag
reservation - value
signal - value
sockets-per-node - value refused
spread-job - flag refused
switches - value refused
thread-spec - value refused
threads-per-core - value refused
time t value
time-min - value refused
tmp - value refused
uid - value
usage - flag
use-min-nodes - flag
verbose v flag
version V flag
wait-all-nodes - value
wckey - value
"""
_SBATCH = """
array a value
batch - value refused
error e value
export - value
export-file - value refused
ignore-pbs - flag
input i value
kill-on-invalid-dep - value
no-requeue - flag
open-mode - value
output o value
parsable - flag
propagate - maybe
requeue - flag
test-only - flag
wait W flag
wrap - value
"""
_SRUN = """
bcast - maybe refused
cpu-bind - value
error e value
exact - flag
export - value
het-group - value refused
input i value
jobid - value
kill-on-bad-exit K maybe
label l flag
mpi - value
multi-prog - flag refused
open-mode - value refused
output o value
overlap - flag
preserve-env E flag refused
pty - maybe refused
relative r value refused
resv-ports - maybe refused
test-only - flag
unbuffered u flag
wait W value
whole - flag
"""
_SALLOC = """
kill-command K maybe refused
no-bell - flag
no-shell - flag refused
wait-all-nodes - value
"""

PARSERS = {
    "sbatch": Parser("sbatch", options_of(_SHARED + _SBATCH), status=255),
    "srun": Parser("srun", options_of(_SHARED + _SRUN), status=255),
    "salloc": Parser("salloc", options_of(_SHARED + _SALLOC), status=255),
}

#: The environment variables of sbatch by the option that each sets.
_VARIABLES = {
    "account": "ACCOUNT",
    "array": "ARRAY_INX",
    "constraint": "CONSTRAINT",
    "comment": "COMMENT",
    "exclusive": "EXCLUSIVE",
    "export": "EXPORT",
    "gpus": "GPUS",
    "gpus-per-node": "GPUS_PER_NODE",
    "gpus-per-task": "GPUS_PER_TASK",
    "gres": "GRES",
    "input": "INPUT",
    "output": "OUTPUT",
    "error": "ERROR",
    "job-name": "JOB_NAME",
    "mem-per-cpu": "MEM_PER_CPU",
    "mem": "MEM_PER_NODE",
    "no-kill": "NO_KILL",
    "no-requeue": "NO_REQUEUE",
    "open-mode": "OPEN_MODE",
    "partition": "PARTITION",
    "qos": "QOS",
    "requeue": "REQUEUE",
    "reservation": "RESERVATION",
    "signal": "SIGNAL",
    "time": "TIMELIMIT",
    "wait": "WAIT",
}
#: Options of which the last source to give one drops the others.
_RIVALS = [{"mem", "mem-per-cpu", "mem-per-gpu"}, {"requeue", "no-requeue"}]


def variables(env: dict[str, str], prefix: str) -> Parsed:
    """Return the options that environment variables such as SBATCH_PARTITION give."""
    found = Parsed()
    for name, suffix in _VARIABLES.items():
        if prefix + suffix in env:
            found.values[name] = env[prefix + suffix]
    return found


def overlay(*sources: Parsed) -> Parsed:
    """Join options of several sources; later ones win."""
    joined = Parsed()
    for source in sources:
        for rivals in _RIVALS:
            if rivals & source.values.keys():
                for name in rivals:
                    joined.values.pop(name, None)
        joined.values.update(source.values)
        joined.operands = source.operands
    return joined


def build(call: Call, command: str, given: Parsed, user: str, now: float) -> Request:
    """Return the request of parsed options.

    Raises:
        UsageError: a value cannot be read; the command itself says so, with 255.
    """
    request = Request("", call.uid, call.gid, user, given.get("partition") or "", None, None)
    builder = _Builder(command, given, request, now)
    builder.identity()
    builder.size()
    builder.memory()
    builder.gpus()
    builder.times()
    builder.place()
    request.workdir = _folder(call.cwd, given.get("chdir"))
    request.umask, request.sid, request.submit_dir = call.umask, call.sid, call.cwd
    return request


def _folder(cwd: str, chdir: str | None) -> str:
    if chdir is None:
        return cwd
    return chdir if chdir.startswith("/") else f"{cwd}/{chdir}"


class _Builder:
    """Fills a request from options, one subject after the other."""

    def __init__(self, command: str, given: Parsed, request: Request, now: float) -> None:
        self._command = command
        self._given = given
        self._request = request
        self._now = now

    def _bad(self, option: str) -> UsageError:
        return UsageError(f"{self._command}: error: Invalid --{option} specification\n", 255)

    def _number(self, option: str) -> int | None:
        text = self._given.get(option)
        if text is None:
            return None
        if not text.isdecimal() or int(text) < 1:
            message = f'{self._command}: error: Invalid numeric value "{text}" for --{option}.\n'
            raise UsageError(message)
        return int(text)

    def _choice(self, option: str, choices: dict[str, bool]) -> bool:
        text = self._given.get(option)
        if text is None:
            return False
        if text.lower() not in choices:
            raise self._bad(option)
        return choices[text.lower()]

    def identity(self) -> None:
        given, request = self._given, self._request
        if given.has("uid") and request.uid != 0:
            raise UsageError(f"{self._command}: error: --uid only permitted by root user\n", 255)
        request.account, request.qos = given.get("account"), given.get("qos")
        request.comment, request.licenses = given.get("comment"), given.get("licenses") or ""
        request.reservation = given.get("reservation") or ""
        request.dependency = given.get("dependency") or ""
        request.kill_invalid = self._choice("kill-on-invalid-dep", {"yes": True, "no": False})
        request.hold = given.has("hold")
        request.no_kill = given.has("no-kill") and given.get("no-kill") != "off"
        nice = given.get("nice")
        if nice is not None and not re.match(r"^(-?\d+)?$", nice):
            raise self._bad("nice")
        if nice is not None:
            request.nice = int(nice or 100)
        request.array = given.get("array")
        request.export = given.get("export")
        modes = {"a": True, "append": True, "t": False, "truncate": False}
        request.append = self._choice("open-mode", modes)
        request.stdout, request.stderr = given.get("output"), given.get("error")
        request.stdin = given.get("input") or "/dev/null"
        request.exclusive = given.has("exclusive")

    def size(self) -> None:
        given, request = self._given, self._request
        tasks, cpus = self._number("ntasks"), self._number("cpus-per-task")
        request.asked_tasks, request.asked_cpus = tasks is not None, cpus is not None
        request.cpus_per_task = cpus or 1
        request.tasks_per_node = self._number("ntasks-per-node")
        nodes = given.get("nodes")
        if nodes is not None:
            self._nodes(nodes)
        request.ntasks = tasks or (request.tasks_per_node or 1) * request.min_nodes
        if request.tasks_per_node and nodes is None:
            request.min_nodes = -(-request.ntasks // request.tasks_per_node)
        mincpus = self._number("mincpus")
        if mincpus and request.ntasks == 1:
            request.cpus_per_task = max(mincpus, request.cpus_per_task)

    def _nodes(self, text: str) -> None:
        match = re.match(r"^(\d+)(?:-(\d+))?$", text)
        if match is None:
            message = f'{self._command}: error: "{text}" is not a valid node count\n'
            raise UsageError(message, 255)
        least, most = int(match[1]), int(match[2] or match[1])
        if most < least:
            text = f"Maximum node count {most} is less than minimum node count {least}"
            raise UsageError(f"{self._command}: error: {text}\n", 255)
        request = self._request
        request.asked_nodes = least > 0
        request.min_nodes, request.max_nodes = max(least, 1), most or None

    def memory(self) -> None:
        if {"mem", "mem-per-cpu"} <= self._given.values.keys():
            rivals = "--mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive."
            raise UsageError(f"{self._command}: fatal: {rivals}\n")
        for option, name in (("mem", "mem_per_node"), ("mem-per-cpu", "mem_per_cpu")):
            text = self._given.get(option)
            if text is None:
                continue
            amount = words.parse_memory(text)
            if amount is None:
                raise self._bad(option)
            setattr(self._request, name, amount)

    def gpus(self) -> None:
        request, given = self._request, self._given
        texts = []
        for part in given.listed("gres"):
            if not re.match(r"^gpu(:[A-Za-z][\w.-]*|:\d[\w.]*[A-Za-z][\w.]*)?(:\d+)?$", part):
                text = f"{self._command}: error: Invalid generic resource (gres) specification\n"
                raise UsageError(text, 1)
            texts.append(part.removeprefix("gpu").removeprefix(":") or "1")
        request.gres_text = f"gres:{given.get('gres')}" if texts else ""
        for text in [*texts, *given.listed("gpus-per-node")]:
            _add_gpus(request.gpus_per_node, text)
        for text in given.listed("gpus"):
            _add_gpus(request.gpus_total, text)
        for text in given.listed("gpus-per-task"):
            for _ in range(request.ntasks):
                _add_gpus(request.gpus_total, text)
        if request.gpus_total and request.min_nodes > 1:
            for kind, count in request.gpus_total.items():
                request.gpus_per_node[kind] = -(-count // request.min_nodes)

    def times(self) -> None:
        given, request = self._given, self._request
        limit = given.get("time")
        if limit is not None:
            request.time_limit = words.parse_limit(limit)
            if request.time_limit is None:
                raise self._bad("time")
            if request.time_limit == words.UNLIMITED:
                request.time_limit = 365 * 1440
        request.begin = self._when("begin")
        request.deadline = self._when("deadline")
        if given.has("signal"):
            request.signal = self._signal(given.get("signal") or "")

    def _when(self, option: str) -> float | None:
        text = self._given.get(option)
        if text is None:
            return None
        when = words.parse_time(text, self._now)
        if when is None:
            line = f"Invalid time specification (pos=0): {text}\n"
            raise UsageError(f"{line}{self._bad(option).text}", 255)
        return when

    def _signal(self, text: str) -> tuple[int, float, bool]:
        match = re.match(r"^(?:([BR]):)?(\w+)(?:@(\d+))?$", text)
        number = signal_number(match[2]) if match else None
        if match is None or number is None:
            raise self._bad("signal")
        return number, float(match[3] or 60), match[1] == "B"

    def place(self) -> None:
        given, request = self._given, self._request
        request.features = given.get("constraint") or ""
        try:
            request.nodelist = tuple(expand_hosts(given.get("nodelist") or ""))
            request.exclude = tuple(expand_hosts(given.get("exclude") or ""))
        except ValueError:
            raise self._bad("nodelist") from None


def _add_gpus(wanted: dict[str, int], text: str) -> None:
    """Add `a100:2`, `2` or `a100` to what is wanted by type."""
    kind, _, number = text.rpartition(":")
    if not number.isdecimal():
        kind, number = text, "1"
    wanted[kind] = wanted.get(kind, 0) + int(number)


def signal_number(text: str) -> int | None:
    """Return the number of `USR1`, `SIGUSR1` or `10`, or None."""
    if text.isdecimal():
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    found = getattr(signal, name, None)
    return int(found) if isinstance(found, signal.Signals) else None
