"""What the driver of a flow run can be asked for by a state: to cancel, to pause, to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_flows.client.errors import CONFLICT, ServerRefusal
from hpc_flows.client.schemas.objects import FlowRun, OrchestrationResult, SetStateStatus
from hpc_flows.exceptions import OptionValueError
from hpc_flows.states import State, StateType

if TYPE_CHECKING:
    from hpc_flows.client.api import Api

_ACTIONS = {
    StateType.CANCELLING: "cancel",
    StateType.CANCELLED: "cancel",
    StateType.PAUSED: "pause",
}


def RESUMING() -> State:  # noqa: N802 - makes a state, as those of hpc_flows.states do
    """Return the state that lets a paused run go on."""
    return State(StateType.SCHEDULED, "Resuming")


def set_state(api: Api, id_: str, state: State, *, force: bool) -> OrchestrationResult:
    """Ask the driver of a flow run for a state.

    Raises:
        OptionValueError: a driver cannot be asked for that, or it is to be forced.
    """
    action = _action(state)
    if force:
        msg = (
            "force is not taken: a run's state is what its driver says. On its machine, "
            "`hpc-flows runs cancel --force` cancels the jobs of a driver that is gone."
        )
        raise OptionValueError(msg)
    try:
        told = api.ask(id_, action, state.message or "")
    except ServerRefusal as error:
        if error.status != CONFLICT:
            raise
        now = FlowRun(dict(api.flow_run(id_))).state
        return OrchestrationResult(now, SetStateStatus.ABORT, str(error))
    return OrchestrationResult(state, SetStateStatus.ACCEPT, told["message"])


def _action(state: State) -> str:
    if not isinstance(state, State):
        raise OptionValueError(f"Give a state, such as Cancelling(), not {state!r:.200}.")
    if state.name == "Resuming":
        return "resume"
    action = _ACTIONS.get(state.type)
    if action is None or state.name == "Suspended":
        msg = (
            f"A flow run cannot be set to {state.name}: its state is what its driver does. It can "
            f"be asked for Cancelling() or Paused(), and resume_flow_run() lets it go on."
        )
        raise OptionValueError(msg)
    return action
