"""What a task may ask for, how people write it, and what happens when it cannot be read."""

from __future__ import annotations

import json
import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpc_flows.exceptions import ResourceError
from hpc_flows.resources import (
    FIELDS,
    MIB,
    Resources,
    format_memory,
    format_walltime,
    parse_gpus,
    parse_memory,
    parse_walltime,
)

GIB = 1024**3

words = st.text("abcxyz019_-", min_size=1, max_size=8)
fields = st.fixed_dictionaries(
    {},
    optional={
        "cpus": st.integers(1, 500),
        "memory": st.integers(MIB, 2**45),
        "gpus": st.one_of(
            st.integers(1, 16),
            st.builds("{}:{}".format, st.sampled_from(["a100", "1g.10gb"]), st.integers(1, 8)),
        ),
        "walltime": st.one_of(st.integers(1, 10**7), st.sampled_from(["2h", "90m", "1-00:00:00"])),
        "nodes": st.integers(1, 64),
        "tasks_per_node": st.integers(1, 64),
        "partition": words,
        "account": words,
        "qos": words,
        "constraint": words,
        "exclusive": st.booleans(),
        "licenses": st.lists(words, max_size=3),
        "modules": st.lists(words, max_size=3),
        "environment": st.dictionaries(st.sampled_from(["A", "B", "C"]), words),
        "container": words,
        "extra": st.lists(st.sampled_from(["--nice", "--hold", "--reservation=x"]), max_size=2),
    },
)
requests = fields.map(lambda chosen: Resources(**chosen))
#: What a slow machine needs time for is no finding.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("16GB", 16 * GIB),
        ("16G", 16 * GIB),
        ("16gib", 16 * GIB),
        ("1.5 T", 1536 * GIB),
        ("4000", 4000 * MIB),
        ("4000M", 4000 * MIB),
        ("0.5G", 512 * MIB),
        ("1500K", 2 * MIB),
        (GIB, GIB),
        (GIB + 1, GIB + MIB),
    ],
)
def test_memory_is_read_as_slurm_reads_it_and_kept_in_whole_mebibytes(
    written: int | str, size: int
) -> None:
    assert parse_memory(written) == size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2h", 7200),
        ("90m", 5400),
        ("90", 5400),
        (90, 90),
        (0.5, 1),
        ("1h30m", 5400),
        ("1 h 30 min", 5400),
        ("1.5h", 5400),
        ("2 days", 172800),
        ("1w", 604800),
        ("30:00", 1800),
        ("02:00:00", 7200),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("1-00:00:00", 86400),
        (timedelta(hours=2), 7200),
        (timedelta(milliseconds=1), 1),
    ],
)
def test_walltime_is_read_as_people_write_it(written: Any, seconds: int) -> None:
    assert parse_walltime(written) == seconds


@pytest.mark.parametrize(
    ("written", "gpus", "count", "kind"),
    [
        (2, "2", 2, None),
        ("2", "2", 2, None),
        ("a100", "a100:1", 1, "a100"),
        ("a100:2", "a100:2", 2, "a100"),
        ("gpu:a100:2", "a100:2", 2, "a100"),
        ("gpu:4", "4", 4, None),
        ("1g.10gb:1", "1g.10gb:1", 1, "1g.10gb"),
    ],
)
def test_gpus_are_a_number_or_a_type_and_a_number(
    written: int | str, gpus: str, count: int, kind: str | None
) -> None:
    asked = Resources(gpus=written)
    assert (asked.gpus, asked.gpu_count, asked.gpu_type) == (gpus, count, kind)


def test_a_request_without_gpus_counts_none() -> None:
    assert Resources(cpus=1).gpu_count == 0
    assert Resources(cpus=1).gpu_type is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"memory": "32 XB"}, "'XB' is not a unit of memory"),
        ({"memory": 32}, "32 bytes is less than one megabyte"),
        ({"memory": -GIB}, "positive number"),
        ({"memory": "0G"}, "less than one megabyte"),
        ({"memory": ""}, "positive number"),
        ({"memory": "1.2.3G"}, "positive number"),
        ({"memory": True}, "neither text nor a number"),
        ({"memory": 1.5}, "neither text nor a number"),
        ({"walltime": "banana"}, "is not a number"),
        ({"walltime": "3 bananas"}, "'bananas' is not a unit of time"),
        ({"walltime": "-3h"}, "is not a number"),
        ({"walltime": "1:2:3:4"}, "[days-]hours:minutes:seconds"),
        ({"walltime": 0}, "longer than zero"),
        ({"walltime": ""}, "longer than zero"),
        ({"walltime": True}, "no length of time"),
        ({"walltime": float("nan")}, "no length of time"),
        ({"walltime": float("inf")}, "no length of time"),
        ({"gpus": 0}, "one or more"),
        ({"gpus": "-1"}, "no type of GPU"),
        ({"gpus": ":2"}, "no type of GPU"),
        ({"gpus": "a100:x"}, "no type of GPU"),
        ({"gpus": True}, "neither a number nor text"),
        ({"cpus": 0}, "whole number of 1 or more"),
        ({"cpus": -1}, "whole number of 1 or more"),
        ({"cpus": True}, "whole number of 1 or more"),
        ({"cpus": 2.5}, "whole number of 1 or more"),
        ({"cpus": "four"}, "whole number of 1 or more"),
        ({"nodes": "9" * 5000}, "whole number of 1 or more"),
        ({"exclusive": "yes"}, "neither True nor False"),
        ({"partition": "gpu\n#SBATCH --wrap=x"}, "one word"),
        ({"account": ""}, "one word"),
        ({"constraint": "a b"}, "one word"),
        ({"modules": 5}, "neither text nor a list"),
        ({"environment": "A=1"}, "mapping"),
        ({"environment": {"1A": "x"}}, "variable's name"),
        ({"environment": {"A": None}}, "not text"),
        ({"extra": "nice"}, "begins with a dash"),
        ({"extra": "--x\n--y"}, "one line"),
        ({"extra": "--mem=3G"}, "use memory="),
        ({"extra": ["--cpus=3"]}, "use cpus="),
        ({"extra": "-J name"}, "hpc_flows decides it"),
        ({"extra": "-N2"}, "use nodes="),
    ],
)
def test_a_wrong_value_is_refused_with_the_field_the_value_and_what_to_write(
    wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises(ResourceError) as caught:
        Resources(**wrong)
    (field,) = wrong
    assert f"{field}=" in str(caught.value)
    assert says in str(caught.value)
    assert "Write" in str(caught.value)


def test_an_unknown_field_is_refused_with_the_close_match() -> None:
    with pytest.raises(ResourceError, match=r"no resource 'memmory'\. Did you mean 'memory'"):
        Resources(memmory="32GB")  # type: ignore[arg-type]


def test_options_that_are_ours_in_part_only_may_be_given() -> None:
    extra = ("--reservation=course", "--nice=10", "--mem-bind=local", "-w c1", "--mail-type=END")
    assert Resources(extra=extra).extra == extra


def test_a_request_does_not_change() -> None:
    asked = Resources(cpus=1, environment={"A": "1"})
    with pytest.raises(AttributeError, match="does not change"):
        asked.cpus = 2
    asked.environment["A"] = "2"
    assert asked.environment == {"A": "1"}


def test_numbers_of_accounts_and_single_names_are_taken_as_people_give_them() -> None:
    asked = Resources(account=4711, modules="gcc/13 openmpi", licenses="matlab,ansys:4")
    assert asked.account == "4711"
    assert asked.modules == ("gcc/13", "openmpi")
    assert asked.licenses == ("matlab", "ansys:4")


def test_a_request_is_described_in_one_line() -> None:
    asked = Resources(cpus=8, memory="32GB", gpus="a100", walltime="2h", nodes=1)
    assert asked.describe() == "8 cpus, 32G, a100:1, 2:00:00, 1 node"
    assert Resources().describe() == "no resources"
    assert repr(asked) == (
        "Resources(cpus=8, memory='32G', gpus='a100:1', walltime='02:00:00', nodes=1)"
    )


def test_a_request_that_is_printed_tells_no_value_of_a_variable() -> None:
    asked = Resources(cpus=1, environment={"API_TOKEN": "canary-41d0", "N": 4})
    hidden = {"API_TOKEN": "********", "N": "********"}
    assert repr(asked) == f"Resources(cpus=1, environment={hidden})"


def test_what_a_user_gives_as_resources_may_be_a_request_a_mapping_or_nothing() -> None:
    asked = Resources(cpus=2)
    assert Resources.of(asked) is asked
    assert Resources.of({"cpus": 2}) == asked
    assert Resources.of(None) is None
    with pytest.raises(ResourceError, match="no request"):
        Resources.of(8)  # type: ignore[arg-type]
    with pytest.raises(ResourceError, match="Did you mean 'cpus'"):
        Resources.of({"cpu": 2})


def test_every_field_can_be_described_and_merged() -> None:
    everything = Resources(
        cpus=1, memory="1G", gpus=1, walltime="1h", nodes=1, tasks_per_node=1, partition="p",
        account="a", qos="q", constraint="c", exclusive=True, licenses="l", modules="m",
        environment={"A": "1"}, container="i.sif", extra="--nice",
    )  # fmt: skip
    assert tuple(everything.to_dict()) == FIELDS
    assert everything.describe().count(",") == len(FIELDS) - 1
    assert Resources().merged(everything) == everything


def test_merging_takes_fields_as_a_whole_and_variables_one_by_one() -> None:
    flow = Resources(cpus=1, modules=["gcc", "hdf5"], environment={"A": "1", "B": "1"})
    task = Resources(modules=["clang"], environment={"B": "2"})
    both = flow.merged(task)
    assert both.cpus == 1
    assert both.modules == ("clang",)
    assert both.environment == {"A": "1", "B": "2"}
    assert flow.merged(None) is flow


@unhurried
@given(requests, requests, requests)
def test_merging_is_associative(a: Resources, b: Resources, c: Resources) -> None:
    assert a.merged(b).merged(c) == a.merged(b.merged(c))


@unhurried
@given(requests, requests)
def test_the_fields_of_the_later_request_win(a: Resources, b: Resources) -> None:
    both = a.merged(b).to_dict()
    for name, value in b.to_dict().items():
        if name == "environment":
            assert value.items() <= both[name].items()
        else:
            assert both[name] == value


@unhurried
@given(requests)
def test_an_empty_request_changes_nothing_when_merged(asked: Resources) -> None:
    assert asked.merged(Resources()) == asked == Resources().merged(asked)


@unhurried
@given(requests)
def test_a_request_survives_json_and_pickle(asked: Resources) -> None:
    assert Resources.from_dict(json.loads(json.dumps(asked.to_dict()))) == asked
    again = pickle.loads(pickle.dumps(asked))  # noqa: S301 - our own
    assert again == asked
    assert hash(again) == hash(asked)
    assert asked.is_empty() == (asked == Resources())


@unhurried
@given(st.integers(1, 2**50))
def test_formatted_memory_reads_back_as_the_same(mebibytes: int) -> None:
    assert parse_memory(format_memory(mebibytes * MIB)) == mebibytes * MIB


@unhurried
@given(st.integers(1, 10**9))
def test_formatted_walltime_reads_back_as_the_same(seconds: int) -> None:
    assert parse_walltime(format_walltime(seconds)) == seconds


@unhurried
@given(st.one_of(st.text(max_size=12), st.text("0123456789.:- GMKhmsd", max_size=12)))
def test_any_text_is_read_or_refused_but_never_breaks(text: str) -> None:
    for parse in (parse_memory, parse_walltime, parse_gpus):
        try:
            parsed: Any = parse(text)
        except ResourceError:
            continue
        assert parse(parsed) == parsed
