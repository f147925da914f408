"""What a task asks of a cluster: the fields, their units, and how requests are merged.

Every job loads this module, so it imports nothing: values are read by hand instead of with `re`,
and the class has slots instead of being a dataclass. Units are Slurm's: `16GB` = `16G` = `16GiB`;
a bare number in a text is megabytes or minutes, while an int is bytes or seconds.
"""

from __future__ import annotations

from hpc_flows.exceptions import ResourceError, close_match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta
    from typing import Any, Never

#: The fields of a request, in the order in which they are described.
FIELDS: tuple[str, ...] = (
    *("cpus", "memory", "gpus", "walltime", "nodes", "tasks_per_node"),
    *("partition", "account", "qos", "constraint", "exclusive", "licenses"),
    *("modules", "environment", "container", "extra"),
)

KIB = 1024
MIB = 1024**2

_MEMORY_UNITS = {
    **{k + b: KIB**power for power, k in enumerate("KMGTP", 1) for b in ("", "B", "IB")},
    "B": 1,
    "": MIB,
}

_TIME_UNITS = {
    **dict.fromkeys("s sec secs second seconds".split(), 1),
    **dict.fromkeys("m min mins minute minutes".split(), 60),
    **dict.fromkeys("h hr hrs hour hours".split(), 3600),
    **dict.fromkeys("d day days".split(), 86400),
    **dict.fromkeys("w week weeks".split(), 604800),
}

_SET = "hpc_flows decides it"

#: Scheduler options that hpc_flows writes itself, and what to use instead of them in `extra`.
#: sbatch also takes the beginning of a long option's name, so beginnings are refused as well.
_OURS = {
    option: instead
    for options, instead in (
        ("--cpus-per-task -c", "use cpus="),
        ("--mem --mem-per-cpu --mem-per-gpu", "use memory="),
        ("--gpus -G --gpus-per-node --gpus-per-task --gpus-per-socket", "use gpus="),
        ("--time -t", "use walltime="),
        ("--nodes -N", "use nodes="),
        ("--ntasks-per-node --ntasks -n", "use nodes= and tasks_per_node="),
        ("--partition -p --account -A --qos -q --constraint -C", "use the field of that name"),
        ("--exclusive --licenses -L", "use the field of that name"),
        ("--export --export-file", "use environment="),
        ("--array -a", "use task.map()"),
        ("--dependency -d", "give the other task's future to this task"),
        ("--job-name -J --output -o --error -e --input -i --open-mode --chdir -D", _SET),
        ("--requeue --no-requeue --kill-on-invalid-dep --parsable --wrap --wait -W", _SET),
        ("--test-only --clusters -M", _SET),
    )
    for option in options.split()
}


class Resources:
    """What a task asks of a cluster. It does not change; `merged` makes another one.

    Attributes:
        cpus: CPUs per task; None when not asked for, as all that follow.
        memory: bytes per node, in whole MiB (a part of one counts as one, as in Slurm).
        gpus: GPUs per node, `"2"` or with their type `"a100:2"`.
        walltime: seconds.
        nodes: number of nodes.
        tasks_per_node: processes that are started on each node.
        partition: partition or queue.
        account: account or allocation that is charged.
        qos: quality of service.
        constraint: node features, in the scheduler's own syntax.
        exclusive: True for nodes that are not shared.
        licenses: names, with `:count` where more than one is needed; empty when not asked for.
        modules: environment modules that the job loads.
        environment: variables of the job.
        container: image in which the task runs.
        extra: raw options for the scheduler, such as `--reservation=x`.

    Raises:
        ResourceError: a value cannot be read, or there is no such field.
    """

    __slots__ = ("_environment", *(name for name in FIELDS if name != "environment"))

    cpus: int | None
    memory: int | None
    gpus: str | None
    walltime: int | None
    nodes: int | None
    tasks_per_node: int | None
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    exclusive: bool | None
    licenses: tuple[str, ...]
    modules: tuple[str, ...]
    container: str | None
    extra: tuple[str, ...]
    _environment: tuple[tuple[str, str], ...]

    def __init__(  # noqa: PLR0913 - the fields of a request are named at every call
        self,
        *,
        cpus: int | str | None = None,
        memory: int | str | None = None,
        gpus: int | str | None = None,
        walltime: float | str | timedelta | None = None,
        nodes: int | str | None = None,
        tasks_per_node: int | str | None = None,
        partition: str | None = None,
        account: str | int | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        exclusive: bool | None = None,
        licenses: str | Iterable[str] | None = None,
        modules: str | Iterable[str] | None = None,
        environment: Mapping[str, str | int | float] | None = None,
        container: str | None = None,
        extra: str | Iterable[str] | None = None,
        **unknown: Never,
    ) -> None:
        for name in unknown:
            known = f"The resources are {', '.join(FIELDS)}."
            raise ResourceError(
                f"There is no resource {name!r}.{close_match(name, FIELDS)} {known}"
            )
        put = object.__setattr__
        put(self, "cpus", _count("cpus", cpus))
        put(self, "memory", None if memory is None else parse_memory(memory))
        put(self, "gpus", None if gpus is None else parse_gpus(gpus))
        put(self, "walltime", None if walltime is None else parse_walltime(walltime))
        put(self, "nodes", _count("nodes", nodes))
        put(self, "tasks_per_node", _count("tasks_per_node", tasks_per_node))
        put(self, "partition", _word("partition", partition))
        put(self, "account", _word("account", account))
        put(self, "qos", _word("qos", qos))
        put(self, "constraint", _word("constraint", constraint))
        put(self, "exclusive", _flag("exclusive", exclusive))
        put(self, "licenses", _names("licenses", licenses))
        put(self, "modules", _names("modules", modules))
        put(self, "_environment", _variables(environment))
        put(self, "container", _word("container", container))
        put(self, "extra", _options(extra))

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the job, as a new dict."""
        return dict(self._environment)

    @property
    def gpu_count(self) -> int:
        """How many GPUs each node needs; 0 for none."""
        return int(self.gpus.rpartition(":")[2]) if self.gpus else 0

    @property
    def gpu_type(self) -> str | None:
        """The type of the GPUs, such as `a100`, or None when any will do."""
        return (self.gpus or "").rpartition(":")[0] or None

    @classmethod
    def of(cls, value: Resources | Mapping[str, Any] | None) -> Resources | None:
        """Return a request for what a user gave: one as it is, a mapping of fields, or None.

        Raises:
            ResourceError: the value is something else, or one of its fields is wrong.
        """
        if value is None or isinstance(value, cls):
            return value
        if not hasattr(value, "keys"):
            raise _unreadable("resources", value, "it is no request")
        return cls.from_dict(value)  # type: ignore[arg-type] # "keys" makes it a mapping

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Resources:
        """Return the request that `to_dict` wrote, or that a person wrote in a file.

        Raises:
            ResourceError: a field is unknown or wrong.
        """
        return cls(**{str(name): fields[name] for name in fields})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, JSON-safe; memory in bytes, walltime in seconds."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self._set_fields().items()
        }

    def merged(self, other: Resources | Mapping[str, Any] | None) -> Resources:
        """Return this request overlaid with another, whose fields win where they are set.

        `environment` is merged variable by variable; every other field is taken as a whole.
        """
        over = Resources.of(other)
        if over is None or over.is_empty():
            return self
        fields = {**self._set_fields(), **over._set_fields()}  # noqa: SLF001 - of our own class
        if "environment" in fields:
            fields["environment"] = {**self.environment, **over.environment}
        return Resources(**fields)

    def is_empty(self) -> bool:
        """Tell whether nothing is asked for."""
        return not self._set_fields()

    def describe(self) -> str:
        """Return the request in one line for people, such as `8 cpus, 32G, a100:1, 2:00:00`."""
        parts = [_DESCRIBED[name](value) for name, value in self._set_fields().items()]
        return ", ".join(parts) or "no resources"

    def _set_fields(self) -> dict[str, Any]:
        values = ((name, getattr(self, name)) for name in FIELDS)
        return {name: v for name, v in values if v is not None and v not in ((), {})}

    def _key(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.__slots__])

    def __setattr__(self, name: str, value: object) -> None:
        msg = f"A request does not change; use .merged({{{name!r}: ...}}) to make another one."
        raise AttributeError(msg)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Resources):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return Resources.from_dict, (self.to_dict(),)

    def __repr__(self) -> str:
        shown: dict[str, Any] = {"memory": format_memory, "walltime": format_walltime}
        shown["environment"] = lambda them: dict.fromkeys(them, "********")  # may be secrets
        parts = [f"{k}={shown[k](v) if k in shown else v!r}" for k, v in self._set_fields().items()]
        return f"Resources({', '.join(parts)})"


def parse_memory(value: int | str) -> int:
    """Return bytes, in whole MiB, for `"16GB"`, `"16G"`, `"4000"` (MB, as in Slurm) or an int.

    Units are K, M, G, T and P, powers of 1024; `B` and `iB` may follow. An int is bytes.

    Raises:
        ResourceError: it cannot be read, or is less than one MiB.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _unreadable("memory", value, "it is neither text nor a number of bytes")
    number, unit = (value, "B") if isinstance(value, int) else _split(value.strip())
    factor = _MEMORY_UNITS.get(unit.strip().upper())
    if factor is None:
        raise _unreadable("memory", value, f"{unit.strip()!r} is not a unit of memory")
    amount = _scaled("memory", value, str(number), factor)
    if amount < MIB:
        raise _unreadable("memory", value, f"{amount} bytes is less than one megabyte")
    return -(-amount // MIB) * MIB


def format_memory(size: int) -> str:
    """Return bytes as Slurm reads them, in the largest unit that is exact: `32G`, `1500M`.

    A part of a MiB counts as a whole one.
    """
    mebibytes = -(-size // MIB)
    for unit in "MGT":
        if mebibytes % KIB or unit == "T":
            break
        mebibytes //= KIB
    return f"{mebibytes}{unit}"


def parse_walltime(value: float | str | timedelta) -> int:
    """Return seconds for `"2h"`, `"1h30m"`, `"HH:MM:SS"`, `"1-00:00:00"`, an int or a timedelta.

    A number is seconds. A text has units (`s`, `m`, `h`, `d`, `w` or their names), or is Slurm's
    `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`, or minutes without a unit.

    Raises:
        ResourceError: it cannot be read, or is not longer than zero.
    """
    seconds = _clock_of(value) if isinstance(value, str) else _seconds_of(value)
    if seconds <= 0:
        raise _unreadable("walltime", value, "it must be longer than zero")
    return seconds


def _seconds_of(value: object) -> int:
    # A timedelta is known by its method: importing datetime costs a job more than a millisecond.
    total = getattr(value, "total_seconds", None)
    number = total() if total is not None else value
    # A number less itself is zero, except for NaN and infinity.
    if isinstance(number, bool) or not isinstance(number, int | float) or number - number != 0:
        raise _unreadable("walltime", value, "it is no length of time")
    return int(-(-number // 1))


def _clock_of(value: str) -> int:
    text = value.strip().lower()
    if _is_digits(text):
        return int(text) * 60
    if ":" in text or "-" in text[1:]:
        return _slurm_clock(value, text)
    return _sum_of_units(value, text)


def _slurm_clock(value: str, text: str) -> int:
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if len(parts) > 3 or not all(_is_digits(part) for part in (*parts, days or "0")):  # noqa: PLR2004 - hours, minutes, seconds
        raise _unreadable("walltime", value, "it is not [days-]hours:minutes:seconds")
    numbers = [int(part) for part in parts]
    if dash or len(numbers) == 3:  # noqa: PLR2004 - hours, minutes, seconds
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    else:
        hours, (minutes, seconds) = 0, numbers
    return int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds


def _sum_of_units(value: str, text: str) -> int:
    total, rest = 0, text
    while rest:
        number, rest = _split(rest)
        if not number:
            raise _unreadable("walltime", value, f"{rest!r} is not a number")
        rest = rest.lstrip()
        unit = rest[: next((i for i, c in enumerate(rest) if not c.isalpha()), len(rest))]
        if unit not in _TIME_UNITS:
            raise _unreadable("walltime", value, f"{unit or rest!r} is not a unit of time")
        total += _scaled("walltime", value, number, _TIME_UNITS[unit])
        rest = rest[len(unit) :].lstrip()
    return total


def format_walltime(seconds: int) -> str:
    """Return seconds as Slurm reads them: `02:00:00`, or `1-00:00:00` from a day on."""
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def parse_gpus(value: int | str) -> str:
    """Return `"2"` or `"a100:2"` for `2`, `"2"`, `"a100"`, `"a100:2"` or Slurm's `"gpu:a100:2"`.

    Raises:
        ResourceError: it cannot be read, or asks for none.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _unreadable("gpus", value, "it is neither a number nor text")
    text = str(value).strip().removeprefix("gpu:")
    kind, colon, number = text.rpartition(":")
    if not _is_digits(number):
        kind, colon, number = text, ":", "1"
    plain = kind.replace("_", "").replace(".", "").replace("-", "")
    if colon and not (kind[:1].isalnum() and plain.isascii() and plain.isalnum()):
        raise _unreadable("gpus", value, f"{kind!r} is no type of GPU")
    if int(number) < 1:
        raise _unreadable("gpus", value, "it does not ask for one or more")
    return f"{kind}:{int(number)}" if kind else str(int(number))


_HINTS = {
    "resources": "Write Resources(cpus=4, memory='8GB'), or a dict of those fields.",
    "memory": "Write for example memory='32GB'.",
    "gpus": "Write for example gpus=2 or gpus='a100:2', and leave it out for none.",
    "walltime": "Write for example walltime='2h', '90m', '1-12:00:00' or timedelta(hours=2).",
    **dict.fromkeys(("cpus", "nodes", "tasks_per_node"), "Write for example 4, or leave it out."),
    "exclusive": "Write exclusive=True.",
    **dict.fromkeys(("licenses", "modules"), "Write for example ['one', 'two']."),
    "environment": "Write for example environment={'OMP_NUM_THREADS': '4'}.",
    "extra": "Write for example extra=['--reservation=course'].",
}


def _unreadable(field: str, value: object, why: str) -> ResourceError:
    hint = _HINTS.get(field, f"Write for example {field}='name'.")
    return ResourceError(f"{field}={value!r} cannot be used: {why}. {hint}")


def _is_digits(text: str) -> bool:
    # int() of thousands of digits fails in words of its own; no amount has that many.
    return text.isascii() and text[:20].isdigit() and not text[20:]


def _split(text: str) -> tuple[str, str]:
    """Split a text behind the number that it begins with."""
    end = next((i for i, c in enumerate(text) if c not in "0123456789."), len(text))
    return text[:end], text[end:]


def _scaled(field: str, value: object, number: str, factor: int) -> int:
    """Multiply without floats, which would lose bytes; a part of a unit is rounded up."""
    whole, _, part = number.partition(".")
    if not _is_digits(whole + part):
        raise _unreadable(field, value, "it does not begin with a positive number")
    return int(-(-int(whole + part) * factor // 10 ** len(part)))


def _count(field: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and _is_digits(value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _unreadable(field, value, "it is not a whole number of 1 or more")
    return value


def _flag(field: str, value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise _unreadable(field, value, "it is neither True nor False")


def _word(field: str, value: object) -> str | None:
    if value is None:
        return None
    # Accounts are numbers at some sites, and files of settings give them as such.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    # These words end up in the script's header, where a quote or line's end begins something else.
    plain = isinstance(value, str) and value.isprintable() and not set(value) & set(" \"'\\`")
    if not plain or not value:
        why = "it is not one word of text without blanks, quotes or backslashes"
        raise _unreadable(field, value, why)
    return str(value)


def _names(field: str, value: str | Iterable[str] | None) -> tuple[str, ...]:
    items = value.replace(",", " ").split() if isinstance(value, str) else _listed(field, value)
    return tuple([_word(field, item) or "" for item in items])


def _listed(field: str, value: object) -> tuple[Any, ...]:
    if value is None or isinstance(value, list | tuple):
        return tuple(value or ())
    raise _unreadable(field, value, "it is neither text nor a list of texts")


def _variables(value: Mapping[str, str | float] | None) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    if not hasattr(value, "items"):
        raise _unreadable("environment", value, "it is not a mapping of names to texts")
    for name, text in value.items():
        if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
            raise _unreadable("environment", name, "it cannot be a variable's name")
        if isinstance(text, bool) or not isinstance(text, str | int | float) or "\0" in str(text):
            raise _unreadable("environment", {name: text}, "the value is not text")
    return tuple(sorted((name, str(text)) for name, text in value.items()))


def _options(value: str | Iterable[str] | None) -> tuple[str, ...]:
    options = (value,) if isinstance(value, str) else _listed("extra", value)
    for option in options:
        _check_option(option)
    return options


def _check_option(option: object) -> None:
    if not isinstance(option, str) or not option.isprintable() or not option.strip("-"):
        raise _unreadable("extra", option, "it is not one line of text")
    if not option.startswith("-"):
        raise _unreadable("extra", option, "an option begins with a dash")
    name = option.replace("=", " ").split()[0] if option.startswith("--") else option[:2]
    for ours, instead in _OURS.items():
        if ours == name or (name.startswith("--") and ours.startswith(name)):
            raise _unreadable("extra", option, f"{ours} is not for it; {instead}")


def _plural(word: str) -> Any:
    return lambda n: f"{n} {word}" if n == 1 else f"{n} {word}s"


_DESCRIBED: dict[str, Any] = {
    "cpus": _plural("cpu"),
    "memory": format_memory,
    "gpus": lambda v: v if ":" in v else _plural("gpu")(int(v)),
    "walltime": lambda v: format_walltime(v).removeprefix("0"),
    "nodes": _plural("node"),
    "tasks_per_node": lambda v: f"{_plural('task')(v)} per node",
    "exclusive": lambda v: "exclusive" if v else "shared",
    "extra": " ".join,
    **{
        name: lambda v, name=name: f"{name} {v if isinstance(v, str) else ','.join(v)}"
        for name in (*FIELDS[6:10], "licenses", "modules", "environment", "container")
    },
}
