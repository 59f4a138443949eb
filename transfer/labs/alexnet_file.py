"""The chapters of `lab torch7-convnets` about AlexNet's file: its memory, shapes and relatives."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..reports import Cell, Figure, Question, Section, Table, Text
from .steps import Steps
from .tables import formula_table, shape_words

#: What AlexNet is compared with, by what `summary` calls it.
_RELATIVES = {
    "alexnet_owt_bn": "AlexNet-OWT-BN",
    **{f"vgg_bn_{name.lower()}": f"VGG-BN {name}" for name in "ABCDE"},
    "googlenet": "GoogLeNet",
    "googlenet_bn": "GoogLeNet-BN",
}

_MIB = 2**20


def memory_section(steps: Steps, file: str) -> Section:
    """The bytes of the file, layer by layer; they add up to its size."""
    found = steps.run("inspect", file, depth=0)
    sizes = steps.path("alexnet-sizes.png")
    drawn = steps.run("plot", "sizes", file, titles="AlexNet", output=sizes)
    result, spent = found.result, found.result["bytes"]
    held = [layer for layer in result["layers"] if sum(layer["bytes"].values())]
    largest = max(held, key=_bytes_of)
    rows = [
        [_place(layer), layer["class_name"].removeprefix("nn."), *_kinds(layer["bytes"])]
        for layer in held
    ]
    rest = result["size"] - sum(map(_bytes_of, held))
    rows.append(["names, settings", "", rest, None, None, None, rest])
    rows.append(["the file", "", *_kinds(spent)])
    return Section(
        "The memory of AlexNet",
        [
            Question(
                f"Why does the file have {result['size'] / _MIB:.0f} MB?",
                [
                    Text(
                        f"It holds {result['parameters']:,} parameters of 4 bytes, which are "
                        f"{spent['weights'] / _MIB:.0f} MB, and as many bytes of gradients "
                        f"({spent['gradients'] / _MIB:.0f} MB): Torch7 saves a layer with all that "
                        f"a training needs. The largest layer, `{_place(largest)}`, takes "
                        f"{_bytes_of(largest) / result['size']:.0%} of the file; all convolutions "
                        f"together {_convolutions(held) / result['size']:.1%}.",
                        [found],
                    ),
                    Table(
                        "Bytes of the file, layer by layer. They add up to its size.",
                        [
                            *("layer", "class", "all", "weights", "gradients"),
                            *("running statistics", "other"),
                        ],
                        rows,
                        [found],
                    ),
                    Figure(
                        "Bytes of each layer.",
                        "a chart of bars, those of the linear layers by far the longest",
                        sizes,
                        [drawn],
                    ),
                ],
            )
        ],
    )


def _kinds(count: dict[str, int]) -> list[Cell]:
    """Bytes of one layer or file: all, weights, gradients, running statistics, others."""
    kinds = [count["weights"], count["gradients"], count["running_statistics"]]
    whole = sum(count.values())
    return [whole, *kinds, whole - sum(kinds)]


def _place(layer: dict[str, Any]) -> str:
    """Where a layer stands, as Lua says it: `get(1):get(2)`."""
    place: str = layer["get"] or layer["path"]
    return place.removeprefix("model:")


def _bytes_of(layer: dict[str, Any]) -> int:
    return sum(layer["bytes"].values())


def _convolutions(layers: list[dict[str, Any]]) -> int:
    return sum(_bytes_of(one) for one in layers if one["class_name"].endswith("Convolution"))


def shape_section(steps: Steps, file: str) -> Section:
    """The walk of shapes, and why View has as many numbers."""
    walked = steps.run("summary", file, formulas=True)
    layers = walked.result["layers"]
    view = next(row for row in layers if len(row["output_shape"]) == 1 < len(row["input_shape"]))
    before, after = view["input_shape"], view["output_shape"][0]
    return Section(
        "The shapes in AlexNet",
        [
            Question(
                f"Why is the View {after}?",
                [
                    Text(
                        f"A picture of {shape_words(walked.result['input_shape'])} has become "
                        f"{shape_words(before)} by the time it gets there: {view['formula']}.",
                        [walked],
                    ),
                    formula_table("How each convolution and pooling makes it smaller.", walked),
                ],
            )
        ],
    )


def relatives_section(steps: Steps) -> Section:
    """AlexNet, VGG-BN and GoogLeNet side by side, measured from the networks."""
    summaries = {title: steps.run("summary", name) for name, title in _RELATIVES.items()}
    rows: list[list[Cell]] = [
        [
            title,
            found.result["depth"],
            found.result["parameters"],
            round(found.result["weight_bytes"] / _MIB),
            round(found.result["output_bytes"] / _MIB),
            round(found.result["multiply_adds"] / 1e6),
            _kernels(found.result["layers"]),
        ]
        for title, found in summaries.items()
    ]
    least = min(summaries, key=lambda title: summaries[title].result["parameters"])
    most = max(summaries, key=lambda title: summaries[title].result["multiply_adds"])
    spent = {title: found.result for title, found in summaries.items()}
    times = spent[most]["multiply_adds"] / spent["AlexNet-OWT-BN"]["multiply_adds"]
    return Section(
        "AlexNet, VGG and GoogLeNet",
        [
            Question(
                "How do the three compare?",
                [
                    Table(
                        "Measured from the networks, for one picture of 3×224×224. Depth: layers "
                        "with weights in a row. Memory in MB of 2²⁰ bytes: of the weights, and of "
                        "all layers' outputs. Filters: kernels of the convolutions, and how many "
                        "layers have them.",
                        [
                            *("network", "depth", "parameters", "weights", "outputs"),
                            *("million multiply-adds", "filters"),
                        ],
                        rows,
                        list(summaries.values()),
                    ),
                    Text(
                        f"{least} has the fewest parameters, {spent[least]['parameters']:,}: an "
                        "average takes the place of the large linear layers. "
                        f"{most} computes most, {times:.0f} times as much as AlexNet, with filters "
                        "of 3×3 on large maps. AlexNet begins with large filters and a stride, "
                        "which makes its maps small at once.",
                        list(summaries.values()),
                    ),
                ],
            )
        ],
    )


def _kernels(layers: list[dict[str, Any]]) -> str:
    """`11×11 (1), 3×3 (3)`: the kernels of convolutions, the largest first."""
    sizes = Counter(tuple(row["kernel_size"]) for row in layers if row["class_name"] == "Conv2d")
    return ", ".join(
        f"{shape_words(size)} ({n})" for size, n in sorted(sizes.items(), reverse=True)
    )
