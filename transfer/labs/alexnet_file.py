"""Chapters of `lab torch7-convnets` about the AlexNet file: memory, shapes and similar networks."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..reports import Cell, Figure, Question, Section, Table, Text
from .steps import Steps
from .tables import formula_table, shape_text

#: The networks of the comparison: the name for `summary`, and the title.
_NETWORKS = {
    "alexnet_owt_bn": "AlexNet-OWT-BN",
    **{f"vgg_bn_{name.lower()}": f"VGG-BN {name}" for name in "ABCDE"},
    "googlenet": "GoogLeNet",
    "googlenet_bn": "GoogLeNet-BN",
}

_MIB = 2**20


def memory_section(steps: Steps, file: str, plugin: str | None = None) -> Section:
    """Return the chapter that attributes every byte of the file to a layer."""
    inspected = steps.run("inspect", file, depth=0, plugin=plugin)
    figure = steps.path("alexnet-sizes.png")
    drawn = steps.run("plot", "sizes", file, titles="AlexNet", output=figure, plugin=plugin)
    result, file_bytes = inspected.result, _bytes_by_group(inspected.result)
    layers = [layer for layer in result["layers"] if layer["bytes"]]
    largest = max(layers, key=lambda layer: layer["bytes"])
    convolution_bytes = sum(
        layer["bytes"] for layer in layers if layer["lua_class"].endswith("Convolution")
    )
    rows = [
        [_lua_path(layer), layer["lua_class"].removeprefix("nn."), *_byte_cells(layer)]
        for layer in layers
    ]
    rest = result["bytes"] - sum(layer["bytes"] for layer in layers)
    rows.append(["names, settings", "", rest, None, None, None, rest])
    rows.append(["the file", "", *_byte_cells(result)])
    return Section(
        "The memory of AlexNet",
        [
            Question(
                f"Why is the file {result['bytes'] / _MIB:.0f} MB large?",
                [
                    Text(
                        f"It holds {result['parameters']:,} parameters of 4 bytes each "
                        f"({file_bytes['weights'] / _MIB:.0f} MB) and their gradients "
                        f"({file_bytes['gradients'] / _MIB:.0f} MB), because Torch7 saves a layer "
                        "with everything that training needs. The largest layer, "
                        f"`{_lua_path(largest)}`, takes "
                        f"{largest['bytes'] / result['bytes']:.0%} of the file; all convolutions "
                        f"together take {convolution_bytes / result['bytes']:.1%}.",
                        [inspected],
                    ),
                    Table(
                        "Bytes of each layer. They add up to the size of the file.",
                        [
                            *("layer", "class", "all", "weights", "gradients"),
                            *("running statistics", "other"),
                        ],
                        rows,
                        [inspected],
                    ),
                    Figure(
                        "Bytes of each layer.",
                        "a bar chart; the bars of the linear layers are by far the longest",
                        figure,
                        [drawn],
                    ),
                ],
            )
        ],
    )


def _bytes_by_group(result: dict[str, Any]) -> Counter[str]:
    """Return the bytes of weights, gradients and so on, of a layer or of the file."""
    return Counter({row["group"]: row["bytes"] for row in result["bytes_by_group"]})


def _byte_cells(result: dict[str, Any]) -> list[Cell]:
    """Return the bytes of a layer or of the file: all, weights, gradients, statistics, others."""
    groups = _bytes_by_group(result)
    named = [groups["weights"], groups["gradients"], groups["running_statistics"]]
    return [result["bytes"], *named, result["bytes"] - sum(named)]


def _lua_path(layer: dict[str, Any]) -> str:
    """Return the path of a layer in Lua: `get(1):get(2)`."""
    path: str = layer["lua_get"] or layer["lua_path"]
    return path.removeprefix("model:")


def shape_section(steps: Steps, file: str, plugin: str | None = None) -> Section:
    """Return the chapter about the shape after each layer, and the size of the View."""
    summarized = steps.run("summary", file, formulas=True, plugin=plugin)
    layers = summarized.result["layers"]
    view = next(row for row in layers if len(row["output_shape"]) == 1 < len(row["input_shape"]))
    before, after = view["input_shape"], view["output_shape"][0]
    return Section(
        "The shapes in AlexNet",
        [
            Question(
                f"Why is the size of the View {after}?",
                [
                    Text(
                        f"An input of {shape_text(summarized.result['input_shape'])} has been "
                        f"reduced to {shape_text(before)} when it reaches the View: "
                        f"{view['formula']}.",
                        [summarized],
                    ),
                    formula_table(
                        "The output size of each convolution and pooling layer.", summarized
                    ),
                ],
            )
        ],
    )


def relatives_section(steps: Steps) -> Section:
    """Return the chapter that compares AlexNet, VGG-BN and GoogLeNet."""
    summaries = {title: steps.run("summary", name) for name, title in _NETWORKS.items()}
    rows: list[list[Cell]] = [
        [
            title,
            summarized.result["depth"],
            summarized.result["parameters"],
            round(summarized.result["weight_bytes"] / _MIB),
            round(summarized.result["output_bytes"] / _MIB),
            round(summarized.result["multiply_adds"] / 1e6),
            _kernel_counts(summarized.result["layers"]),
        ]
        for title, summarized in summaries.items()
    ]
    results = {title: summarized.result for title, summarized in summaries.items()}
    smallest = min(results, key=lambda title: results[title]["parameters"])
    slowest = max(results, key=lambda title: results[title]["multiply_adds"])
    ratio = results[slowest]["multiply_adds"] / results["AlexNet-OWT-BN"]["multiply_adds"]
    return Section(
        "AlexNet, VGG and GoogLeNet",
        [
            Question(
                "How do the three compare?",
                [
                    Table(
                        "Computed from the networks, for one image of 3×224×224. Depth: the layers "
                        "with weights on the longest path. Weights and outputs: memory in MB "
                        "(2²⁰ bytes) of the weights and of all layers' outputs. Filters: the "
                        "kernel sizes of the convolutions, and the number of layers with each.",
                        [
                            *("network", "depth", "parameters", "weights", "outputs"),
                            *("million multiply-adds", "filters"),
                        ],
                        rows,
                        list(summaries.values()),
                    ),
                    Text(
                        f"{smallest} has the fewest parameters, "
                        f"{results[smallest]['parameters']:,}, because average pooling replaces "
                        f"the large linear layers. {slowest} needs the most computation, "
                        f"{ratio:.0f} times as much as AlexNet: it applies 3×3 filters to large "
                        "feature maps. AlexNet starts with large filters and a stride, which "
                        "makes its feature maps small from the first layer on.",
                        list(summaries.values()),
                    ),
                ],
            )
        ],
    )


def _kernel_counts(layers: list[dict[str, Any]]) -> str:
    """Return the kernel sizes of the convolutions, largest first: `11×11 (1), 3×3 (3)`."""
    sizes = Counter(tuple(row["kernel_size"]) for row in layers if row["torch_class"] == "Conv2d")
    return ", ".join(
        f"{shape_text(size)} ({count})" for size, count in sorted(sizes.items(), reverse=True)
    )
