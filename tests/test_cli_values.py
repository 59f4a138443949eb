"""The values of options: what each type of option takes, and what it refuses."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any, Literal

import pytest

from torchlift.cli.errors import UsageError
from torchlift.cli.values import (
    Bytes,
    ColumnRange,
    Count,
    Fraction,
    Pixels,
    Port,
    Within,
    as_text,
    in_precision,
    parse_columns,
    parse_input_option,
    parse_list,
    parse_numbers,
    parse_provider_name,
    parse_shape,
    parse_size,
    parser_of,
)
from torchlift.converters.input_shapes import parse_inputs


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_size, "224", (224, 224)),
        (parse_size, "240x320", (240, 320)),
        (parse_shape, "7", (7,)),
        (parse_shape, "10x3x224x320", (10, 3, 224, 320)),
        (parser_of(tuple[int, ...]), "28x28", (28, 28)),
        (parser_of(tuple[int, int] | None), "28", (28, 28)),
        (parse_input_option, "3x8x9", parse_inputs("3x8x9")),
        (parse_columns, "3:3", ColumnRange(3, 3)),
        (parse_list, " a , b", ["a", "b"]),
        (parse_numbers, "-1, 0.5", [-1, 0.5]),
        (parser_of(Bytes), "512", 512),
        (parser_of(Bytes), "3K", 3 * 2**10),
        (parser_of(Bytes), "3M", 3 * 2**20),
        (parser_of(Bytes), "3G", 3 * 2**30),
        (parser_of(Pixels), "3K", 3000),
        (parser_of(Pixels), "3G", 3 * 10**9),
        (parser_of(Count), "1", 1),
        (parser_of(Fraction), "0", 0),
        (parser_of(Fraction), "1", 1),
        (parser_of(Port), "65535", 65535),
        (parser_of(int | None), "-7", -7),
        (parser_of(float), "1e3", 1000),
        (parser_of(list[Literal["a", "b"]]), "b,a", ["b", "a"]),
        # Once is enough.
        (parser_of(list[Literal["a", "b"]]), "b,a,b", ["b", "a"]),
        (parse_provider_name, "tensorrt:1:4G", "tensorrt:1:4G"),
        (parse_provider_name, "cuda:12", "cuda:12"),
        (parse_provider_name, "tensorrt:100:512M", "tensorrt:100:512M"),
        (parse_provider_name, "cuda:4G", "cuda:4G"),
        (parse_provider_name, "openvino:bf16", "openvino:bf16"),
    ],
)
def test_a_value_is_read(parse: Callable[[Any], Any], text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "problem"),
    [
        (parse_size, "0", "a size such as 224"),
        (parse_size, "2x", "a size such as 224"),
        (parse_size, "2x0", "a size such as 224"),
        (parse_size, "2x3x4", "a size such as 224"),
        (parse_shape, "0", "a shape such as 3x224x224"),
        (parse_shape, "0x28", "a shape such as 3x224x224"),
        (parse_shape, "3x0x28", "a shape such as 3x224x224"),
        (parse_shape, "3x", "a shape such as 3x224x224"),
        (parse_shape, "-3x4", "a shape such as 3x224x224"),
        (parse_columns, "4:3", "columns from 1"),
        (parse_columns, "0:3", "columns from 1"),
        (parse_list, "a,,b", "names with commas"),
        (parse_numbers, "1,nan", "numbers with commas"),
        (parse_numbers, "inf", "numbers with commas"),
        (parse_numbers, "1,", "numbers with commas"),
        (parse_numbers, "", "numbers with commas"),
        (parser_of(Bytes), "0K", "a number such as 512"),
        (parser_of(Bytes), "3T", "a number such as 512"),
        (parser_of(Count), "0", "a whole number of at least 1"),
        (parser_of(Fraction), "1.1", "a number from 0 to 1"),
        (parser_of(Fraction), "-0.1", "a number from 0 to 1"),
        (parser_of(Port), "65536", "a whole number from 0 to 65535"),
        (parser_of(float), "nan", "a finite number"),
        (parser_of(float), "-inf", "a finite number"),
        (parser_of(int), "1.5", "a whole number"),
        (parser_of(list[Literal["a", "b"]]), "a,c", "one of a, b was expected, not 'c'"),
        (parser_of(int | tuple[int, int]), "x", "a whole number or a size such as 224 or 240x320"),
        (parse_provider_name, "cuda:-1", "one of auto"),
        (parse_provider_name, "openvino:int8", "one of auto"),
        (parse_provider_name, "cpu:1", "one of auto"),
        (parse_provider_name, "cuda:1000", "one of auto"),
        (parse_provider_name, "cuda:0:0G", "one of auto"),
        (parse_provider_name, "cuda:", "one of auto"),
    ],
)
def test_a_wrong_value_is_one_sentence(
    parse: Callable[[Any], Any], text: str, problem: str
) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        parse(text)
    assert problem in str(caught.value)
    assert "was expected" in str(caught.value) or "were expected" in str(caught.value)


def test_a_type_that_no_option_has_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="no option has the type"):
        parser_of(dict)


def test_limits_belong_to_their_range() -> None:
    limits = Within(0.5, 2)
    assert all(number in limits for number in (0.5, 1, 2))
    assert not any(number in limits for number in (0.49, 2.01, float("nan")))
    assert 1e300 in Within(1)
    assert (str(limits), str(Within(1))) == ("from 0.5 to 2", "of at least 1")


def test_values_are_shown_as_they_are_typed() -> None:
    values = ((224, 224), (240, 320), (3, 4, 4), (4, 3, 4), (4, 4, 4), (7,), ColumnRange(1, 9))
    shown = ["224", "240x320", "3x4x4", "4x3x4", "4x4x4", "7", "1:9"]
    assert [as_text(value) for value in values] == shown
    assert [as_text(value) for value in (["a,b"], 0.5, None)] == [["a,b"], 0.5, None]
    # What a run's config.yaml holds is read again as it was.
    assert parse_shape(as_text((4, 4, 4))) == (4, 4, 4)
    assert parse_size(as_text((240, 320))) == (240, 320)
    inputs = parse_inputs("16,4xN:int64")
    assert parse_input_option(as_text(inputs)) == inputs


def test_a_precision_is_openvinos_alone_and_said_once() -> None:
    assert in_precision("cpu", None) == "cpu"
    assert in_precision("openvino", "f32") == "openvino:f32"
    for provider in ("cpu", "openvino:bf16"):
        with pytest.raises(UsageError, match=f"not {provider}"):
            in_precision(provider, "f32")
