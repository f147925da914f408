"""What is sent to jobs: signed, read in part, by reference or by value, errors that name things."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows._version import __version__
from hpc_flows.exceptions import PayloadError
from hpc_flows.jobs import packing, payload
from hpc_flows.jobs.packing import Arguments, PayloadFile

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(range(32))


class Run:
    """Stands for a TaskRun."""

    def __init__(self, number: int) -> None:
        self.id = f"{number:036d}"


def double(x: Any) -> Any:
    return 2 * x


def write(
    folder: Path, calls: list[tuple[tuple[Any, ...], dict[str, Any]]], part: Any = double
) -> str:
    path = str(folder / "token.bin")
    file = PayloadFile(path, packing.pack_task(part, __name__, "double"), packing.places())
    batch = [Arguments(Run(n), args, kwargs) for n, (args, kwargs) in enumerate(calls)]
    packed = packing.pack_calls(file, "double", batch)
    errors = [each for each in packed if isinstance(each, PayloadError)]
    if errors:
        file.discard()
        raise errors[0]
    return file.finish(KEY, "run-id", "token")


def load(path: str, index: int = 0) -> tuple[Any, Any]:
    return payload.read_payload(path, KEY, index).load()


def test_each_element_gets_its_own_arguments(tmp_path: Path) -> None:
    path = write(tmp_path, [((n,), {"y": -n}) for n in range(50)])
    task, (run, args, kwargs) = load(path, 31)
    assert task(4) == 8
    assert (run.id, args, kwargs) == (f"{31:036d}", (31,), {"y": -31})


def test_the_header_names_the_task_run_before_anything_is_unpickled(tmp_path: Path) -> None:
    path = write(tmp_path, [((n,), {}) for n in range(3)])
    opened = payload.read_payload(path, KEY, 2)
    assert opened.task_run == f"{2:036d}"
    assert opened.facts["run"] == "run-id"
    assert opened.facts["hpc_flows"] == __version__
    assert opened.places[1:] == [p or opened.places[0] for p in packing.places()[1:]]


def test_an_element_does_not_read_the_arguments_of_the_others(tmp_path: Path) -> None:
    path = write(tmp_path, [((bytes(100_000),), {}), ((1,), {})])
    with open(path, "r+b") as file:
        file.seek(50_000)
        file.write(b"damage")
    assert load(path, 1)[1][1] == (1,)
    with pytest.raises(PayloadError, match="damaged"):
        load(path, 0)


def test_a_payload_signed_with_another_key_is_not_unpickled(tmp_path: Path) -> None:
    path = write(tmp_path, [((1,), {})])
    with pytest.raises(PayloadError, match="signature"):
        payload.read_payload(path, bytes(32), 0)


def test_a_changed_directory_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, [((1,), {})])
    content = bytearray((tmp_path / "token.bin").read_bytes())
    at = content.index(b"hpc_flows 0")
    content[at + 10] ^= 1
    (tmp_path / "token.bin").write_bytes(content)
    with pytest.raises(PayloadError, match="signature"):
        payload.read_payload(path, KEY, 0)


@pytest.mark.parametrize("keep", [0, 5, 100, -5])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path, [((1,), {})])
    content = (tmp_path / "token.bin").read_bytes()
    (tmp_path / "token.bin").write_bytes(content[:keep])
    with pytest.raises(PayloadError, match=r"token\.bin"):
        payload.read_payload(path, KEY, 0)


def test_an_index_that_the_payload_does_not_have_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, [((1,), {}), ((2,), {})])
    with pytest.raises(PayloadError, match=r"2 calls.*no call 7"):
        payload.read_payload(path, KEY, 7)


def test_a_missing_payload_is_named(tmp_path: Path) -> None:
    with pytest.raises(PayloadError, match=r"none\.bin"):
        payload.read_payload(str(tmp_path / "none.bin"), KEY, 0)


def test_nothing_is_visible_before_the_payload_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "token.bin"
    file = PayloadFile(str(path), b"", [])
    assert not path.exists()
    file.discard()
    assert not list(tmp_path.iterdir())


def test_only_the_user_may_read_a_payload(tmp_path: Path) -> None:
    write(tmp_path, [((1,), {})])
    assert (tmp_path / "token.bin").stat().st_mode & 0o777 == 0o600


# Sharing ------------------------------------------------------------------------------------------


def test_a_large_value_that_all_calls_are_given_is_stored_once(tmp_path: Path) -> None:
    table = list(range(50_000, 60_000))
    path = write(tmp_path, [((n, table), {"again": table}) for n in range(20)])
    size = (tmp_path / "token.bin").stat().st_size
    assert size < 3 * len(packing.dumps(table))
    _, (_, args, kwargs) = load(path, 7)
    assert args == (7, table)
    assert kwargs == {"again": table}


def test_batches_of_one_payload_share_without_mixing(tmp_path: Path) -> None:
    file = PayloadFile(str(tmp_path / "p"), packing.dumps(double), packing.places())
    for number in (1, 2):
        values = [number] * 2000
        batch = [Arguments(Run(number), (values,), {}) for _ in range(2)]
        packing.pack_calls(file, "double", batch)
    path = file.finish(KEY, "run", "token")
    assert [load(path, n)[1][1][0][0] for n in range(4)] == [1, 1, 2, 2]


def test_a_value_that_is_changed_between_two_batches_is_sent_as_it_was(tmp_path: Path) -> None:
    file = PayloadFile(str(tmp_path / "p"), packing.dumps(double), packing.places())
    settings = {"step": 0}
    for step in range(3):
        settings["step"] = step
        packing.pack_calls(file, "double", [Arguments(Run(0), (settings,), {})])
    path = file.finish(KEY, "run", "token")
    assert [load(path, n)[1][1][0]["step"] for n in range(3)] == [0, 1, 2]


def test_what_is_split_off_a_payload_is_sent_as_it_was(tmp_path: Path) -> None:
    file = PayloadFile(str(tmp_path / "p"), packing.dumps(double), packing.places())
    common = list(range(2000))
    batch = [Arguments(Run(n), (common, [n]), {}) for n in range(5)]
    packing.pack_calls(file, "double", batch)
    common.clear()
    rest = file.split(3, str(tmp_path / "rest"))
    whole, cut = (each.finish(KEY, "run", "token") for each in (file, rest))
    for path, numbers in ((whole, (0, 1, 2)), (cut, (3, 4))):
        for index, number in enumerate(numbers):
            task, (run, args, _) = load(path, index)
            assert task(2) == 4
            assert (run.id, args) == (f"{number:036d}", (list(range(2000)), [number]))
        with pytest.raises(PayloadError):
            load(path, len(numbers))


# By value -----------------------------------------------------------------------------------------


def test_lambdas_and_closures_go_by_value(tmp_path: Path) -> None:
    factor = 3

    def inner(x: int) -> int:
        return factor * x

    path = write(tmp_path, [((inner, lambda x: x + factor), {})])
    _, (_, (first, second), _) = load(path)
    assert (first(2), second(2)) == (6, 5)


def test_functions_by_value_are_read_without_cloudpickle(tmp_path: Path) -> None:
    """Many programs define their tasks in __main__; cloudpickle would cost each job 22 ms."""
    scale = 10

    def outer(x: int, *, y: int = 2) -> int:
        """Keep me."""
        return helper(x) * scale + y

    def helper(x: int) -> int:
        return x + 1 if x else outer(1)

    outer.mark = "kept"  # type: ignore[attr-defined]
    path = write(tmp_path, [((1,), {})], part=outer)
    names = set()

    loads = payload._loader(payload.read_payload(path, KEY, 0).facts["cloudpickle"])
    before = sys.modules.pop("cloudpickle.cloudpickle")
    try:
        task = loads(payload.read_payload(path, KEY, 0).section(1))
        names = set(sys.modules)
    finally:
        sys.modules["cloudpickle.cloudpickle"] = before
    assert "cloudpickle.cloudpickle" not in names
    assert task(1) == 22
    assert task(0, y=0) == 10 * (task(1) + 0)
    assert (task.mark, task.__doc__, task.__kwdefaults__) == ("kept", "Keep me.", {"y": 2})


def test_a_version_of_cloudpickle_that_was_not_tested_is_left_to_cloudpickle() -> None:
    import _pickle

    assert payload._loader("4.0.0") is _pickle.loads


def test_a_module_that_no_fresh_interpreter_would_find_is_sent_along(tmp_path: Path) -> None:
    source = tmp_path / "hidden_module.py"
    source.write_text("def triple(x):\n    return 3 * x\n")
    import importlib.util

    spec = importlib.util.spec_from_file_location("hidden_module", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hidden_module"] = module
    try:
        spec.loader.exec_module(module)
        assert packing.unreachable_module("hidden_module") is module
        content = packing.pack_task(module.triple, "hidden_module", "triple")
    finally:
        del sys.modules["hidden_module"]
    assert payload._loader("3.1.0")(content)(5) == 15


@pytest.mark.parametrize("name", ["os", "sys", "json.decoder", "hpc_flows.states", "numpy.linalg"])
def test_ordinary_modules_are_found_again(name: str) -> None:
    __import__(name)
    assert packing.unreachable_module(name) is None


# Errors that name the object ----------------------------------------------------------------------


class Holder:
    def __init__(self, content: Any) -> None:
        self.content = content


def test_a_lock_deep_in_an_argument_is_named_with_the_way_to_it(tmp_path: Path) -> None:
    config = {"parts": [1, Holder({"guard": threading.Lock()})]}
    with pytest.raises(PayloadError) as caught:
        write(tmp_path, [((1,), {"config": config})])
    text = str(caught.value)
    assert "Argument 'config' of task 'double'" in text
    assert "argument 'config'['parts'][1].content['guard']" in text
    assert "_thread.lock" in text


def test_an_open_file_is_named(tmp_path: Path) -> None:
    with (
        open(__file__, encoding="utf-8") as file,
        pytest.raises(PayloadError, match=r"Argument 2 .*TextIOWrapper"),
    ):
        write(tmp_path, [((1, file), {})])


def test_a_lock_in_a_closure_is_named(tmp_path: Path) -> None:
    guard = threading.Lock()

    def guarded(x: int) -> int:
        with guard:
            return x

    with pytest.raises(PayloadError, match="closure variable 'guard'"):
        write(tmp_path, [((1,), {})], part=guarded)


def test_one_call_that_cannot_be_sent_does_not_spoil_the_others(tmp_path: Path) -> None:
    file = PayloadFile(str(tmp_path / "p"), packing.dumps(double), packing.places())
    batch = [Arguments(Run(n), (value,), {}) for n, value in enumerate([1, threading.Lock(), 3])]
    packed = packing.pack_calls(file, "double", batch)
    path = file.finish(KEY, "run", "token")
    assert isinstance(packed[1], PayloadError)
    assert [packed[0], packed[2]] == [0, 1]
    assert load(path, 1)[1][1] == (3,)


# The handshake ------------------------------------------------------------------------------------


def test_the_wrong_python_on_the_node_is_refused_with_both_versions(tmp_path: Path) -> None:
    opened = payload.read_payload(write(tmp_path, [((1,), {})]), KEY, 0)
    opened.facts["python"] = "3.8 cpython"
    with pytest.raises(PayloadError, match=r"Python 3\.8 cpython.*`python` in the cluster"):
        opened.check_versions()


def test_another_version_of_hpc_flows_on_the_node_is_refused(tmp_path: Path) -> None:
    opened = payload.read_payload(write(tmp_path, [((1,), {})]), KEY, 0)
    opened.facts["hpc_flows"] = "0.0.1"
    with pytest.raises(PayloadError, match=r"version 0\.0\.1"):
        opened.check_versions()


def test_a_module_that_the_node_cannot_import_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def f(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found]

    path = write(tmp_path, [((1,), {})], part=only_here.f)
    monkeypatch.undo()
    del sys.modules["only_here"]
    with pytest.raises(PayloadError, match=r"The task cannot be loaded.*module 'only_here'"):
        load(path)


def test_a_working_directory_that_has_vanished_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        with pytest.raises(PayloadError, match="does not exist any more"):
            packing.places()
    finally:
        os.chdir(tmp_path)
