"""What is said to Slurm: script headers, argument lists and the environment of its commands.

Pure functions; `slurm_parse` reads the answers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hpc_flows.exceptions import ResourceError
from hpc_flows.resources import MIB, format_walltime
from hpc_flows.settings import PREFIX, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from hpc_flows.resources import Resources
    from hpc_flows.schedulers.base import JobSpec

#: Separator of fields: a name or a reason may hold anything that a person can type.
SEPARATOR = "\x1f"

#: Fields of a poll, in `squeue -O` names: it alone prints exit codes and restart counts. The name
#: stands last because it is the one field that could hold a newline.
QUEUE_FIELDS = (
    "JobArrayID",
    "ArrayTaskID",
    "State",
    "exit_code",
    "RestartCnt",
    "SubmitTime",
    "StartTime",
    "EndTime",
    "Partition",
    "NodeList",
    "Reason",
    "Name",
)

#: Fields of a look into the history. 22.05 has no `Restarts`; one unknown field fails the command.
HISTORY_FIELDS = (
    "JobID",
    "State",
    "ExitCode",
    "Submit",
    "Start",
    "End",
    "ElapsedRaw",
    "NodeList",
    "Partition",
    "MaxRSS",
    "Reason",
    "JobName",
)

#: How far back the history is searched for a token when the caller does not say.
LOOK_BACK = "now-30days"

#: How memory is asked for, by site: see `memory_directive`.
MEMORY_RULES = ("per_node", "per_cpu", "omit")

#: What sbatch's environment keeps of ours when it becomes the job's: who and where the user is, the
#: language, and what makes the `module` command work; no tokens, no settings of other programs.
_CLEAN = frozenset(
    (
        "BASH_ENV HOME LANG LANGUAGE LD_LIBRARY_PATH LOADEDMODULES LOGNAME MAIL MANPATH MODULEPATH "
        "MODULESHOME PATH SHELL SLURM_CONF TMPDIR TZ USER _LMFILES_"
    ).split()
)
_CLEAN_BEGINNINGS = ("BASH_FUNC_", "LC_", "LMOD_", "__LMOD_", "MODULES_")

#: Variables that have a meaning of their own for Slurm's commands.
_OURS = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_", "SRUN_", "SALLOC_")

#: Variables that hold what nobody but the driver may know.
_KEYS = frozenset(
    {PREFIX + name.upper() for name in SECRET} | {"PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"}
)

#: What `#SBATCH` lines take without quotes; `#` would begin a comment, a blank ends the option.
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./~^&|*!()\[\]{}<>?-]*")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

#: An element's id, or an array's or job's.
_ELEMENT = re.compile(r"(?P<array>\d+)_(?P<index>\d+)")


def command_environment(
    inherited: Mapping[str, str], path: Sequence[str] = (), *, times: bool = True
) -> dict[str, str]:
    """Return the environment of a Slurm command.

    `SBATCH_PARTITION` beats a script's `#SBATCH -p`, `SQUEUE_FORMAT` changes what is printed, and
    the `SLURM_*` of a job around us would go on into its children: all of them are left out, the
    site's `SLURM_CONF` excepted. So are keys of servers: with `--export=ALL` they would become the
    job's, which accounting may store, and no job of ours needs them.

    Args:
        inherited: the environment to begin with.
        path: folders to put in front of `PATH`.
        times: whether to ask for epoch seconds; not for sbatch, whose environment may become the
            job's.
    """
    kept = {
        name: value
        for name, value in without_keys(inherited).items()
        if name == "SLURM_CONF" or not name.startswith(_OURS)
    }
    if path:
        kept["PATH"] = ":".join([*path, *filter(None, [kept.get("PATH", "")])])
    if times:
        kept["SLURM_TIME_FORMAT"] = "%s"
    return kept


def without_keys(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without keys of servers, which are for the driver alone."""
    return {name: value for name, value in inherited.items() if name not in _KEYS}


def job_environment(command: Mapping[str, str]) -> dict[str, str]:
    """Return what a job shall inherit of a command's environment when it starts clean.

    The alternative, `--export=NONE`, makes the node fetch the user's login environment (`su -`)
    for every job and array element: measured on 22.05, an array of a small command takes 1.6 times
    as long, and a login script that hangs holds the job.
    """
    return {
        name: value
        for name, value in command.items()
        if name in _CLEAN or name.startswith(_CLEAN_BEGINNINGS)
    }


def directives(spec: JobSpec, memory: str = "per_node", export: str | None = None) -> list[str]:
    """Return the `#SBATCH` lines of a spec.

    Modules, environment and container are the script's body, not its header.

    Args:
        spec: what to ask for.
        memory: one of `MEMORY_RULES`.
        export: value of `--export`; None leaves it out, which is Slurm's `ALL`.

    Raises:
        ResourceError: a value cannot be said in a script's header.
    """
    options = [
        *_identity(spec),
        *_placement(spec.resources),
        *_shape(spec.resources),
        *memory_directive(spec.resources, memory),
        *_relations(spec),
        *([] if export is None else [("--export", export)]),
    ]
    lines = [f"#SBATCH {_option(name, value)}" for name, value in options]
    return lines + [f"#SBATCH {_raw(text)}" for text in spec.resources.extra]


def _identity(spec: JobSpec) -> Iterator[tuple[str, str | None]]:
    yield "--job-name", spec.token
    yield "--output", spec.output
    yield "--chdir", spec.workdir
    # The run after a requeue would cut the first run's lines to nothing.
    yield "--open-mode", "append"


def _placement(resources: Resources) -> Iterator[tuple[str, str | None]]:
    for field in ("partition", "account", "qos", "constraint"):
        value = getattr(resources, field)
        if value is not None:
            yield f"--{field}", str(value)
    if resources.walltime is not None:
        yield "--time", format_walltime(resources.walltime)
    if resources.exclusive:
        yield "--exclusive", None
    if resources.licenses:
        yield "--licenses", ",".join(resources.licenses)


def _shape(resources: Resources) -> Iterator[tuple[str, str | None]]:
    # Said even when it is one: without it, cpus may be taken from several nodes, and some sites
    # refuse a job that does not name its number of tasks.
    nodes, tasks = resources.nodes or 1, resources.tasks_per_node or 1
    yield "--nodes", str(nodes)
    yield "--ntasks", str(nodes * tasks)
    yield "--ntasks-per-node", str(tasks)
    if resources.cpus is not None:
        yield "--cpus-per-task", str(resources.cpus)
    if resources.gpus is not None:
        # Not --gpus, which counts for the whole job and may be spread over its nodes.
        yield "--gres", f"gpu:{resources.gpus}"


def memory_directive(resources: Resources, rule: str) -> list[tuple[str, str | None]]:
    """Return the memory option by the site's rule.

    `per_node` says `--mem`; `per_cpu` says `--mem-per-cpu`, rounded up so that the sum is at least
    what was asked for (DelftBlue); `omit` says nothing, for sites that give whole nodes and refuse
    the option (TACC): there, the placement has checked that the node is large enough.
    """
    if resources.memory is None or rule == "omit":
        return []
    megabytes = -(-resources.memory // MIB)
    if rule == "per_cpu":
        cpus = (resources.cpus or 1) * (resources.tasks_per_node or 1)
        return [("--mem-per-cpu", f"{-(-megabytes // cpus)}M")]
    return [("--mem", f"{megabytes}M")]


def _relations(spec: JobSpec) -> Iterator[tuple[str, str | None]]:
    yield ("--requeue" if spec.requeue else "--no-requeue"), None
    if spec.array is not None:
        yield "--array", spec.array + (f"%{spec.throttle}" if spec.throttle else "")
    if spec.depends_on:
        yield "--dependency", "afterok:" + ":".join(spec.depends_on)
        if spec.kill_on_invalid_dependency:
            # An unmet dependency waits for ever otherwise.
            yield "--kill-on-invalid-dep", "yes"


def _option(name: str, value: str | None) -> str:
    return name if value is None else f"{name}={_quoted(name, value)}"


def _quoted(name: str, value: str) -> str:
    """Quote a value for a `#SBATCH` line, which sbatch reads nearly as a shell would."""
    if _CONTROL.search(value):
        msg = f"{name}={value!r} holds a control character, which a script's header cannot say."
        raise ResourceError(msg)
    if _PLAIN.fullmatch(value):
        return value
    # Inside quotes only the backslash and the quote itself mean something.
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _raw(text: str) -> str:
    name, equals, value = text.partition("=")
    return f"{name}={_quoted(name, value)}" if equals else _checked(text)


def _checked(text: str) -> str:
    if _CONTROL.search(text):
        msg = f"extra={text!r} holds a control character, which a script's header cannot say."
        raise ResourceError(msg)
    return text


def submit_argv(script: str) -> list[str]:
    """Return the command that submits a script, whose header says all the rest."""
    return ["sbatch", "--parsable", script]


def poll_argv(arrays: Iterable[str]) -> list[str]:
    """Return the command that asks the queue about jobs and whole arrays."""
    return [*_squeue(), "-j", ",".join(arrays)]


def find_argv(tokens: Iterable[str]) -> list[str]:
    """Return the command that asks the queue for all jobs of some names."""
    return [*_squeue(), "-n", ",".join(tokens)]


def _squeue() -> list[str]:
    # --me: another user may own a job under a used-again id, with any text as its name.
    # -t all: without it, squeue hides what has ended. -r: one line for each waiting element.
    fields = ",".join(f"{field}:{SEPARATOR}" for field in QUEUE_FIELDS)
    return ["squeue", "-h", "-r", "--me", "-t", "all", "-O", fields]


def history_argv(arrays: Iterable[str]) -> list[str]:
    """Return the command that asks accounting about jobs, with their steps, which hold MaxRSS.

    All records of an id are asked for: the newest may be about a stranger's job, who got it next.
    """
    return [*_sacct(), "--duplicates", "-j", ",".join(arrays)]


def history_find_argv(tokens: Iterable[str], seconds_ago: float | None) -> list[str]:
    """Return the command that asks accounting for all jobs of some names.

    Args:
        tokens: the names.
        seconds_ago: how far back to look; None for `LOOK_BACK`.
    """
    start = LOOK_BACK
    if seconds_ago is not None:
        # Whole minutes and one more: the clock of the scheduler's machine may differ from ours.
        start = f"now-{int(seconds_ago // 60) + 2}minutes"
    return [*_sacct(), f"--name={','.join(tokens)}", "-S", start]


def _sacct() -> list[str]:
    fields = ",".join(HISTORY_FIELDS)
    return ["sacct", "-n", "-P", f"--delimiter={SEPARATOR}", "-o", fields]


def cancel_argv(ids: Sequence[str]) -> list[str]:
    """Return the command that cancels jobs, arrays and elements.

    `351` and `351_3` are arguments of their own; elements of one array become `351_[3-5,7]`.
    """
    return ["scancel", *_ranges(ids)]


def _ranges(ids: Sequence[str]) -> list[str]:
    elements: dict[str, set[int]] = {}
    whole: list[str] = []
    for job in dict.fromkeys(ids):
        found = _ELEMENT.fullmatch(job)
        if found is None:
            whole.append(job)
        else:
            elements.setdefault(found["array"], set()).add(int(found["index"]))
    return whole + [_bracket(array, indexes) for array, indexes in elements.items()]


def _bracket(array: str, indexes: set[int]) -> str:
    text = index_text(indexes)
    return f"{array}_{text}" if len(indexes) == 1 else f"{array}_[{text}]"


def index_text(indexes: Iterable[int]) -> str:
    """Return array indexes as Slurm writes them: `{0, 1, 2, 7}` is `0-2,7`."""
    runs: list[list[int]] = []
    for index in sorted(set(indexes)):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def array_of(job: str) -> str:
    """Return the id of the array that an element is part of; another job's id as it is."""
    return job.partition("_")[0]


def is_element(job: str) -> bool:
    """Tell whether an id is that of an array's element."""
    return _ELEMENT.fullmatch(job) is not None


def batches(ids: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield the arrays and jobs that ids belong to, each once, at most `size` together."""
    arrays = list(dict.fromkeys(array_of(job) for job in ids))
    for start in range(0, len(arrays), size):
        yield arrays[start : start + size]


CONFIG_ARGV = ["scontrol", "show", "config"]
PARTITIONS_ARGV = ["scontrol", "show", "partition", "-o"]
NODES_ARGV = ["scontrol", "show", "node", "-o"]

#: Asks accounting for next to nothing, to learn whether it answers.
PROBE_ARGV = ["sacct", "-X", "-n", "-P", "-S", "now-1minutes", "-o", "JobID"]
