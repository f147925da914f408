"""What a task sends to a job and gets back: values, functions of every kind, and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Script = Callable[..., subprocess.CompletedProcess[str]]

HEAD = """
from hpc_flows import Resources, flow, task, unmapped
SMALL = Resources(cpus=1, memory="500M", walltime="5m")
"""


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return what the script printed last; show everything when it failed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_a_map_comes_back_in_order_from_one_array(script: Script, cluster: str) -> None:
    done = script(
        HEAD
        + """
import os
@task(resources=SMALL)
def square(x, offset):
    return x * x + offset, os.environ["SLURM_ARRAY_JOB_ID"]
@flow
def squares():
    return square.map(range(12), unmapped(100))
values = squares()
print([v for v, _ in values] == [x * x + 100 for x in range(12)], len({j for _, j in values}))
"""
    )
    assert last_line(done) == "True 1"


def test_a_hundred_megabytes_of_numbers_come_back_whole(script: Script, cluster: str) -> None:
    done = script(
        HEAD
        + """
import numpy
@task(resources=Resources(cpus=1, memory="2G", walltime="5m"))
def big(seed):
    return numpy.random.default_rng(seed).random(13_107_200)
@flow
def arrays():
    return big.submit(7).result()
here = numpy.random.default_rng(7).random(13_107_200)
there = arrays()
print(there.nbytes, bool((there == here).all()))
"""
    )
    assert last_line(done) == "104857600 True"


def test_the_users_own_exception_comes_back_with_the_remote_traceback(
    script: Script, cluster: str, tmp_path: Path
) -> None:
    (tmp_path / "project").mkdir(exist_ok=True)
    (tmp_path / "project" / "physics.py").write_text(
        "from hpc_flows import task, Resources\n"
        "class Diverged(ValueError):\n"
        "    def __init__(self, step, residual):\n"
        "        super().__init__(f'diverged at step {step}: {residual}')\n"
        "        self.step, self.residual = step, residual\n"
        "    def __reduce__(self):\n"
        "        return Diverged, (self.step, self.residual)\n"
        "@task(resources=Resources(cpus=1, memory='500M', walltime='5m'))\n"
        "def solve(n):\n"
        "    raise Diverged(n, 1e9)\n"
    )
    done = script(
        """
import traceback
from hpc_flows import flow
from physics import Diverged, solve
@flow
def run():
    try:
        solve.submit(3).result()
    except Diverged as error:
        text = "".join(traceback.format_exception(error))
        return error.step, error.residual, "in solve" in text and "physics.py" in text
print(run())
"""
    )
    assert last_line(done) == "(3, 1000000000.0, True)"


def test_functions_of_every_kind_reach_the_job(script: Script, cluster: str) -> None:
    done = script(
        HEAD
        + """
def helper(x):
    return x + 1
class Shape:
    def __init__(self, sides): self.sides = sides
    def __eq__(self, other): return self.sides == other.sides
def adder(n):
    @task(resources=SMALL, name="add")
    def add(x):
        return helper(x) + n
    return add
in_main = task(resources=SMALL, name="in_main")(lambda s: Shape(s.sides + 1))
small_lambda = task(resources=SMALL, name="lam")(lambda x: x * 10)
@flow
def kinds():
    a = adder(5).submit(1)
    b = in_main.submit(Shape(3))
    c = small_lambda.submit(4)
    return a.result(), b.result() == Shape(4), c.result()
if __name__ == "__main__":
    print(kinds())
"""
    )
    assert last_line(done) == "(7, True, 40)"


def test_what_cannot_be_sent_is_named_before_anything_is_submitted(
    script: Script, cluster: str
) -> None:
    done = script(
        HEAD
        + """
import threading
@task(resources=SMALL)
def work(options):
    return 1
@flow
def run():
    return work.submit({"depth": 3, "guard": threading.Lock()}).result()
run()
"""
    )
    assert done.returncode != 0
    assert "PayloadError" in done.stderr
    assert "work" in done.stderr
    assert "guard" in done.stderr
    assert "lock" in done.stderr


def test_a_module_that_the_node_lacks_is_named(
    script: Script, cluster: str, tmp_path: Path
) -> None:
    (tmp_path / "project").mkdir(exist_ok=True)
    (tmp_path / "project" / "vanishing.py").write_text(
        "from hpc_flows import task, Resources\n"
        "@task(resources=Resources(cpus=1, memory='500M', walltime='5m'))\n"
        "def work():\n    return 1\n"
    )
    done = script(
        """
import os
from hpc_flows import flow
from vanishing import work
os.remove("vanishing.py")
@flow
def run():
    return work.submit().result()
run()
"""
    )
    assert done.returncode != 0
    assert "vanishing" in done.stderr
    assert "No module named" in done.stderr or "cannot be imported" in done.stderr


def test_a_result_that_cannot_be_stored_is_an_error_that_names_it(
    script: Script, cluster: str
) -> None:
    done = script(
        HEAD
        + """
import threading
@task(resources=SMALL)
def handle():
    return {"lock": threading.Lock()}
@flow
def run():
    return handle.submit().result()
run()
"""
    )
    assert done.returncode != 0
    assert "lock" in done.stderr
    assert "handle" in done.stderr


def test_a_task_called_directly_runs_on_the_cluster(script: Script, cluster: str) -> None:
    done = script(
        HEAD
        + """
import os
@task(resources=SMALL)
def where():
    return os.environ.get("SLURM_JOB_ID", "")
@task
def here():
    return os.environ.get("SLURM_JOB_ID", "")
@flow
def run():
    return where(), here()
there, local = run()
print(there.isdigit(), repr(local))
"""
    )
    assert last_line(done) == "True ''"


def test_retries_count_the_users_failures_in_the_job(script: Script, cluster: str) -> None:
    done = script(
        HEAD
        + """
from pathlib import Path
@task(resources=SMALL, retries=2, retry_delay_seconds=0.1)
def flaky(path):
    tries = Path(path)
    n = int(tries.read_text()) if tries.exists() else 0
    tries.write_text(str(n + 1))
    if n < 2:
        raise ConnectionError(f"try {n}")
    return n
@flow
def run():
    return flaky.submit(str(Path("tries.txt").resolve())).result()
print(run())
"""
    )
    assert last_line(done) == "2"
