"""Exceptions of wrong calls, and of what flows and tasks use: had from `hpc_flows.exceptions`."""

from __future__ import annotations

from hpc_flows.exceptions import HpcFlowsError, ParameterError, repr_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self


__all__ = [
    "ArtifactError",
    "EventError",
    "EventTooLarge",
    "FlowVisualizationError",
    "GraphvizImportError",
    "MappingLengthMismatch",
    "MappingMissingIterable",
    "MissingContextError",
    "MissingFlowError",
    "ObjectNotFound",
    "ParameterTypeError",
    "ScriptError",
    "SignatureMismatchError",
    "UnknownRun",
    "UnspecifiedFlowError",
    "VariableError",
]


class ParameterTypeError(ParameterError):
    """A parameter's value does not fit its annotation."""

    @classmethod
    def from_validation_error(cls, exc: Any) -> Self:
        """Return the error that tells all that a pydantic ValidationError holds."""
        lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in exc.errors()]
        return cls("Flow run received invalid parameters:\n - " + "\n - ".join(lines))


class SignatureMismatchError(ParameterError):
    """A deployment's or hook's parameters do not fit the signature."""

    @classmethod
    def from_bad_params(cls, expected_params: list[str], provided_params: list[str]) -> Self:
        """Return the error for parameters that are not those of the function."""
        return cls(
            f"Function expects parameters {expected_params} but was provided with parameters "
            f"{provided_params}"
        )


class MappingLengthMismatch(ParameterError):
    """The iterables given to `map` have different lengths."""


class MappingMissingIterable(ParameterError):
    """`map` was given nothing to iterate over."""


class MissingFlowError(HpcFlowsError, RuntimeError):
    """A file or module holds no flow of that name, or none at all."""


class UnspecifiedFlowError(HpcFlowsError):
    """A file or module holds several flows, and it was not said which one is meant."""


class ScriptError(HpcFlowsError):
    """A file that was to be loaded raised an error.

    Attributes:
        user_exc: what it raised.
    """

    def __init__(self, path: str = "", user_exc: BaseException | None = None) -> None:
        super().__init__(f"Script at {path!r} encountered an exception: {repr_of(user_exc)}")
        self.path = path
        self.user_exc = user_exc

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.user_exc)


class UnknownRun(HpcFlowsError):
    """No run has that id or name."""


class ObjectNotFound(UnknownRun):
    """The server that a client asks has no such run, or it is not to be seen."""


class MissingContextError(HpcFlowsError, RuntimeError):
    """What was called has a meaning inside of a flow or task only."""


class FlowVisualizationError(HpcFlowsError):
    """A flow cannot be drawn without running it."""


class GraphvizImportError(FlowVisualizationError, ImportError):
    """A picture was asked for, and graphviz is not installed."""


class VariableError(HpcFlowsError, ValueError):
    """A variable has a name or a value that cannot be kept, or exists already."""


class ArtifactError(HpcFlowsError, ValueError):
    """An artifact has a key or data that cannot be kept, or is not there."""


class EventError(HpcFlowsError, ValueError):
    """An event has a name, a resource or something related that breaks a limit."""


class EventTooLarge(EventError):
    """An event has more bytes than may be kept."""
