"""The options that say of an `.onnx` file what it does not say itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .model_options import DescriptionOptions, ScoreOptions

if TYPE_CHECKING:
    from ..converters.inference.onnx_overrides import OnnxOverrides


@dataclass(frozen=True)
class OnnxOptions(DescriptionOptions, ScoreOptions):
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
