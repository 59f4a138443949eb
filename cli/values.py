"""From the text of an option to its value: sizes, inputs and lists, each parsed in one place."""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin

from ..converters.input_shapes import InputShapeError, InputShapes, parse_inputs
from .errors import UsageError


@dataclass(frozen=True)
class Within:
    """The limits of a number; both are allowed.

    Attributes:
        lowest: The smallest number.
        highest: The largest number; None for no limit.
    """

    lowest: float
    highest: float | None = None

    def __str__(self) -> str:
        if self.highest is None:
            return f"of at least {self.lowest:g}"
        return f"from {self.lowest:g} to {self.highest:g}"

    def __contains__(self, value: float) -> bool:
        # Not a number is in no range.
        return value >= self.lowest and (self.highest is None or value <= self.highest)


@dataclass(frozen=True)
class ColumnRange:
    """Columns of an output, both ends included.

    Attributes:
        first: The first, from 1.
        last: The last.
    """

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}:{self.last}"


#: Types of options with a limited range.
Count = Annotated[int, Within(1)]
CountOrZero = Annotated[int, Within(0)]
Fraction = Annotated[float, Within(0, 1)]
NotNegative = Annotated[float, Within(0)]
Seconds = Annotated[float, Within(0.001)]
Port = Annotated[int, Within(0, 65535)]

#: Types of options that are large whole numbers, such as `64M`.
Bytes = NewType("Bytes", int)
Pixels = NewType("Pixels", int)


def parse_size(value: Any) -> tuple[int, int]:
    """Return the height and width that `224` or `240x320` stands for.

    Raises:
        ArgumentTypeError: when it is no size.

    Example:
        >>> parse_size("224"), parse_size("240x320")
        ((224, 224), (240, 320))
    """
    found = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", _joined(value))
    if not found:
        raise ArgumentTypeError(f"a size such as 224 or 240x320 was expected, not {value!r}")
    return int(found[1]), int(found[2] or found[1])


def parse_shape(value: Any) -> tuple[int, ...]:
    """Return the shape that `3x224x224` stands for.

    Raises:
        ArgumentTypeError: when it is no shape.

    Example:
        >>> parse_shape("3x224x224")
        (3, 224, 224)
    """
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", _joined(value)):
        raise ArgumentTypeError(f"a shape such as 3x224x224 was expected, not {value!r}")
    return tuple(map(int, _joined(value).split("x")))


def parse_input_option(value: Any) -> InputShapes:
    """Return the inputs that `3x224x224`, `9` or `16,4xN:int64` stands for.

    Raises:
        ArgumentTypeError: when it is no shape.

    Example:
        >>> str(parse_input_option("3x224x224"))
        '3x224x224'
    """
    try:
        return value if isinstance(value, InputShapes) else parse_inputs(str(value))
    except InputShapeError as error:
        raise ArgumentTypeError(str(error)) from None


def parse_columns(value: Any) -> ColumnRange:
    """Return the columns that `1:1000` stands for.

    Raises:
        ArgumentTypeError: when it is no range.

    Example:
        >>> parse_columns("1:1000")
        ColumnRange(first=1, last=1000)
    """
    found = re.fullmatch(r"([1-9]\d{0,8}):([1-9]\d{0,8})", str(value))
    if not found or int(found[1]) > int(found[2]):
        raise ArgumentTypeError(f"columns from 1 such as 1:1000 were expected, not {value!r}")
    return ColumnRange(int(found[1]), int(found[2]))


def _joined(value: Any) -> str:
    """Return a size as text: the parser gives what it has parsed already once more."""
    return "x".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def parse_list(value: Any) -> list[str]:
    """Return the entries of a list with commas; blanks around them are dropped.

    Raises:
        ArgumentTypeError: when an entry is empty.

    Example:
        >>> parse_list("airplane, bird")
        ['airplane', 'bird']
    """
    entries = value if isinstance(value, list) else str(value).split(",")
    names = [str(entry).strip() for entry in entries]
    if not all(names):
        raise ArgumentTypeError(f"names with commas between were expected, not {value!r}")
    return names


def parse_amount(value: Any, thousand: int) -> int:
    """Return the whole number of at least 1 that `512`, `64K`, `64M` or `2G` stands for.

    Args:
        value: The text.
        thousand: What K stands for: 1024 for bytes, 1000 for all else.

    Raises:
        ArgumentTypeError: when it is none.

    Example:
        >>> parse_amount("64M", 1024), parse_amount("50M", 1000)
        (67108864, 50000000)
    """
    found = re.fullmatch(r"([1-9]\d{0,17})([KMG]?)", str(value))
    if not found:
        raise ArgumentTypeError(f"a number such as 512, 64K, 64M or 2G was expected, not {value!r}")
    factor: int = thousand ** " KMG".index(found[2] or " ")
    return int(found[1]) * factor


def parse_provider_name(value: Any) -> str:
    """Return a provider, if there can be one of this name.

    Raises:
        ArgumentTypeError: when there is none.

    Example:
        >>> parse_provider_name("cuda:1")
        'cuda:1'
    """
    on_gpu = r"(cuda|tensorrt)(:\d{1,3})?(:[1-9]\d{0,5}[MG])?"
    if not re.fullmatch(rf"auto|cpu|{on_gpu}|openvino(:f32|:bf16)?", str(value)):
        raise ArgumentTypeError(
            f"one of auto, cpu, cuda, cuda:1, tensorrt, openvino was expected, not {value!r}"
        )
    return str(value)


#: What a network runs on.
Provider = Annotated[str, parse_provider_name]


def in_precision(provider: str, precision: str | None) -> str:
    """Return a provider that computes in a precision, which only OpenVINO can be asked for.

    Raises:
        UsageError: when it is another provider.

    Example:
        >>> in_precision("openvino", "bf16")
        'openvino:bf16'
    """
    if precision is None:
        return provider
    if provider != "openvino":
        raise UsageError(f"--precision is for --provider openvino, not {provider}")
    return f"{provider}:{precision}"


def parse_numbers(value: Any) -> list[float]:
    """Return the numbers of a list with commas.

    Raises:
        ArgumentTypeError: when an entry is no finite number.

    Example:
        >>> parse_numbers("0.5"), parse_numbers("-1,1")
        ([0.5], [-1.0, 1.0])
    """
    entries = value if isinstance(value, list) else str(value).split(",")
    try:
        numbers = [float(entry) for entry in entries]
    except (TypeError, ValueError):
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ArgumentTypeError(f"numbers with commas between were expected, not {value!r}")
    return numbers


def as_text(value: Any) -> Any:
    """Return an option's value as it is written in config.yaml.

    A list stays one: a name in it may hold a comma.

    Example:
        >>> as_text((224, 224)), as_text((240, 320)), as_text(["airplane", "bird"])
        ('224', '240x320', ['airplane', 'bird'])
    """
    if isinstance(value, (InputShapes, ColumnRange)):
        return str(value)
    if isinstance(value, tuple):
        square = len(value) == 2 and value[0] == value[1]
        return str(value[0]) if square else "x".join(map(str, value))
    return value


def parser_of(annotation: Any) -> Callable[[Any], Any]:
    """Return the function that turns the text of an option into a value of its type.

    Args:
        annotation: `str`, `int`, `float`, a `Literal` or a list of them, one of the types above,
            or a union of them.

    Raises:
        TypeError: when no parser is known for the type.
    """
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return _first_of([parser_of(kind) for kind in get_args(annotation) if kind is not NoneType])
    if get_origin(annotation) is Annotated:
        kind, limits = get_args(annotation)
        if not isinstance(limits, Within):
            parse: Callable[[Any], Any] = limits
            return parse
        return partial(_parse_limited, parse=parser_of(kind), limits=limits)
    if get_origin(annotation) is Literal:
        return partial(_parse_choice, choices=get_args(annotation))
    if get_origin(annotation) is list and get_origin(get_args(annotation)[0]) is Literal:
        return partial(_parse_choices, choices=get_args(get_args(annotation)[0]))
    if annotation not in _PARSERS:
        raise TypeError(f"no option has the type {annotation}")
    return _PARSERS[annotation]


def _parse_whole(value: Any) -> int:
    if not re.fullmatch(r"[+-]?\d+", str(value)):
        raise ArgumentTypeError(f"a whole number was expected, not {value!r}")
    return int(value)


def _parse_number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"a number was expected, not {value!r}") from None
    if not math.isfinite(number):
        raise ArgumentTypeError(f"a finite number was expected, not {value!r}")
    return number


def _parse_choice(value: Any, choices: tuple[str, ...]) -> str:
    if str(value) not in choices:
        raise ArgumentTypeError(f"one of {', '.join(choices)} was expected, not {value!r}")
    return str(value)


def _parse_choices(value: Any, choices: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(_parse_choice(name, choices) for name in parse_list(value)))


def _parse_limited(value: Any, parse: Callable[[Any], float], limits: Within) -> float:
    number = parse(value)
    if number not in limits:
        kind = "a whole number" if isinstance(number, int) else "a number"
        raise ArgumentTypeError(f"{kind} {limits} was expected, not {value!r}")
    return number


def _first_of(parsers: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Return a function that tries one parser after the other."""
    if len(parsers) == 1:
        return parsers[0]

    def parse(value: Any) -> Any:
        problems = []
        for parser in parsers:
            try:
                return parser(value)
            except ArgumentTypeError as error:
                problems.append(str(error).partition(" was expected")[0])
        raise ArgumentTypeError(f"{' or '.join(problems)} was expected, not {value!r}")

    return parse


#: The parser of each type that an option may have, by its annotation.
_PARSERS: dict[Any, Callable[[Any], Any]] = {
    str: str,
    int: _parse_whole,
    float: _parse_number,
    tuple[int, int]: parse_size,
    tuple[int, ...]: parse_shape,
    InputShapes: parse_input_option,
    ColumnRange: parse_columns,
    list[str]: parse_list,
    Bytes: partial(parse_amount, thousand=1024),
    Pixels: partial(parse_amount, thousand=1000),
    list[float]: parse_numbers,
}
