"""The options that say of an `.onnx` file what it does not say itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .model_options import DescriptionOptions

if TYPE_CHECKING:
    from ..converters.inference.onnx_overrides import OnnxOverrides


@dataclass(frozen=True)
class OutputOptions:
    """What an .onnx file of another program gives.

    Attributes:
        output_kind: What its scores are, where the file does not say it; by default as the graph
            tells: probabilities behind a last Softmax, log_probabilities behind a LogSoftmax,
            features behind a Sigmoid, logits behind anything else.
        output_name: Which of its outputs the scores are, where it has several.
    """

    output_kind: Literal["logits", "log_probabilities", "probabilities", "features"] | None = None
    output_name: str | None = None

    def given_output(self) -> dict[str, Any]:
        """Return what was given, as `open_predictor` takes it."""
        values = {"output_kind": self.output_kind, "output_name": self.output_name}
        return {name: value for name, value in values.items() if value is not None}


#: As the graph tells.
AS_THE_GRAPH_TELLS = OutputOptions()


@dataclass(frozen=True)
class OnnxOptions(DescriptionOptions, OutputOptions):
    """What the file does not say itself."""

    def overrides(self, replaces: bool = False) -> OnnxOverrides:
        """Return what was given.

        Args:
            replaces: Whether it counts over what the file says.

        Raises:
            TorchliftError: when a file that is named cannot be read.
        """
        from ..converters.inference.onnx_overrides import OnnxOverrides

        return OnnxOverrides.of(**self.description(), **self.given_output(), replaces=replaces)


#: Nothing is said.
AS_THE_FILE_SAYS = OnnxOptions()
