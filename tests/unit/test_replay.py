"""Replay: the same events give the same picture, in whatever order they come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from faults.history import ends
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_flows.journal.event import Event
from hpc_flows.journal.replay import RunView, replay, timeline


class Story:
    """Makes events as the writers of a run would."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._seqs: dict[str, int] = {}

    def tell(self, wall: float, kind: str, *, writer: str = "driver", **data: Any) -> Event:
        seq = self._seqs[writer] = self._seqs.get(writer, 0) + 1
        event = Event("run-1", writer, seq, wall, wall, kind, data)
        self.events.append(event)
        return event

    def task(self, id_: str, task: str = "train", wall: float = 0.0, **data: Any) -> None:
        facts = {"name": f"{task}-{id_}", "task": task, "flow_run": "run-1"} | data
        self.tell(wall, "task-run", id=id_, **facts)

    def state(
        self, id_: str, type_: str, wall: float, name: str = "", attempt: int = 1, **rest: Any
    ) -> None:
        subject = "flow" if id_ == "run-1" else "task"
        writer = rest.pop("writer", "driver")
        self.tell(
            wall, "state", writer=writer, subject=subject, id=id_, type=type_,
            name=name or type_.capitalize(), attempt=attempt, **rest,
        )  # fmt: skip

    @property
    def view(self) -> RunView:
        return replay(self.events)


@pytest.fixture
def story() -> Story:
    return Story()


def cluster_story() -> Story:
    """One task of two elements on a cluster, the first of which is tried twice."""
    story = Story()
    story.tell(1, "flow-run", id="run-1", name="merry-fox", flow="cv", parameters={"k": "10"})
    story.state("run-1", "RUNNING", 1)
    for index in (0, 1):
        story.task(f"t{index}", wall=2, map_index=index, resources={"cpus": 8})
        story.state(f"t{index}", "PENDING", 2, attempt=0)
    story.tell(3, "job-intent", token="tok", cluster="mock", scheduler="slurm",
               task_runs=["t0", "t1"], array="0-1", resources={"cpus": 8})  # fmt: skip
    story.tell(4, "job-submitted", token="tok", job="77", seconds=0.1)
    for index in (0, 1):
        story.state(f"t{index}", "PENDING", 4, "InfrastructurePending", attempt=0)
    story.tell(5, "job-status", token="tok", job="77_1", task_run="t1", phase="pending",
               raw="PENDING", reason="Priority", nodes="", partition="standard")  # fmt: skip
    details = {"job": "77_0", "node": "c1", "pid": 9}
    story.state("t0", "RUNNING", 6, writer="tok-0-0", details=details)
    story.tell(6.5, "log", writer="tok-0-0", level="INFO", message="hello", task_run="t0")
    story.state("t0", "SCHEDULED", 7, "AwaitingRetry", writer="tok-0-0")
    story.state("t0", "RUNNING", 8, "Retrying", 2, writer="tok-0-0", details=details)
    story.state("t0", "COMPLETED", 9, attempt=2, writer="tok-0-0", result={"inline": ""})
    story.state("t1", "RUNNING", 8, writer="tok-1-0", details={"job": "77_1", "node": "c2"})
    story.state("t1", "CRASHED", 10, "OutOfMemory", message="used too much")
    story.tell(10.5, "event", name="user.thing", payload={"a": 1})
    story.state("run-1", "FAILED", 11)
    return story


def test_a_run_on_a_cluster_replays_into_all_its_facts() -> None:
    view = cluster_story().view
    first, second = view.task_runs["t0"], view.task_runs["t1"]
    assert (first.state_type, first.attempt, first.node) == ("COMPLETED", 2, "c1")
    assert (first.created, first.queued, first.started, first.ended) == (2, 4, 8, 9)
    assert first.result == {"inline": ""}
    assert (second.state_name, second.message, second.job) == (
        "OutOfMemory",
        "used too much",
        "77_1",
    )
    assert second.map_index == 1
    assert second.resources == {"cpus": 8}
    assert view.root is not None
    assert (view.root.flow, view.root.state_type, view.root.ended) == ("cv", "FAILED", 11)
    job = view.jobs["tok"]
    assert (job.job, job.cluster, job.intended, job.submitted) == ("77", "mock", 3, 4)
    assert job.statuses["t1"].reason == "Priority"
    assert view.counts == {"train": {"Completed": 1, "OutOfMemory": 1}}
    assert [event.data["message"] for event in view.logs] == ["hello"]
    assert [event.data["name"] for event in view.events] == ["user.thing"]
    json.dumps(view.to_dict())


def test_the_history_has_every_state_that_counted() -> None:
    names = [name for _, _, name in cluster_story().view.task_runs["t0"].history]
    assert names == [
        "Pending", "InfrastructurePending", "Running", "AwaitingRetry", "Retrying", "Completed",
    ]  # fmt: skip


def test_the_timeline_has_a_row_for_each_task_run() -> None:
    rows = timeline(cluster_story().view)
    assert [(row.id, row.queued, row.started, row.ended) for row in rows] == [
        ("t0", 4, 8, 9),
        ("t1", 4, 8, 10),
    ]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_order_and_any_repetition_give_the_same_picture(data: st.DataObject) -> None:
    events = cluster_story().events
    again = data.draw(st.lists(st.sampled_from(events), max_size=20))
    shuffled = data.draw(st.permutations(events + again))
    view = replay(shuffled)
    assert picture(view) == picture(replay(events))
    assert view.repeated == len(again)


types = st.sampled_from(
    ["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "COMPLETED", "FAILED",
     "CANCELLED", "CRASHED"]
)  # fmt: skip
changes = st.tuples(
    st.sampled_from(["t0", "t1"]), types, st.integers(0, 5), st.integers(0, 3),
    st.sampled_from(["driver", "job-a", "job-b"]),
    st.sampled_from(["", "AwaitingRetry", "InfrastructurePending"]),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(changes, max_size=12), st.randoms(use_true_random=False))
def test_no_disorder_of_contradicting_states_changes_the_outcome(
    told: list[tuple[str, str, int, int, str, str]], chance: Any
) -> None:
    story = Story()
    for id_ in ("t0", "t1"):
        story.task(id_)
    for id_, type_, wall, attempt, writer, name in told:
        story.state(id_, type_, wall, name, attempt, writer=writer)
    straight = story.view
    shuffled = story.events * 2
    chance.shuffle(shuffled)
    assert picture(replay(shuffled)) == picture(straight)
    ended = {id_: run.state_type for id_, run in straight.task_runs.items() if run.is_final}
    assert ended == ends([as_record(event) for event in story.events])


@settings(max_examples=200, deadline=None)
@given(st.lists(changes, max_size=12))
def test_a_run_that_ended_never_goes_on_in_the_same_attempt(
    told: list[tuple[str, str, int, int, str, str]],
) -> None:
    story = Story()
    view = RunView()
    before: dict[str, tuple[int, bool]] = {}
    for id_, type_, wall, attempt, writer, name in told:
        story.state(id_, type_, wall, name, attempt, writer=writer)
        view.apply(story.events[-1])
        run = view.task_runs[id_]
        was_attempt, was_final = before.get(id_, (0, False))
        assert run.attempt >= was_attempt
        if was_final and run.attempt == was_attempt:
            assert run.is_final
        before[id_] = (run.attempt, run.is_final)


@settings(max_examples=100, deadline=None)
@given(st.lists(changes, max_size=12), st.randoms(use_true_random=False))
def test_counts_are_kept_right_by_every_single_event(
    told: list[tuple[str, str, int, int, str, str]], chance: Any
) -> None:
    story = Story()
    for id_, type_, wall, attempt, writer, name in told:
        story.state(id_, type_, wall, name, attempt, writer=writer)
    story.task("t0", "train")
    story.task("t1", "score")
    chance.shuffle(story.events)
    view = RunView()
    for event in story.events:
        view.apply(event)
        counted: dict[str, dict[str, int]] = {}
        for run in view.task_runs.values():
            if run.state_name is not None:
                names = counted.setdefault(run.task, {})
                names[run.state_name] = names.get(run.state_name, 0) + 1
        assert view.counts == counted


def test_a_late_running_does_not_undo_completed(story: Story) -> None:
    story.task("t")
    story.state("t", "COMPLETED", 5)
    story.state("t", "RUNNING", 6)
    assert story.view.task_runs["t"].state_type == "COMPLETED"


def test_a_later_attempt_goes_on_after_a_crash(story: Story) -> None:
    story.task("t")
    story.state("t", "CRASHED", 5, "NodeFailed")
    story.state("t", "RUNNING", 6, attempt=2)
    view = story.view.task_runs["t"]
    assert (view.state_type, view.attempt, view.started, view.ended) == ("RUNNING", 2, 6, None)


def test_a_node_whose_clock_is_slow_does_not_seem_to_wait(story: Story) -> None:
    story.task("t", wall=99)
    story.state("t", "PENDING", 100, "InfrastructurePending", attempt=0)
    story.state("t", "RUNNING", 97, writer="job")
    view = story.view.task_runs["t"]
    assert view.state_type == "RUNNING"
    assert view.started == 100  # not before it was queued


def test_a_job_that_is_queued_again_waits_again(story: Story) -> None:
    story.task("t")
    story.state("t", "RUNNING", 4, writer="job-0")
    details = {"requeued": True, "job": "5"}
    story.state("t", "PENDING", 6, "InfrastructurePending", details=details)
    view = story.view.task_runs["t"]
    assert (view.state_name, view.queued) == ("InfrastructurePending", 6)
    story.state("t", "RUNNING", 8, attempt=2, writer="job-1")
    assert story.view.task_runs["t"].started == 8


def test_what_the_scheduler_contradicts_is_not_completed(story: Story) -> None:
    """The driver has heard both witnesses; its verdict comes later and counts."""
    story.task("t")
    story.state("t", "COMPLETED", 5, writer="tok-0-0", result={"inline": ""})
    story.state("t", "CRASHED", 9, "OutOfMemory")
    view = story.view.task_runs["t"]
    assert (view.state_name, view.result, view.unheard) == ("OutOfMemory", None, 1)


def test_of_two_ends_of_an_attempt_the_earlier_counts_and_the_other_is_noted(
    story: Story,
) -> None:
    story.task("u")
    story.state("u", "COMPLETED", 5, writer="job-a")
    story.state("u", "FAILED", 6, writer="job-b")
    assert story.view.task_runs["u"].state_type == "COMPLETED"
    story.task("t")
    story.state("t", "CRASHED", 5, "JobLost")
    story.state("t", "COMPLETED", 9, writer="job")
    view = story.view.task_runs["t"]
    assert (view.state_name, view.ended, view.unheard) == ("JobLost", 5, 1)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_run_that_was_undone_after_its_end_is_rolled_back(
    story: Story,
    backwards: bool,  # noqa: FBT001 - pytest gives it by name
) -> None:
    story.task("t")
    story.state("t", "RUNNING", 1, writer="job")
    story.state("t", "COMPLETED", 5, writer="job", details={"node": "n1"}, result={"inline": ""})
    story.state("t", "COMPLETED", 9, "RolledBack")
    view = replay(reversed(story.events) if backwards else story.events)
    run = view.task_runs["t"]
    assert (run.state_name, run.state_type, run.result) == ("RolledBack", "COMPLETED", None)
    assert (run.ended, run.unheard, run.known("node")) == (9, 0, "n1")
    assert [name for _, _, name in run.history] == ["Running", "Completed", "RolledBack"]
    assert view.counts == {"train": {"RolledBack": 1}}


def test_a_cancellation_before_the_first_start_is_of_the_first_attempt(story: Story) -> None:
    story.task("t")
    story.state("t", "RUNNING", 4, writer="job")
    story.state("t", "CANCELLED", 5, attempt=0)
    assert story.view.task_runs["t"].state_type == "CANCELLED"


def test_an_element_knows_its_job_before_it_runs(story: Story) -> None:
    for id_ in ("t0", "t1"):
        story.task(id_)
    story.tell(1, "job-intent", token="a", task_runs=["t0", "t1"], array="0-1")
    assert story.view.task_runs["t1"].job is None
    story.tell(2, "job-submitted", token="a", job="5")
    view = story.view.task_runs["t1"]
    assert (view.job, view.token, view.queued) == ("5_1", "a", 2)
    story.tell(3, "job-status", token="a", job="6", task_run="t1", phase="running", nodes="c3")
    view = story.view.task_runs["t1"]
    assert (view.job, view.node) == ("6", "c3")


def test_the_latest_submission_of_a_task_run_counts(story: Story) -> None:
    story.task("t")
    for wall, token in ((1, "a"), (2, "b")):
        story.tell(wall, "job-intent", token=token, task_runs=["t"], array=None)
        story.tell(wall, "job-submitted", token=token, job=f"job-{token}")
    assert story.view.task_runs["t"].job == "job-b"
    assert replay(reversed(story.events)).task_runs["t"].job == "job-b"


def test_a_refused_and_a_cancelled_job_say_why(story: Story) -> None:
    story.tell(1, "job-intent", token="a", task_runs=["t"])
    story.tell(2, "job-refused", token="a", message="Invalid account")
    story.tell(3, "job-intent", token="b", task_runs=["u"])
    story.tell(4, "job-submitted", token="b", job="9")
    story.tell(5, "job-cancel", jobs=["9_3"], reason="Ctrl-C")
    jobs = story.view.jobs
    assert (jobs["a"].refusal, jobs["a"].job) == ("Invalid account", None)
    assert jobs["b"].cancelled == "Ctrl-C"


def test_events_that_say_nonsense_are_counted_and_change_nothing(story: Story) -> None:
    story.task("t")
    story.state("t", "RUNNING", 1)
    before = picture(story.view)
    story.tell(2, "state", subject="task", id="t", type="EXPLODED", name="x")
    story.tell(2, "state", subject="cat", id="t", type="FAILED", name="x")
    story.tell(2, "state", subject="task", id=["t"], type="FAILED", name="x")
    story.tell(2, "state", subject="task", id="t", type="FAILED", name="x", attempt="many")
    story.tell(2, "task-run")
    story.tell(2, "job-submitted", token=7, job="1")
    view = story.view
    assert view.refused == 6
    assert picture(view) == before


def test_an_event_that_says_nonsense_half_way_leaves_its_run_in_the_counts(story: Story) -> None:
    story.state("t1", "PENDING", 1)
    story.task("t1", tags=7)  # no list of tags: it fails after the name was taken
    story.state("t1", "RUNNING", 2, attempt=float("inf"))  # how 1e999 is read
    assert story.view.refused == 2
    assert sum(sum(states.values()) for states in story.view.counts.values()) == 1


def test_kinds_of_a_newer_version_are_let_pass(story: Story) -> None:
    story.tell(1, "something-new", id="t")
    assert (story.view.seen, story.view.refused) == (1, 0)


def test_only_the_newest_logs_are_kept_in_their_order(story: Story) -> None:
    for number in range(100):
        story.tell(number, "log", message=str(number), task_run=f"t{number % 2}")
    view = RunView(log_limit=10)
    for event in reversed(story.events):
        view.apply(event)
    assert [event.data["message"] for event in view.logs] == [str(n) for n in range(90, 100)]
    assert [event.data["message"] for event in view.tail(2)] == ["98", "99"]
    assert [event.data["message"] for event in view.tail(2, task_run="t0")] == ["96", "98"]
    assert view.tail(0) == []
    assert len(replay(story.events, log_limit=None).logs) == 100


def test_a_task_run_that_was_made_twice_keeps_its_first_making(story: Story) -> None:
    story.task("t", wall=1, map_index=3)
    story.task("t", wall=9, map_index=4)
    for order in (story.events, story.events[::-1]):
        view = replay(order).task_runs["t"]
        assert (view.created, view.map_index) == (1, 3)


def picture(view: RunView) -> Any:
    return (
        view.to_dict(),
        [event.id for event in view.logs],
        [event.id for event in view.events],
        {id_: run.unheard for id_, run in view.task_runs.items()},
    )


def as_record(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Event.__slots__}
