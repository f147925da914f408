"""Flow runs and task runs: their ids, their names, and what they were called with."""

from __future__ import annotations

import time
from _operator import attrgetter
from os import register_at_fork, urandom

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from hpc_flows.resources import Resources
    from hpc_flows.states import State, StateType

_ADJECTIVES = (
    "able amber agile bold brave bright brisk busy calm careful cheery clever cosmic cosy daring "
    "eager early fair fancy fearless fine fluffy fond free fresh gentle glad golden grand happy "
    "hardy honest humble jolly keen kind lively loyal lucky mellow merry mighty mild modest neat "
    "nimble noble patient placid polite proud quick quiet rapid rare ready rosy shiny silent "
    "silver smart snug solid spry steady sunny swift tidy upbeat valiant vivid warm wise witty "
    "zealous"
).split()
_ANIMALS = (
    "badger bat bear beaver bee bison bobcat camel cat crane crow deer dingo dog dolphin dove "
    "duck eagle eel elk falcon ferret finch fox frog gecko goat goose gopher hare hawk hedgehog "
    "heron hippo horse ibex jackal jaguar jay kestrel kiwi koala lark lemur lion lizard llama lynx "
    "magpie marmot marten mole moose mouse mule newt ocelot octopus okapi orca oriole osprey otter "
    "owl panda panther parrot pelican penguin pigeon pony puffin quail rabbit raven robin salmon "
    "seal shark sheep skunk sloth snail sparrow squid stork swan tapir tiger toad toucan trout "
    "turtle walrus wasp weasel whale wolf wombat wren yak zebra"
).split()


#: Random texts of 32 hexadecimal digits, each of which is given out once; a hundred cost hardly
#: more than one to ask for. To take one from a list is one step, also beside other threads.
_pool: list[str] = []


def _fill_pool() -> None:
    drawn = urandom(1600).hex()
    _pool.extend([drawn[start : start + 32] for start in range(0, len(drawn), 32)])


# A forked child leaves those that are left to its parent.
register_at_fork(after_in_child=_pool.clear)

#: The digit of an id that says, in its two highest bits, how the others are to be read.
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


def new_id() -> str:
    """Return a new random identifier, as the text of a version 4 UUID.

    The uuid module is not used: it costs 4 ms to import, which every job would pay.
    """
    while True:
        try:
            text = _pool.pop()
        except IndexError:
            _fill_pool()
        else:
            break
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"


def short(run_id: str) -> str:
    """Return the first eight characters of an id, which people can read out and type."""
    return run_id[:8]


def flow_run_name() -> str:
    """Return a random name for a flow run that people can remember, such as `merry-fox`."""
    number = int.from_bytes(urandom(4), "big")
    adjective = _ADJECTIVES[number % len(_ADJECTIVES)]
    animal = _ANIMALS[number // len(_ADJECTIVES) % len(_ANIMALS)]
    return f"{adjective}-{animal}"


class FlowRun:
    """One execution of a flow.

    Attributes:
        id: UUID text.
        name: what people call it, such as `merry-fox`.
        flow_name: the flow's name.
        parameters: the values that the flow was called with, by parameter name.
        tags: sorted, without repeats.
        parent_flow_run_id: the flow run that called this one, or None.
        parent_task_run_id: the task run inside of which this one was called, or None.
        root_id: id of the outermost run, whose directory and journal this run shares.
        run_count: how often its code has been started.
        state: the newest state, or None.
        created: seconds since 1970.
    """

    __slots__ = (
        "created",
        "flow_name",
        "id",
        "name",
        "parameters",
        "parent_flow_run_id",
        "parent_task_run_id",
        "root_id",
        "run_count",
        "state",
        "tags",
    )

    def __init__(
        self,
        flow_name: str,
        name: str | None = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        tags: tuple[str, ...] = (),
        parent: FlowRun | None = None,
        parent_task_run_id: str | None = None,
        root_id: str | None = None,
    ) -> None:
        self.id = new_id()
        self.name = name or flow_run_name()
        self.flow_name = flow_name
        self.parameters: dict[str, Any] = dict(parameters or {})
        self.tags = tags
        self.parent_flow_run_id = parent.id if parent is not None else None
        self.parent_task_run_id = parent_task_run_id
        self.root_id = root_id or self.id
        self.run_count = 0
        self.state: State | None = None
        self.created = time.time()

    def __repr__(self) -> str:
        return f"FlowRun(id={self.id!r}, name={self.name!r}, flow_name={self.flow_name!r})"

    @property
    def state_name(self) -> str | None:
        """The newest state's name, such as `Retrying`, or None."""
        return None if self.state is None else self.state.name

    @property
    def state_type(self) -> StateType | None:
        """The newest state's type, or None."""
        return None if self.state is None else self.state.type


class TaskRun:
    """One execution of a task.

    Attributes:
        id: UUID text.
        name: what people call it, such as `add-fe8`.
        task_name: the task's name.
        task_key: tells tasks of the same name in different modules apart.
        flow_run_id: the flow run that it belongs to, or None outside of flows.
        tags: sorted, without repeats.
        upstream: ids of the task runs whose futures it was given.
        resources: what it asks for, or None.
        map_index: its place in a `map`, or None.
        run_count: how often its code has been started.
        state: the newest state, or None.
        created: seconds since 1970.
        parameters: the values that it was called with, by parameter name, where they are known.
        cache_key: names its result for other runs, where that was found out, or None.
        callers: ids of the task runs in whose code it was called, each in the one before; they
            cannot go on before it ends.
        slots: path and token of the leases that its driver holds for it, for its job to adopt.
    """

    __slots__ = (
        "cache_key",
        "callers",
        "created",
        "flow_run_id",
        "id",
        "map_index",
        "name",
        "parameters",
        "resources",
        "run_count",
        "slots",
        "state",
        "tags",
        "task_key",
        "task_name",
        "upstream",
    )

    def __init__(
        self,
        task_name: str,
        task_key: str,
        name: str | None = None,
        *,
        flow_run_id: str | None = None,
        tags: tuple[str, ...] = (),
        upstream: tuple[str, ...] = (),
        resources: Resources | None = None,
        map_index: int | None = None,
    ) -> None:
        self.id = new_id()
        self.name = name or f"{task_name}-{self.id[:3]}"
        self.task_name = task_name
        self.task_key = task_key
        self.flow_run_id = flow_run_id
        self.tags = tags
        self.upstream = upstream
        self.resources = resources
        self.map_index = map_index
        self.run_count = 0
        self.state: State | None = None
        self.created = time.time()
        self.parameters: dict[str, Any] = {}
        self.cache_key: str | None = None
        self.callers: tuple[str, ...] = ()
        self.slots: tuple[tuple[str, str], ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the values without their names: every call of a process pool sends a run."""
        return _restore, _values_of(self)

    def __repr__(self) -> str:
        return f"TaskRun(id={self.id!r}, name={self.name!r}, task_name={self.task_name!r})"

    @property
    def state_name(self) -> str | None:
        """The newest state's name, such as `Retrying`, or None."""
        return None if self.state is None else self.state.name

    @property
    def state_type(self) -> StateType | None:
        """The newest state's type, or None."""
        return None if self.state is None else self.state.type


_values_of = attrgetter(*TaskRun.__slots__)


def _restore(*values: Any) -> TaskRun:
    run = TaskRun.__new__(TaskRun)
    for name, value in zip(TaskRun.__slots__, values, strict=True):
        setattr(run, name, value)
    return run
