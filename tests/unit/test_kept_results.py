"""Results: they come back as they were, or it is said why not; nothing unsigned is unpickled."""

from __future__ import annotations

import base64
import errno
import json
import os
import pickle
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from hpc_flows.exceptions import FailedRun, MissingResult, ResultError
from hpc_flows.journal.folder import create_run, read_key
from hpc_flows.results import kept as results_module
from hpc_flows.results.kept import RemoteTraceback, RunResults, StoredResult
from hpc_flows.states import Completed


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    return create_run(str(tmp_path), "run-1")


@pytest.fixture
def store(run_dir: str) -> RunResults:
    return RunResults(run_dir, read_key(run_dir), 1000)


class TwoArgumentsError(Exception):
    """As users write them: takes more than it gives to `Exception`."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(what)
        self.code = code


class LockedError(Exception):
    """Holds what no pickle can hold."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.lock = threading.Lock()


class StubbornError(Exception):
    """Refuses every way of being made again."""

    def __new__(cls, *args: object) -> Self:
        if args != ("secret",):
            raise RuntimeError("only as I like it")
        return super().__new__(cls, *args)

    def __init__(self, word: str) -> None:
        super().__init__()


def test_a_small_value_stays_in_the_journal(store: RunResults, run_dir: str) -> None:
    reference = store.keep("t", {"a": (1, 2)})
    assert reference.keys() == {"inline", "mac"}
    assert json.loads(json.dumps(reference)) == reference
    assert store.load(reference) == {"a": (1, 2)}
    assert os.listdir(os.path.join(run_dir, "results")) == []


def test_a_large_value_goes_into_a_file_by_name_size_and_hash(
    store: RunResults, run_dir: str
) -> None:
    reference = store.keep("train-7/0", "x" * 5000)
    assert reference.keys() == {"file", "size", "hash"}
    path = Path(run_dir, reference["file"])
    assert path.parent == Path(run_dir, "results")
    assert path.name.startswith("train-7_0-")
    assert path.stat().st_size == reference["size"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert store.load(reference) == "x" * 5000


@pytest.mark.parametrize("size", [10, 100_000])
def test_an_array_comes_back_writable(store: RunResults, size: int) -> None:
    again = store.load(store.keep("t", [np.arange(size), "and more"]))
    assert np.array_equal(again[0], np.arange(size))
    again[0][0] = 5


def test_two_attempts_of_one_name_do_not_overwrite_each_other(store: RunResults) -> None:
    first = store.keep("t", "a" * 5000)
    store.keep("t", "b" * 5000)
    assert store.load(first) == "a" * 5000


def test_a_value_that_cannot_be_pickled_is_named_with_its_owner(store: RunResults) -> None:
    with pytest.raises(ResultError, match=r"train-1: .*'lock'.*cannot be pickled"):
        store.keep("train-1", threading.Lock())


def test_a_changed_inline_result_is_not_unpickled(store: RunResults) -> None:
    reference = store.keep("t", 1)
    evil = pickle.dumps(Bomb())
    with pytest.raises(ResultError, match="not unpickled"):
        store.load({**reference, "inline": base64.b64encode(evil).decode()})


class Bomb:
    """Makes a mark when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.abort, ()


@pytest.mark.parametrize("value", ["x" * 5000, np.zeros(50_000)], ids=["plain", "with buffers"])
@pytest.mark.parametrize("at", [0, 3, 10, 30, 1000, -1])
def test_a_changed_file_is_not_unpickled(
    store: RunResults, run_dir: str, value: object, at: int
) -> None:
    reference = store.keep("t", value)
    path = Path(run_dir, reference["file"])
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(ResultError, match="not unpickled"):
        store.load(reference)


def test_the_result_of_another_run_is_not_unpickled(store: RunResults, tmp_path: Path) -> None:
    other = create_run(str(tmp_path), "run-2")
    with pytest.raises(ResultError, match="not unpickled"):
        RunResults(other, read_key(other)).load(store.keep("t", 1))


def test_a_missing_file_says_where_it_was_and_what_may_have_taken_it(
    store: RunResults, run_dir: str
) -> None:
    reference = store.keep("t", "x" * 5000)
    os.unlink(os.path.join(run_dir, reference["file"]))
    with pytest.raises(MissingResult, match=r"results/t-.*purge.*Run the task again"):
        store.load(reference)


def test_a_cut_file_says_how_much_is_there(store: RunResults, run_dir: str) -> None:
    reference = store.keep("t", "x" * 5000)
    os.truncate(os.path.join(run_dir, reference["file"]), 100)
    with pytest.raises(ResultError, match="has 100 of"):
        store.load(reference)


def test_a_file_that_a_network_file_system_shows_late_is_waited_for(
    store: RunResults, run_dir: str
) -> None:
    reference = store.keep("t", "x" * 5000)
    path = os.path.join(run_dir, reference["file"])
    os.rename(path, path + ".late")
    store.patience = 60.0
    timer = threading.Timer(0.2, os.rename, (path + ".late", path))
    timer.start()
    try:
        assert store.load(reference) == "x" * 5000
    finally:
        timer.join()


def test_waiting_for_a_file_has_an_end(
    store: RunResults, run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(results_module, "sleep", pauses.append)
    monkeypatch.setattr(results_module, "monotonic", lambda: sum(pauses))
    reference = store.keep("t", "x" * 5000)
    os.unlink(os.path.join(run_dir, reference["file"]))
    with pytest.raises(MissingResult):
        store.stored(reference, patience=120.0).get()
    assert 100.0 < sum(pauses) <= 120.0
    assert len(pauses) < 100
    with pytest.raises(MissingResult):
        store.load(reference)
    assert sum(pauses) <= 120.0


@pytest.mark.parametrize(
    "reference",
    [
        {}, {"inline": "AA=="}, {"inline": 5, "mac": ""}, {"inline": "é", "mac": "x"},
        {"file": "results/x", "size": "many", "hash": ""},
        {"file": "results/../key", "size": 32, "hash": ""},
        {"file": "../../etc/passwd", "size": 1, "hash": ""},
        {"file": "/etc/passwd", "size": 1, "hash": ""},
        {"file": "key", "size": 32, "hash": ""},
    ],
)  # fmt: skip
def test_what_is_no_reference_opens_no_file(store: RunResults, reference: dict[str, Any]) -> None:
    with pytest.raises(ResultError, match="no reference"):
        store.load(reference)


def test_a_full_disk_leaves_nothing_half_written(
    store: RunResults, run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResultError, match=r"results/t-.*No space left.*Free space"):
        store.keep("t", "x" * 5000)
    assert os.listdir(os.path.join(run_dir, "results")) == []


def raised(error: BaseException) -> BaseException:
    try:
        raise error  # noqa: TRY301 - gives it a traceback
    except BaseException as caught:  # noqa: BLE001 - it is what is tested
        return caught


def test_an_exception_comes_back_with_its_remote_traceback(store: RunResults) -> None:
    again = store.load(store.keep_error(raised(ZeroDivisionError("by zero"))))
    assert isinstance(again, ZeroDivisionError)
    assert str(again) == "by zero"
    assert isinstance(again.__cause__, RemoteTraceback)
    assert "in raised" in str(again.__cause__)
    assert "in raised" in "".join(traceback.format_exception(again))


def test_an_exception_with_an_init_of_its_own_comes_back_as_its_class(store: RunResults) -> None:
    again = store.load(store.keep_error(raised(TwoArgumentsError("bad", 42))))
    assert isinstance(again, TwoArgumentsError)
    assert (str(again), again.code) == ("bad", 42)


def test_an_exception_that_holds_a_lock_comes_back_without_it(store: RunResults) -> None:
    again = store.load(store.keep_error(raised(LockedError("held"))))
    assert isinstance(again, LockedError)
    assert str(again) == "held"


def test_an_exception_that_cannot_come_back_is_told_in_words(store: RunResults) -> None:
    again = store.load(store.keep_error(raised(StubbornError("secret"))))
    assert isinstance(again, FailedRun)
    assert "StubbornError" in str(again)
    assert "StubbornError" in str(again.__cause__)


def test_an_exception_whose_module_is_not_here_is_told_in_words(
    store: RunResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_on_the_node.py").write_text("class OddError(ValueError): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_on_the_node  # type: ignore[import-not-found]

    reference = store.keep_error(raised(only_on_the_node.OddError("seven")))
    monkeypatch.undo()
    monkeypatch.delitem(__import__("sys").modules, "only_on_the_node")
    again = store.load(reference)
    assert isinstance(again, FailedRun)
    assert "only_on_the_node.OddError: seven" in str(again)
    assert "No module named" in str(again)


def test_exits_and_interrupts_come_back_too(store: RunResults) -> None:
    assert isinstance(store.load(store.keep_error(raised(SystemExit(3)))), SystemExit)
    assert isinstance(store.load(store.keep_error(KeyboardInterrupt())), KeyboardInterrupt)


def test_notes_and_causes_are_in_what_is_shown(store: RunResults) -> None:
    error = ValueError("outer")
    error.add_note("look at line 7")
    error.__cause__ = KeyError("inner")
    again = store.load(store.keep_error(raised(error)))
    assert again.__notes__ == ["look at line 7"]
    assert "KeyError: 'inner'" in str(again.__cause__)


def test_an_endless_traceback_is_cut_in_the_middle(store: RunResults) -> None:
    again = store.load(store.keep_error(raised(ValueError("x" * 1_000_000))))
    text = str(again.__cause__)
    assert len(text) < 250_000
    assert "characters cut" in text
    assert text.lstrip().startswith('"""\nTraceback')


def test_a_stored_result_is_loaded_once_and_only_when_asked(
    store: RunResults, run_dir: str
) -> None:
    reference = store.keep("t", [1] * 5000)
    stored = store.stored(reference)
    assert "not loaded" in repr(stored)
    first = Completed(data=stored).result()
    os.unlink(os.path.join(run_dir, reference["file"]))
    assert stored.get() is first


def test_a_stored_result_has_a_handle_that_checks_what_it_loads(
    store: RunResults, run_dir: str
) -> None:
    stored = store.stored(store.keep("t", "x" * 5000))
    for _ in range(2):  # before and after it was loaded
        handle = stored.handle()
        assert handle.load() == "x" * 5000
        with pytest.raises(ResultError, match="only be read as a whole"):
            handle[0]
    late = store.stored(store.keep("u", "y" * 5000))
    Path(late.handle().path).write_bytes(pickle.dumps("z" * 4992))
    with pytest.raises(ResultError, match=r"damaged|bytes"):
        late.handle().load()
    with pytest.raises(MissingResult, match="in no file"):
        store.stored(store.keep("small", 1)).handle()


def test_a_stored_result_travels_as_its_value_and_without_the_key(store: RunResults) -> None:
    data = pickle.dumps(store.stored(store.keep("t", {"a": 1})))
    assert store.key not in data
    again = pickle.loads(data)  # noqa: S301 - our own bytes
    assert isinstance(again, StoredResult)
    assert again.get() == {"a": 1}


def test_a_large_array_is_kept_without_a_second_copy(store: RunResults) -> None:
    import tracemalloc

    array = np.ones(4_000_000)  # 32 MB
    tracemalloc.start()
    try:
        reference = store.keep("t", array)
        _, while_kept = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        store.load(reference)
        _, while_loaded = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert while_kept < 4_000_000
    assert while_loaded < 40_000_000


def test_patience_looks_at_the_folder_anew(
    store: RunResults, run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = store.keep("t", "x" * 5000)
    path = Path(run_dir, reference["file"])
    content = path.read_bytes()
    path.unlink()
    store.patience = 60.0
    looked: list[str] = []

    def refresh(folder: str) -> None:
        looked.append(folder)
        path.write_bytes(content)

    monkeypatch.setattr(results_module, "_refresh", refresh)
    monkeypatch.setattr(results_module, "sleep", lambda seconds: None)
    before = time.monotonic()
    assert store.load(reference) == "x" * 5000
    assert looked == [str(path.parent)]
    assert time.monotonic() >= before
