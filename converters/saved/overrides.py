"""What the user says about a model, over what its file and what stands beside it say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from ..errors import LabelsError
from ..images.errors import PreprocessingError
from ..images.image_to_image import ImageToImage, SaidOutput
from ..images.mean_std import with_table
from ..images.normalization import NOTHING_SAID, Normalization, Numbers, describe_resizing
from ..images.preprocessing import ValueRange
from ..input_shapes import InputShapes, parse_inputs
from ..labels import check_labels, check_order, read_labels
from ..modules.channels import channel_misfit
from ..t7 import LuaTable
from .beside import Beside
from .errors import SavedModelError
from .image_projects import with_mask
from .input_trial import input_problem
from .model import SavedModel
from .shapes import infer_input_shape, infer_inputs, output_count, output_shape
from .told_inputs import told_inputs
from .training_batches import training_batch_notes

#: Channels of images with a mask → those of the images.
_WITHOUT_MASK = {4: 3, 2: 1}


@dataclass(frozen=True)
class Overrides:
    """What the user says about a model; the attributes are arguments of `open_model`."""

    labels: str | os.PathLike[str] | Sequence[str] | None = None
    mean_std: str | os.PathLike[str] | LuaTable | None = None
    normalization: Normalization = NOTHING_SAID
    input_size: tuple[int, int] | None = None
    input: InputShapes | str | None = None
    resize: str | None = None


def apply_overrides(
    model: SavedModel,
    name: str,
    *,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    mean_std: str | os.PathLike[str] | LuaTable | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    color: str | None = None,
    value_range: ValueRange | None = None,
    input_size: tuple[int, int] | None = None,
    input: InputShapes | str | None = None,
    resize: str | None = None,
) -> None:
    """Set what the user specifies about a model, and infer its input shape if it is not known.

    Args:
        model: The model, which is changed.
        name: The name of the model in error messages.
        labels: As for `open_model`.
        mean_std: As for `open_model`.
        mean: As for `open_model`.
        std: As for `open_model`.
        color: As for `open_model`.
        value_range: As for `open_model`.
        input_size: As for `open_model`.
        input: As for `open_model`.
        resize: As for `open_model`.

    Raises:
        TorchliftError: If something does not fit the model (see `open_model`).

    Example:
        >>> from torch import nn
        >>> from torchlift.converters.saved import SavedModel
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
        >>> model = SavedModel(network, "logits", input_shape=(1, 2, 2))
        >>> apply_overrides(model, "pets", labels=["cat", "dog"], mean=[60], std=[85])
        >>> model.labels, model.preprocessing.value_range
        (['cat', 'dog'], 255)
    """
    normalization = Normalization.of(mean, std, color, value_range)
    said = Overrides(labels, mean_std, normalization, input_size, input, resize)
    override(model, name, said, Beside())


def override(model: SavedModel, name: str, said: Overrides, beside: Beside) -> None:
    """Set what is said about a model, and what stands beside it of which nothing is said.

    Args:
        model: The model, which is changed.
        name: The name of the model in error messages.
        said: What the user says.
        beside: What stands beside the model.

    Raises:
        TorchliftError: If something that is said does not fit the model.
    """
    model.notes += beside.notes
    model.vocabularies += beside.vocabularies
    if said.input is not None:
        _set_inputs(model, name, said.input)
    else:
        _set_input_shape(model, name, said.input_size)
    if said.labels is not None:
        # What is wrong with names that are replaced is no matter; another order of them is.
        model.labels = model.labels or next((one.names for one in beside.labels), None)
        _set_labels(model, _names(said.labels))
    else:
        _set_labels_beside(model, beside)
    if said.normalization.is_empty and said.mean_std is None and beside.normalization is None:
        if said.resize is not None:
            _set_resizing(model, name, said.resize)
    else:
        _set_preprocessing(model, name, said, beside)
    notes = training_batch_notes(model.module, model.input_shapes)
    model.notes += [note for note in notes if note not in model.notes]


def _set_input_shape(model: SavedModel, name: str, size: tuple[int, int] | None) -> None:
    """Set the input shape to the given size, or infer it if it is not known."""
    if size is None:
        if model.input_shapes is None:
            _infer_inputs(model)
        return
    shape = infer_input_shape(model.module, size)
    if shape is None:
        known = model.input_shape or infer_input_shape(model.module)
        hint = "" if known is None else f"; {known[1]}×{known[2]} fits"
        channels = 3 if known is None else known[0]
        shapes = InputShapes.single((channels, *size))
        reason = input_problem(model.module, shapes) or "it gives no row of outputs for each image"
        raise SavedModelError(
            f"{name}: the network takes no input of {size[0]}×{size[1]}{hint}: {reason}"
        )
    model.inputs = None
    model.input_shape = shape
    _resize_images(model, size)


def _infer_inputs(model: SavedModel) -> None:
    """Set what the network takes, as its layers tell, or what it took when the file was saved."""
    model.inputs = infer_inputs(model.module)
    if model.inputs is None:
        model.input_shape = infer_input_shape(model.module)
    told = told_inputs(model.module)
    if told is not None and str(told[0]) != str(model.input_shapes):
        model.set_inputs(told[0])
        model.notes.append(f"the input is {told[0]}, as the file's {told[1]} tells")


def _set_inputs(model: SavedModel, name: str, given: InputShapes | str) -> None:
    """Set what the network takes, once it has been tried."""
    shapes = parse_inputs(given) if isinstance(given, str) else given
    if problem := input_problem(model.module, shapes):
        raise SavedModelError(f"{name}: the network does not take {shapes}: {problem}")
    model.set_inputs(shapes)
    if model.input_shape is not None:
        _resize_images(model, (model.input_shape[1], model.input_shape[2]))


def _resize_images(model: SavedModel, size: tuple[int, int]) -> None:
    """Have images resized to what the network takes, unless they become as large already."""
    known = model.preprocessing
    if known is not None and size != (known.crop or known.size):
        model.preprocessing = replace(known, size=size, crop=None)


def _set_labels(model: SavedModel, names: list[str]) -> None:
    """Set the class names; their number is checked if the number of outputs is known.

    Raises:
        LabelsError: If the number is wrong, or they are the model's own names in another order.
    """
    check_order(names, model.labels)
    shape = output_shape(model.module, model.input_shape) if model.input_shape else None
    outputs = shape[1] if shape else output_count(model.module)
    if outputs is not None:
        check_labels(names, outputs)
    model.labels = names


def _set_labels_beside(model: SavedModel, beside: Beside) -> None:
    """Set the first class names beside the model that fit it; others are named in notes."""
    for one in beside.labels:
        if model.labels is not None:
            if model.labels != one.names:
                model.notes.append(f"{one.path} beside the model is left out: it has other names")
            continue
        try:
            _set_labels(model, one.names)
        except LabelsError as error:
            model.notes.append(f"{one.path} beside the model is left out: {error}")


def _names(labels: str | os.PathLike[str] | Sequence[str]) -> list[str]:
    return read_labels(labels) if isinstance(labels, (str, os.PathLike)) else list(labels)


def _set_preprocessing(model: SavedModel, name: str, said: Overrides, beside: Beside) -> None:
    """Set the preprocessing that is said or stands beside the model; what is said wins."""
    given = said.normalization
    try:
        if said.mean_std is None and model.preprocessing is not None:
            given.require_same(model.preprocessing)
            if said.resize is not None:
                _set_resizing(model, name, said.resize)
            return
        if said.mean_std is not None:
            given, name = with_table(given, name, said.mean_std)
    except PreprocessingError as error:
        raise PreprocessingError(f"{name}: {error}") from None
    known = beside.normalization or NOTHING_SAID
    is_said = not given.is_empty or said.resize is not None
    if is_said and _takes_no_images(model):
        raise PreprocessingError(
            f"{name}: the network takes {model.inputs}, no images: leave out what is said of them"
        )
    if not is_said and not _may_take_images(model):
        model.notes.append("mean and std beside the model are left out: it takes no images")
        return
    try:
        model.preprocessing, note = given.over(known).preprocessing(
            model.input_shape, _image_channels(model), said.resize
        )
    except PreprocessingError as error:
        if is_said:
            problem = channel_misfit(model.module) or error
            raise PreprocessingError(f"{name}: {problem}") from None
        model.notes.append(f"mean and std beside the model are left out: {error}")
        return
    replaced = [
        one for one in ("mean", "std", "color", "value_range") if _differs(one, given, known)
    ]
    if replaced:
        note += f"; {', '.join(replaced)} as given, not as beside the model"
    _set_image_to_image(model, given, beside)
    model.notes.append(note)


def _set_image_to_image(model: SavedModel, given: Normalization, beside: Beside) -> None:
    """Set how outputs become images where the project tells; what is said of inputs holds too."""
    assert model.preprocessing is not None
    takes_mask = _image_channels(model) != first_channels(model.module)
    output = None
    if beside.project is not None:
        output = beside.project.image_to_image(model.preprocessing)
        said = SaidOutput(given.value_range, given.color)
        output = output if beside.project.output is None else said.over(output, model.preprocessing)
        model.notes.append(f"images are prepared and written as in {beside.project.name}")
    if takes_mask and not (output is not None and output.takes_mask):
        output = with_mask(output or ImageToImage(model.preprocessing.value_range))
    model.image_to_image = output


def _differs(name: str, given: Normalization, known: Normalization) -> bool:
    """Return whether what is given replaces something that stands beside the model."""
    mine, other = getattr(given, name), getattr(known, name)
    return mine is not None and other is not None and mine != other


def first_channels(module: nn.Module) -> int | None:
    """Return how many channels a network takes, if its first layer is a convolution of images."""
    layers = (layer for layer in module.modules() if any(True for _ in layer.parameters(False)))
    first = next(layers, None)
    return getattr(first, "in_channels", None) if isinstance(first, nn.Conv2d) else None


def _image_channels(model: SavedModel) -> int | None:
    """Return how many channels images have, if the first layer tells: one may be for a mask."""
    channels = first_channels(model.module)
    return _WITHOUT_MASK.get(channels, channels) if channels else None


def _takes_no_images(model: SavedModel) -> bool:
    """Return whether it is known what a model takes, and that no input has an image's axes."""
    shapes = model.inputs
    if shapes is None or _may_take_images(model):
        return False
    return all(len(leaf.example_axes) < 3 for leaf in shapes.leaves())


def _may_take_images(model: SavedModel) -> bool:
    return model.input_shape is not None or first_channels(model.module) is not None


def _set_resizing(model: SavedModel, name: str, choice: str) -> None:
    if model.preprocessing is None:
        raise PreprocessingError(f"{name}: resize={choice} needs mean and std too")
    model.preprocessing = model.preprocessing.resized_by(choice)
    model.notes.append(f"{describe_resizing(model.preprocessing)}, as specified")
