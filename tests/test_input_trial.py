"""Trying what a network takes: inputs of every kind, sizes that are free, and who refuses them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters import convert
from torchlift.converters.input_shapes import InputShape, parse_inputs
from torchlift.converters.saved.input_trial import (
    example_inputs,
    free_size,
    input_problem,
    refusal,
    torch_dtype,
)
from torchlift.converters.t7 import LuaObject, LuaTable


def test_examples_are_ones_in_the_tables_and_types_that_are_told() -> None:
    one = example_inputs(parse_inputs("3x?:int64"), batch=5, free=7)
    assert (one.shape, one.dtype) == ((5, 3, 7), torch.int64)
    assert (one == 1).all()
    first, (second, third) = example_inputs(parse_inputs("9,[?xN,4:bool]"))
    assert [tuple(each.shape) for each in (first, second, third)] == [(2, 9), (64, 2), (2, 4)]
    assert [each.dtype for each in (first, second, third)] == [
        *(torch.float32, torch.float32, torch.bool)
    ]
    drawn: list[Any] = []

    def draw(shape: InputShape, sizes: tuple[int, ...]) -> torch.Tensor:
        drawn.append((str(shape), sizes))
        return torch.zeros(sizes)

    assert not example_inputs(parse_inputs("tx3"), 4, 6, draw).any()
    assert drawn == [("tx3", (4, 6, 3))]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (None, torch.float32),
        ("float64", torch.float32),
        ("float16", torch.float32),
        ("int64", torch.int64),
        ("uint8", torch.uint8),
        ("bool", torch.bool),
    ],
)
def test_an_exported_network_takes_single_precision_and_whole_numbers_as_they_are(
    dtype: str | None, expected: torch.dtype
) -> None:
    assert torch_dtype(InputShape(("N", 3), dtype)) == expected


class Takes(nn.Module):
    """A layer that takes tensors with some lengths of the last axis only."""

    def __init__(self, *lengths: int) -> None:
        super().__init__()
        self.lengths = lengths

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.shape[-1] not in self.lengths:
            raise ValueError(f"{input.shape[-1]} is none of {self.lengths}")
        return input


@pytest.mark.parametrize(
    ("inputs", "lengths", "size"),
    [
        # The usual sizes of images and volumes, and of sequences, in the order that they are tried.
        ("3x?x?", (16, 32, 64, 128, 224, 256), 64),
        ("3x?x?", (16, 32, 128, 224, 256), 128),
        ("3x?x?", (16, 32, 224, 256), 224),
        ("3x?x?", (16, 32, 256), 256),
        ("3x?x?", (16, 32), 32),
        ("3x?x?x?", (16, 12), 16),
        ("3x?x?", (12, 512), None),
        ("3x?", (12, 32, 64), 12),
        ("3x?", (16, 1024), 1024),
        ("3x?", (512, 1024), 512),
        ("3x?", (16, 224), None),
        # Nothing is free: any size will do.
        ("3x5x5", (5,), 64),
        ("5", (5,), 12),
        ("4", (5,), None),
    ],
)
def test_free_axes_get_the_first_usual_size_that_a_network_takes(
    inputs: str, lengths: tuple[int, ...], size: int | None
) -> None:
    shapes = parse_inputs(inputs)
    assert free_size(Takes(*lengths), shapes) == size
    problem = input_problem(Takes(*lengths), shapes)
    assert (problem == "") is (size is not None)
    if size is None:
        # The sentence is about the first size of images.
        tried = 64 if shapes.has_free_axes else 4
        assert problem == f"{tried} is none of {lengths}"


class ByValue(nn.Module):
    """A layer that must see a value, which a trial without values has not."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, dtype=dtype))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.dtype not in (self.scale.dtype, torch.int64):
            raise TypeError(f"{input.dtype} for {self.scale.dtype}")
        if input.flatten()[0].item() != 1:
            raise ValueError("the first number is not 1")
        return input * self.scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_that_must_see_values_is_run_in_its_own_precision(dtype: torch.dtype) -> None:
    module = ByValue(dtype).eval()
    assert refusal(module, torch.ones(2, 3)) == ""
    assert refusal(module, torch.ones(2, 3, dtype=torch.int64)) == ""
    assert "the first number is not 1" in refusal(module, torch.zeros(2, 3))
    # One without values cannot be run at all: then it is the trial that tells.
    own = torch.ones(2, 3, dtype=dtype)
    assert refusal(nn.Sequential(module), own - 1).startswith("layer 0, ByValue()")
    assert "item()" in refusal(module.to("meta"), own)


class Both(nn.Module):
    """A layer of an image and of twelve steps, or of whole numbers that it must see."""

    def forward(self, inputs: list[torch.Tensor] | torch.Tensor) -> torch.Tensor:
        if isinstance(inputs, torch.Tensor):
            if inputs.dtype != torch.int64 or inputs.max().item() != 1:
                raise TypeError("whole numbers were expected")
            return inputs
        if inputs[1].shape[1] != 12:
            raise ValueError("twelve steps were expected")
        return inputs[0]


def test_sizes_of_images_are_tried_if_all_inputs_are_images() -> None:
    assert free_size(Both(), parse_inputs("3x?x?,?x5")) == 12
    assert refusal(Both(), torch.ones(2, 3, dtype=torch.int64)) == ""


def test_batch_normalization_of_torch7_takes_rows_alone() -> None:
    fields: dict[str, Any] = {
        name: np.ones(4, np.float32) for name in ("weight", "bias", "running_mean", "running_var")
    }
    fields |= {"eps": 1e-5, "momentum": 0.1, "affine": True}
    converted = convert(LuaObject("nn.BatchNormalization", LuaTable(fields))).eval()
    assert refusal(converted, torch.ones(2, 4)) == ""
    assert "takes at most 2 dimensions, the batch included" in refusal(
        converted, torch.ones(2, 4, 4)
    )


def test_no_hook_of_a_trial_stays_at_a_network() -> None:
    fields = {"weight": np.ones((2, 4), np.float32), "bias": np.zeros(2, np.float32)}
    converted = convert(LuaObject("nn.Linear", LuaTable(fields))).eval()
    refusal(converted, torch.ones(2, 3, 4))
    assert not converted._forward_pre_hooks
    assert converted(torch.ones(2, 3, 4)).shape == (2, 3, 2)
