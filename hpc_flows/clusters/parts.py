"""The smaller parts of a cluster's description; times in seconds unless a name says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date


@dataclass(frozen=True, slots=True)
class Limits:
    """What the site lets one user submit; None is "not said".

    Attributes:
        max_array_size: elements that one array may have (largest index + 1).
        max_submitted: jobs and array elements that a user may have in the queue.
        submit_burst: submissions that may follow each other at once.
        submit_per_minute: submissions a minute after that.
    """

    max_array_size: int | None = None
    max_submitted: int | None = None
    submit_burst: int = 20
    submit_per_minute: float = 60.0


@dataclass(frozen=True, slots=True)
class Poll:
    """How often the scheduler is asked.

    Attributes:
        first: until the first question after a submission.
        interval: between questions while jobs change.
        slowest: between questions while nothing changes.
        history: least time between two questions to accounting, which are dear at many sites.
    """

    first: float = 5.0
    interval: float = 30.0
    slowest: float = 120.0
    history: float = 60.0


@dataclass(frozen=True, slots=True)
class Grace:
    """How long something may be absent before its absence means anything.

    Attributes:
        file_system: until a file written on a node must be visible where the flow runs; shared
            file systems cache folders for up to a minute, and some for longer.
        accounting: until accounting must know a job that has ended.
        lost: until a job that neither queue nor accounting knows counts as lost.
    """

    file_system: float = 120.0
    accounting: float = 120.0
    lost: float = 300.0


@dataclass(frozen=True, slots=True)
class Login:
    """Where people log in.

    Attributes:
        hosts: names of login nodes.
        retired_hosts: names that old notes still give and that no longer work.
        network: what the way there needs, in words.
        keepalive: seconds between signs of life, where the site ends quiet connections.
    """

    hosts: tuple[str, ...] = ()
    retired_hosts: tuple[str, ...] = ()
    network: str | None = None
    keepalive: float | None = None


@dataclass(frozen=True, slots=True)
class Storage:
    """Where files live, and which of them the site deletes.

    Attributes:
        home, scratch, project: paths with `$USER` and the like not filled in.
        purged: paths below which the site deletes files that were not used for long.
        purge_days: how many days that is.
    """

    home: str | None = None
    scratch: str | None = None
    project: str | None = None
    purged: tuple[str, ...] = ()
    purge_days: int | None = None


@dataclass(frozen=True, slots=True)
class Policies:
    """House rules that no scheduler limit expresses.

    Attributes:
        gpu_idle_hours: jobs whose GPUs do nothing for that long are killed.
        login_minutes: how long a process may work on a login node.
        login_processes: how many processes may work there.
        short_job_minutes: jobs shorter than this should be grouped.
        memory_charged_as_cpus: memory above a CPU's share is charged as further CPUs.
    """

    gpu_idle_hours: float | None = None
    login_minutes: float | None = None
    login_processes: int | None = None
    short_job_minutes: float | None = None
    memory_charged_as_cpus: bool = False


@dataclass(frozen=True, slots=True)
class Fact:
    """Where a fact of a profile comes from.

    Attributes:
        source: id of the source in the profile.
        title: what it is.
        date: when it was last changed, or seen.
        url: where it can be read, or an empty text.
    """

    source: str
    title: str
    date: date
    url: str = ""
