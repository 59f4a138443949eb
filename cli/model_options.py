"""The options of every command that opens a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..converters.errors import TorchliftError
from ..converters.input_shapes import InputShapes
from .errors import UsageError

if TYPE_CHECKING:
    from ..converters.images.image_to_image import ImageToImage, SaidOutput
    from ..converters.inference import Predictor
    from ..converters.modules.selfcheck import SelfCheck
    from ..converters.saved import SavedModel


@dataclass(frozen=True)
class PreprocessingOptions:
    """What the network's inputs are.

    Attributes:
        mean: Mean of the pixels: a number, or three with commas between, in the order that the
            network sees; or imagenet, with --std imagenet.
        std: Std of the pixels, as --mean.
        color: What the network sees: RGB, BGR or gray.
        value_range: What 0 to 255 become before mean and std: 1 for 0 to 1, 255, or LO,HI such as
            -1,1; by default told by the numbers.
    """

    mean: list[float] | Literal["imagenet"] | None = None
    std: list[float] | Literal["imagenet"] | None = None
    color: Literal["RGB", "BGR", "gray"] | None = None
    value_range: list[float] | None = None

    def __post_init__(self) -> None:
        if self.given():
            from ..converters.images.normalization import Normalization

            Normalization.of(**self.given())

    def given(self) -> dict[str, Any]:
        """Return what was given, as `open_model` takes it."""
        names = ("mean", "std", "color", "value_range")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def require_of_onnx(self, file: str) -> None:
        """Check that an `.onnx` file says the same of its preprocessing as what was given.

        Raises:
            TorchliftError: when it says something else, or nothing.
        """
        if not self.given():
            return
        from ..converters.images.errors import PreprocessingError
        from ..converters.images.normalization import Normalization
        from ..converters.onnx.onnx_file import read_file

        try:
            read_file(file)[1].require_normalization(Normalization.of(**self.given()))
        except PreprocessingError as error:
            raise TorchliftError(f"{file}: {error}") from None


#: Everything as the file itself says.
AS_IN_THE_FILE = PreprocessingOptions()


@dataclass(frozen=True)
class ScoreOptions:
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
AS_THE_GRAPH_TELLS = ScoreOptions()


@dataclass(frozen=True)
class DescriptionOptions(PreprocessingOptions):
    """What a file does not say itself.

    Attributes:
        labels: Class names: a .t7 or .lua list, or a text file with one name a line.
        mean_std: A .t7, JSON or YAML file with mean and std, in the channels' order.
        input_size: Height and width of the input, such as 224 or 240x320, where the model does not
            determine them.
        resize: How images are resized, such as pil-bicubic, or image.scale-bicubic:^256 to resize
            the shorter side and then crop the center.
    """

    labels: str | None = None
    mean_std: str | None = None
    input_size: tuple[int, int] | None = None
    resize: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mean_std is not None and not (self.mean is self.std is None):
            raise UsageError("--mean-std holds mean and std: leave out --mean and --std")
        if self.resize is not None:
            from ..converters.images import Preprocessing

            Preprocessing().resized_by(self.resize)

    def description(self) -> dict[str, Any]:
        """Return all of it, as `open_model` takes it."""
        return {
            "labels": self.labels,
            "mean_std": self.mean_std,
            **self.given(),
            "input_size": self.input_size,
            "resize": self.resize,
        }


@dataclass(frozen=True)
class ModelOptions(DescriptionOptions):
    """How to open the model.

    Attributes:
        weights: The tensors of a network of torchvision, timm or a function: .safetensors, .pth or
            .pt; a .t7 of tensors, which are matched by order and shape; or the name of weights in
            the library's cache, such as IMAGENET1K_V1, a1_in1k or DEFAULT.
        download: Fetch weights that torchvision or timm publishes and that are not in the cache.
        at: The path of the model in a .t7 that holds several, such as protos.cnn; or that of the
            weights.
        input: The shape of one example for each input, such as '3x224x224', '9', '?x20' (a free
            axis), '63:int64' or '16,4xN:int64' (two inputs; N is the batch where it is not in
            front), where the model does not determine it.
        plugin: A Python file with converters for classes of your own; it is run.
    """

    weights: str | None = None
    download: bool = False
    at: str | None = None
    input: InputShapes | None = None
    plugin: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input is not None and self.input_size is not None:
            sizes = [leaf.example_axes[-2:] for leaf in self.input.leaves()]
            if sizes != [self.input_size]:
                height, width = self.input_size
                raise TorchliftError(
                    f"input={self.input} and input_size={height}x{width} do not agree: give one"
                )

    def model(self, path: str, keep_dtype: bool = False) -> SavedModel:
        """Return the model of a `.t7` file, a saved model's folder, a library or a function.

        Args:
            path: The model.
            keep_dtype: Whether the parameters of a file keep their dtype; else they are float32.

        Raises:
            TorchliftError: If it cannot be opened.
        """
        from ..converters.saved.hub import model_path
        from ..transfer.network_by_name import load_network

        if Path(path).suffix.lower() in (".onnx", ".pt2"):
            raise TorchliftError(
                f"{path} is an exported graph: name the model that it was made from (a .t7 file, a "
                "saved model's folder, torchvision:NAME, timm:NAME, hf:FOLDER or "
                "python:package.module:function)"
            )
        dtype = {"dtype": None} if keep_dtype and model_path(path).exists() else {}
        named = {"download": self.download, **self._options(), **dtype}
        return load_network(path, self.weights, **named)

    def predictor(
        self, path: str, provider: str, output: ScoreOptions = AS_THE_GRAPH_TELLS
    ) -> Predictor:
        """Return a model of any kind, an `.onnx` file too, ready to run.

        Args:
            path: The model.
            provider: What it runs on.
            output: What an `.onnx` file gives.

        Raises:
            TorchliftError: when it cannot be opened.
        """
        from ..converters.inference import TorchPredictor, open_predictor
        from ..converters.saved import is_saved_model
        from ..converters.saved.hub import model_path

        given = output.given_output()
        if Path(path).suffix.lower() == ".onnx":
            if self.download:
                raise TorchliftError(f"{path}: download=True is not for an .onnx file")
            options = {**self._options(), **given, "weights": self.weights}
            return open_predictor(path, provider, **options)
        if given:
            raise TorchliftError(f"{path}: {next(iter(given))}=… is for an .onnx file")
        model = self.model(path)
        predictor = TorchPredictor(model, provider)
        place = model_path(path)
        if not place.is_file() and not is_saved_model(place):
            predictor.note = "; ".join(model.notes)
        elif self.mean_std is not None or self.resize is not None or self.given():
            # What these options decided is noted last; the notes before it are part of the result
            # of the file's conversion.
            predictor.note = model.notes[-1] if model.notes else ""
        return predictor

    def self_check(self, path: str, tolerance: float) -> SelfCheck:
        """Return the model of a `.t7` compared with the activations that the file keeps.

        Raises:
            TorchliftError: when it cannot be opened.
        """
        from ..converters.modules import load_conversion
        from ..converters.modules.selfcheck import self_check

        run_plugin(self.plugin)
        return self_check(load_conversion(path, self.at), tolerance=tolerance)

    def _options(self) -> dict[str, Any]:
        run_plugin(self.plugin)
        return {
            "at": self.at,
            **self.description(),
            "input": self.input,
        }


@dataclass(frozen=True)
class OutputOptions:
    """How outputs become images.

    Attributes:
        output_range: Which values are black and white, 0 and 255 in the image: 1 for 0 to 1, 255,
            or LO,HI such as -1,1; by default as --value-range.
        output_color: The channels of the output: RGB, BGR or gray; by default as --color.
        output_mean: Undo mean and std on the way out.
    """

    output_range: list[float] | None = None
    output_color: Literal["RGB", "BGR", "gray"] | None = None
    output_mean: bool = False

    def __post_init__(self) -> None:
        if self.output_range is not None:
            self.said()

    def said(self) -> SaidOutput:
        """Return what was given, as the library takes it.

        Raises:
            TorchliftError: when the range is none.
        """
        from ..converters.images.image_to_image import SaidOutput

        return SaidOutput.of(self.output_range, self.output_color, self.output_mean)

    def set_on(self, model: SavedModel, path: str) -> None:
        """Set what was given on a model that will be written.

        Raises:
            TorchliftError: when the model has no preprocessing, or is a saved one with other
                values.
        """
        from ..converters.images.errors import PreprocessingError
        from ..converters.saved.hub import model_path

        if self == AS_THE_INPUT:
            return
        try:
            if model.preprocessing is None:
                model.image_to_image = _of_generator(self.said())
                return
            if model_path(path).is_dir():
                self.said().require_same(model.image_to_image, model.preprocessing)
            model.image_to_image = self.said().over(model.image_to_image, model.preprocessing)
        except PreprocessingError as error:
            raise PreprocessingError(f"{path}: {error}") from None


def _of_generator(said: SaidOutput) -> ImageToImage:
    """Return how the outputs of a network become images that takes none.

    Raises:
        TorchliftError: when their range is not said.
    """
    from ..converters.images.errors import PreprocessingError
    from ..converters.images.image_to_image import ImageToImage

    if said.range is None or said.mean:
        raise PreprocessingError(
            "what values the network takes is not known: give value_range=…, or, for a generator, "
            "output_range=… alone"
        )
    return ImageToImage(said.range, said.color)


#: Outputs are as inputs.
AS_THE_INPUT = OutputOptions()

#: Everything as the file itself has it.
FILE_DEFAULTS = ModelOptions()


def run_plugin(file: str | None) -> None:
    """Run the file that --plugin names, if any."""
    if file is not None:
        from ..converters.modules.plugin import load_plugin

        load_plugin(file)
