"""`torchlift calibrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group

from ..converters.errors import TorchliftError
from .data_options import ALL_DATA, DataOptions
from .model_options import FILE_DEFAULTS, ModelOptions
from .outputs import output_suffix
from .result import CommandResult, table
from .values import Count, Provider

if TYPE_CHECKING:
    from ..transfer.data import Dataset, ImageFiles
    from ..transfer.evaluation import Evaluation


def calibrate(
    model: str,
    data: str,
    output: str,
    *,
    test_data: str | None = None,
    batch_size: Count = 64,
    provider: Provider = "auto",
    overwrite: bool = False,
    model_options: ModelOptions = FILE_DEFAULTS,
    data_options: DataOptions = ALL_DATA,
) -> CommandResult:
    """Write a classifier whose probabilities say how often it is right (temperature scaling).

    Its logits are divided by one number, which is the best for images that it was not trained on.
    The predicted classes stay as they are. The number is part of the saved model, and of every file
    that is exported from it.

    Args:
        model: A .t7 file, a saved model's folder or hf:ORG/NAME; torchvision:NAME or timm:NAME; or
            python:package.module:function.
        data: Labeled images that the model was not trained on: all of them, or the val split where
            the data has splits.
        output: A folder for the saved model.
        test_data: Labeled images to measure the result on; by default the data's test split, if it
            has one.
        batch_size: How many images are run together.
        provider: What to run on: auto, cpu or cuda.
        overwrite: Replace a saved model that is there.
        model_options: How to open the model.
        data_options: Which images are used.
    """
    output_suffix(output, [""])
    from ..converters.inference import TorchPredictor
    from ..converters.overwriting import check_output_folder
    from ..converters.saved import save
    from ..converters.saved.folder import SAVED_MODEL
    from ..transfer.calibration import find_temperature, with_temperature
    from ..transfer.evaluation import evaluate

    check_output_folder(output, SAVED_MODEL, overwrite)
    opened = model_options.model(model)
    sets = _images(data, test_data, data_options)
    by = data_options.match_classes

    def measured() -> list[Evaluation]:
        predictor = TorchPredictor(opened, provider)
        return [evaluate(predictor, images, batch_size, by) for images in sets.values()]

    before = measured()
    temperature = find_temperature(TorchPredictor(opened, provider), sets["val"], by, batch_size)
    save(with_temperature(opened, temperature), output, overwrite=overwrite)
    after = measured()
    results = [
        {"split": name, "count": old.count, "before": _scores(old), "after": _scores(new)}
        for name, old, new in zip(sets, before, after, strict=True)
    ]
    remarks = (*(note for images in sets.values() for note in images.notes), *before[0].notes)
    notes = [*dict.fromkeys((*remarks, *opened.notes))]
    view = table(
        *("images", "count", "accuracy", "loss", "calibrated", "ECE", "calibrated"),
        right=("count", "accuracy", "loss", "calibrated", "ECE"),
    )
    for name, old, new in zip(sets, before, after, strict=True):
        losses, errors = (old.loss, new.loss), (old.ece, new.ece)
        numbers = (f"{value:.4f}" for value in (new.accuracy, *losses, *errors))
        view.add_row(name, f"{old.count:,}", *numbers)
    return CommandResult(
        {
            "model": model,
            "data": data,
            "temperature": temperature,
            "results": results,
            "files": [output],
            "notes": notes,
        },
        Group(
            f"temperature {temperature:.4g}",
            "",
            view,
            *(f"note: {note}" for note in notes),
            f"wrote {output}",
        ),
    )


def _images(
    data: str, test_data: str | None, options: DataOptions
) -> dict[str, Dataset | ImageFiles]:
    """Return the images to calibrate on, as `val`, and those to measure on, if any, as `test`.

    Raises:
        TorchliftError: If they cannot be read, or their splits leave open which to calibrate on.
    """
    from ..transfer.data import test_split

    images = options.open(data)
    sets = {"val": images}
    if options.split is None and images.splits is not None:
        there = [name for name in ("train", "val", "test") if (images.splits == name).any()]
        if "val" not in there and len(there) > 1:
            raise TorchliftError(
                f"{data} has the splits {' and '.join(there)}, and no val: name the one to "
                "calibrate on with --split"
            )
        for name in ("val", "test"):
            if name in there and len(there) > 1:
                sets[name] = images.take(np.flatnonzero(images.splits == name))
    if test_data is not None:
        sets["test"] = test_split(options.open(test_data, as_test_data=True))
    return sets


def _scores(result: Evaluation) -> dict[str, Any]:
    values = result.to_json()
    return {name: values[name] for name in ("accuracy", "loss", "ece")}
