"""Tasks that write in every way there is; jobs and worker processes import this module."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import subprocess
import sys
import time

from hpc_flows import get_run_logger, task

ECHO = "/bin/echo"


@task(log_prints=True)
def in_every_way(program: str) -> None:
    print("1 print")  # noqa: T201 - what is tested
    os.write(1, b"2 os.write\n")
    subprocess.run([ECHO, "3 echo"], check=True)
    sys.stdout.write("4 sys.stdout\n")
    get_run_logger().info("5 logger")
    subprocess.run([program], check=True)
    os.write(2, b"9 to stderr\n")
    print("10 print")  # noqa: T201 - what is tested
    os.write(1, b"11 no newline")


@task(log_prints=True)
def from_c_in_this_process(library: str) -> None:
    import ctypes

    ctypes.CDLL(library).say(b"said by C, and never flushed\n")


@task(log_prints=True)
def traceback_of_all_threads() -> None:
    faulthandler.dump_traceback(sys.stderr)


@task(log_prints=True)
def leaves_a_child(seconds: int) -> int:
    script = f"echo begun; sleep {seconds}; echo too late"
    return subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.DEVNULL).pid


@task(log_prints=True)
def writes_and_waits() -> None:
    print("1 print")  # noqa: T201 - what is tested
    subprocess.run([ECHO, "2 echo"], check=True)
    time.sleep(600)


@task(log_prints=True)
def crashes() -> None:
    subprocess.run([ECHO, "last words"], check=True)
    os.kill(os.getpid(), 9)


@task(log_prints=True)
def floods(lines: int) -> None:
    subprocess.run(["/usr/bin/seq", str(lines)], check=True)
    print("end")  # noqa: T201 - what is tested


@task(log_prints=True)
def fails() -> None:
    subprocess.run([ECHO, "why"], check=True)
    raise ValueError("because")


def _print_in_a_child() -> None:
    print("from a child", flush=True)  # noqa: T201 - what is tested


@task(log_prints=True)
def forks() -> None:
    child = multiprocessing.get_context("fork").Process(target=_print_in_a_child)
    child.start()
    child.join()


@task
def says_nothing_of_it() -> None:
    subprocess.run([ECHO, "plain"], check=True)


@task(log_prints=True)
def speaks(word: str) -> str:
    print(word, "1 print")  # noqa: T201 - what is tested
    subprocess.run([ECHO, f"{word} 2 echo"], check=True)
    os.write(1, f"{word} 3 os.write".encode())
    return word
