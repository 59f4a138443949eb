"""Chapters of `lab cifar2` about its results: the effect of each change, mistakes in the lab."""

from __future__ import annotations

from dataclasses import dataclass

from ..reports import Question, Section, Step, Text
from .data import LabData
from .steps import Steps

#: Each network, and how it differs from those before it.
CHANGES = {
    "tanhnet": "the lab's network",
    "net_width": "twice the filters",
    "net_dropout": "wide, Dropout2d of 0.4",
    "net_batch_norm": "wide, batch normalization",
    "net_depth": "a third convolution, ReLU",
    "net_res": "deep, a skip connection",
    "net_res_deep_shared": "one residual block, used ten times",
    "net_res_deep": "ten residual blocks",
    "net_res_deep_projected": "ten blocks, 1×1 projection halfway",
}


@dataclass(frozen=True)
class Run:
    """A trained network.

    Attributes:
        network: Its name for `train`.
        trained: Its training.
        evaluated: The evaluation of its saved model on the training split.
    """

    network: str
    trained: Step
    evaluated: Step

    @property
    def steps(self) -> list[Step]:
        """Both commands."""
        return [self.trained, self.evaluated]

    @property
    def parameters(self) -> int:
        """The number of its parameters."""
        return int(self.trained.result["parameters"])

    @property
    def seconds(self) -> float:
        """The time of all epochs."""
        return float(sum(self.trained.result["epoch_seconds"]))

    @property
    def train_accuracy(self) -> float:
        """The accuracy of the saved model on the training split."""
        return float(self.evaluated.result["accuracy"])

    @property
    def val_accuracy(self) -> float | None:
        """The accuracy of the epoch that was kept; None without any epoch."""
        epoch = self.trained.result["evaluation"]["epoch"]
        return float(self.trained.result["history"][epoch - 1]["val_accuracy"]) if epoch else None

    @property
    def test_accuracy(self) -> float:
        """The accuracy of the saved model on the test split."""
        return float(self.trained.result["evaluation"]["accuracy"])


def answers_section(runs: dict[str, Run]) -> Section:
    """Return the chapter that compares each network with the one before its change."""
    shared, separate = runs["net_res_deep_shared"], runs["net_res_deep"]
    block = (separate.parameters - shared.parameters) // 9
    return Section(
        "The effect of each change",
        [
            Question(
                "Do more filters help?",
                [_compared(runs, "tanhnet", "net_width")],
            ),
            Question(
                "What do Dropout2d and batch normalization do to the same wide network?",
                [
                    _compared(runs, "net_width", "net_dropout"),
                    _compared(runs, "net_width", "net_batch_norm"),
                ],
            ),
            Question(
                "What does a skip connection add?",
                [
                    _compared(runs, "net_depth", "net_res"),
                    Text(
                        "It adds the input of the third convolution to its output, and has no "
                        "parameters."
                    ),
                ],
            ),
            Question(
                "Why do ten blocks have so few parameters?",
                [
                    Text(
                        "The lab multiplies a list of one block by ten. This repeats the same "
                        "block object: ten layers share one set of weights, and each update "
                        f"changes all of them. Ten separate blocks have {separate.parameters:,} "
                        f"parameters instead of {shared.parameters:,}: {block:,} more for each of "
                        "nine blocks.",
                        [shared.trained, separate.trained],
                    ),
                    _compared(runs, "net_res_deep_shared", "net_res_deep"),
                    Text(
                        "The batch normalization is shared too. It sees ten different inputs in "
                        "one pass, and its running statistics, the mean over all of them, fit "
                        "none. Accuracy in the last epoch on the training split, with the "
                        "statistics of each batch, and on the validation split, with the running "
                        f"statistics: {_gap(shared)} with the shared block, {_gap(separate)} with "
                        "ten separate blocks.",
                        [shared.trained, separate.trained],
                    ),
                ],
            ),
            Question(
                "How does a block go from 32 to 64 filters?",
                [
                    Text(
                        "Its input and output have different shapes, so the skip connection cannot "
                        "simply add them. A 1×1 convolution with a stride of 2 projects the input "
                        "(He et al., 2016, option B)."
                    ),
                    _compared(runs, "net_res_deep", "net_res_deep_projected"),
                ],
            ),
        ],
    )


def _compared(runs: dict[str, Run], before: str, after: str) -> Text:
    """Return a sentence that compares two networks."""
    first, second = runs[before], runs[after]
    return Text(
        f"From *{CHANGES[before]}* to *{CHANGES[after]}*: validation accuracy "
        f"{_change(first.val_accuracy, second.val_accuracy)}, training accuracy "
        f"{_change(first.train_accuracy, second.train_accuracy)}, {first.parameters:,} → "
        f"{second.parameters:,} parameters, {first.seconds:.1f} → {second.seconds:.1f} seconds.",
        [*first.steps, *second.steps],
    )


def _gap(run: Run) -> str:
    """Return the training and validation accuracy of the last epoch."""
    history = run.trained.result["history"]
    if not history:
        return "not measured"
    return f"{history[-1]['train_accuracy']:.1%} and {history[-1]['val_accuracy']:.1%}"


def _change(before: float | None, after: float | None) -> str:
    return "not measured" if before is None or after is None else f"{before:.3f} → {after:.3f}"


def mistakes_section(steps: Steps, data: LabData) -> Section:
    """Return the chapter about three mistakes in the text of the lab."""
    shape = "x".join(map(str, data.image_shape))
    summarized = steps.run("summary", "net_res_deep", input=shape, classes=2)
    block = [
        layer for layer in summarized.result["layers"] if layer["torch_path"].startswith("3.0.")
    ]
    convolution = next(layer for layer in block if layer["torch_class"] == "Conv2d")
    maps = convolution["output_shape"][0]
    with_bias = convolution["parameters"] + maps
    return Section(
        "Mistakes in the lab",
        [
            Text(
                '- `bias="False"`: a non-empty string is true, so the convolution before the '
                "batch normalization kept a bias, which the normalization cancels. With "
                f"`bias=False`, it has {convolution['parameters']:,} parameters instead of "
                f"{with_bias:,}.\n"
                "- `conv3d`: `nn.Conv3d` has three spatial axes and raises an error for images. "
                "Here, the third convolution is a `Conv2d` like the others.\n"
                "- `n_blocks * [ResBlock(...)]`: the same block ten times (see above). The table "
                "has both versions: as the lab wrote it, and as it was meant.",
                [summarized],
            )
        ],
    )
