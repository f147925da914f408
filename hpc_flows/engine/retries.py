"""Whether and when a run that failed is tried again."""

from __future__ import annotations

from os import urandom

from hpc_flows.engine.options import LONGEST_TIMEOUT
from hpc_flows.exceptions import OptionValueError, ParameterError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Delay = float | Sequence[float] | Callable[[int], Sequence[float]]

#: As in Prefect.
MOST_DELAYS = 50


def check_retries(owner: str, retries: int | None) -> int | None:
    """Return `retries` if it is a whole number that is not negative, or None.

    Raises:
        ParameterError: it is something else.
    """
    if retries is None or (type(retries) is int and retries >= 0):
        return retries
    msg = f"{owner}: retries must be a whole number that is not negative, not {retries!r}."
    raise ParameterError(msg)


def check_delays(
    owner: str, delay: Delay | None, retries: int | None
) -> float | tuple[float, ...] | None:
    """Return the delays before retries as one number, a tuple, or None; callables are called.

    Raises:
        ParameterError: a delay is not a number of seconds, or there are more than 50.
    """
    if callable(delay):
        delay = delay(retries or 0)
    if delay is None or _is_seconds(delay):
        return delay  # type: ignore[return-value]
    if isinstance(delay, (list, tuple)) and all(map(_is_seconds, delay)):
        if len(delay) <= MOST_DELAYS:
            return tuple(delay)
        msg = (
            f"{owner}: Can not configure more than {MOST_DELAYS} retry delays per task; "
            f"{len(delay)} are given."
        )
        raise OptionValueError(msg)
    msg = (
        f"{owner}: retry_delay_seconds must be seconds, a list of seconds, or a function of the "
        f"number of retries that returns such a list, not {delay!r}."
    )
    raise ParameterError(msg)


def check_jitter(owner: str, factor: Any) -> float | None:
    """Return the part of a pause by which it may be longer at random, or None.

    Raises:
        OptionValueError: it is not a number, or negative.
    """
    is_number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
    if factor is None or (is_number and 0 <= factor <= LONGEST_TIMEOUT):
        return factor  # type: ignore[no-any-return]
    msg = f"{owner}: `retry_jitter_factor` must be >= 0. It is a number, not {factor!r}."
    raise OptionValueError(msg)


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """Return what gives, as `retry_delay_seconds`, pauses that double with each retry.

    `exponential_backoff(10)` waits 10, 20, 40, ... seconds.
    """

    def delays(retries: int) -> list[float]:
        return [backoff_factor * 2**retry for retry in range(min(retries, MOST_DELAYS))]

    return delays


def _is_seconds(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value <= LONGEST_TIMEOUT  # type: ignore[operator]


def delay_before(
    retry: int, delays: float | tuple[float, ...], jitter: float | None = None
) -> float:
    """Return the seconds to wait before retry number `retry`, from 1; a list's last repeats.

    With `jitter` they are longer by a random part, at most that many times themselves.
    """
    if isinstance(delays, tuple):
        delays = delays[min(retry, len(delays)) - 1] if delays else 0.0
    if not jitter or not delays:
        return delays
    # Not the random module, which costs 5 ms to import.
    return delays * (1 + jitter * int.from_bytes(urandom(4), "big") / 2**32)
