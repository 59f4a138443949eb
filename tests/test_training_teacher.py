"""`--teacher`: an older network's probabilities are learned beside the labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import FIXTURES
from torch import nn
from torch.nn import functional

from torchlift.cli.main import main
from torchlift.converters.errors import NotFiniteError, TorchliftError
from torchlift.converters.images import Preprocessing
from torchlift.converters.inference.prepare import prepare
from torchlift.converters.saved import SavedModel, save
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import TrainingError
from torchlift.transfer.training import loop
from torchlift.transfer.training.loop import _taught
from torchlift.transfer.training.options import Distillation
from torchlift.transfer.training.teacher import Teacher, distillation_loss, open_teacher

DIGITS = FIXTURES / "digits"


def classifier(
    preprocessing: Preprocessing | None, channels: int, size: int = 4, classes: int = 3
) -> SavedModel:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes)).eval()
    shape = (channels, size, size)
    return SavedModel(network, "logits", shape, list("xyzuvw"[:classes]), preprocessing)


def test_the_loss_is_that_of_hinton_and_others() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, soft = torch.randn(2, 6, 4, generator=draw, dtype=torch.float64)
    student, teacher = (logits / 3).softmax(1), (soft / 3).softmax(1)
    expected = 9 * (teacher * (teacher / student).log()).sum()
    found = distillation_loss(logits, soft.log_softmax(1), 3.0)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("weight", [0.1, 0.25, 1.0])
def test_the_weight_divides_the_loss_between_labels_and_teacher(weight: float) -> None:
    draw = torch.Generator().manual_seed(0)
    logits, soft = torch.randn(2, 6, 4, generator=draw, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    options = Distillation("teacher", teacher_weight=weight, temperature=2.0)
    found = _taught(functional.cross_entropy, options, logits, labels, soft.log_softmax(1))
    apart = functional.cross_entropy(logits, labels)
    together = distillation_loss(logits, soft.log_softmax(1), 2.0)
    torch.testing.assert_close(found, (1 - weight) * apart + weight * together)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2,) * 3), Preprocessing(color="BGR")),
        (Preprocessing(color="BGR", value_range=255), Preprocessing(value_range=(-1, 1))),
        (Preprocessing(value_range=(-1, 1)), Preprocessing(std=(0.5,) * 3)),
        (Preprocessing(color="gray", mean=(9.0,), value_range=255), Preprocessing(std=(0.1,) * 3)),
    ],
)
def test_the_teacher_gets_its_own_inputs(before: Preprocessing, after: Preprocessing) -> None:
    channels = 1 if before.color == "gray" else 3
    pixels = np.random.default_rng(0).integers(0, 256, (5, channels, 4, 4)).astype(np.uint8)
    teacher = classifier(after, 3)
    inputs = torch.from_numpy(prepare(pixels, before))
    own = torch.from_numpy(prepare(pixels, after))
    expected = teacher.module(own).log_softmax(1)
    found = Teacher(teacher, classifier(before, channels), [0, 1, 2])(inputs)
    # The way back to pixels and forth rounds some times.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_gray_teacher_sees_the_luma_of_colors() -> None:
    """The weights are those of ITU-R BT.601, with which Pillow turns an image gray."""
    teacher = classifier(Preprocessing(color="gray"), 1)
    pixels = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    luma = (pixels * torch.tensor([0.299, 0.587, 0.114]).view(-1, 1, 1)).sum(1, keepdim=True)
    found = Teacher(teacher, classifier(Preprocessing(), 3), [0, 1, 2])(pixels)
    torch.testing.assert_close(found, teacher.module(luma).log_softmax(1))


def test_a_teacher_of_another_size_gets_resized_inputs() -> None:
    scale = Preprocessing(color="gray", mean=(0.5,), std=(0.5,))
    found = Teacher(classifier(scale, 1, 8), classifier(scale, 1, 4), [0, 1, 2])
    assert found(torch.zeros(2, 1, 4, 4)).shape == (2, 3)


def test_larger_inputs_are_made_smaller_as_pillow_does_it() -> None:
    """Each pixel is a mean of all that it covers; without, every second one would be lost."""
    scale = Preprocessing(color="gray", mean=(0.5,), std=(0.5,))
    inputs = np.random.default_rng(0).normal(size=(3, 1, 16, 16)).astype(np.float32)
    small = [
        Image.fromarray(image[0]).resize((4, 4), Image.Resampling.BILINEAR) for image in inputs
    ]
    model = classifier(scale, 1, 4)
    expected = model.module(torch.from_numpy(np.stack(small))[:, None]).log_softmax(1)
    found = Teacher(model, classifier(scale, 1, 16), [0, 1, 2])(torch.from_numpy(inputs))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("last", "kind"), [(nn.Softmax(1), "probabilities"), (nn.LogSoftmax(1), "log_probabilities")]
)
def test_a_teacher_may_give_probabilities(last: nn.Module, kind: str) -> None:
    model = classifier(None, 1)
    inputs = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = model.module(inputs).log_softmax(1)
    model.module, model.output_kind = nn.Sequential(model.module, last).eval(), kind
    teacher = Teacher(model, model, [0, 1, 2])
    torch.testing.assert_close(teacher(inputs), expected)
    # A probability that is 0 in float32 has no logarithm, and the loss stays a number all the same.
    assert torch.isfinite(teacher(1000 * inputs)).all() or kind == "log_probabilities"


def test_a_teacher_that_is_damaged_teaches_nothing() -> None:
    model = classifier(None, 1)
    nn.init.constant_(model.module.get_parameter("1.bias"), float("nan"))
    with pytest.raises(NotFiniteError, match=r"1\.bias"):
        Teacher(model, classifier(None, 1), [0, 1, 2])


def data(names: tuple[str, ...] | None, classes: int = 3) -> Dataset:
    return Dataset(np.zeros((6, 1, 4, 4), np.uint8), np.arange(6) % classes, names)


def opened(model: SavedModel, images: Dataset, folder: Path) -> Teacher:
    save(model, folder / "teacher")
    student = classifier(Preprocessing(color="gray"), 1)
    teacher = open_teacher(Distillation(str(folder / "teacher")), student, images)
    assert teacher is not None
    return teacher


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    model = classifier(Preprocessing(color="gray"), 1, classes=4)
    inputs = torch.rand(5, 1, 4, 4)
    teacher = opened(model, data(("u", "x"), 2), tmp_path)
    # Of the teacher's classes, those that the data has, in the data's order.
    expected = model.module(inputs)[:, [3, 0]].log_softmax(1)
    torch.testing.assert_close(teacher(inputs), expected)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (data(("x", "q", "y")), "the teacher has no class q"),
        (data(None, 2), "has 3 outputs, the data 2 classes, and names on one side only"),
    ],
)
def test_a_teacher_of_other_classes_is_refused(
    images: Dataset, message: str, tmp_path: Path
) -> None:
    with pytest.raises(TorchliftError, match=message):
        opened(classifier(Preprocessing(color="gray"), 1), images, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"teacher_weight": 0.0},
        {"teacher_weight": -0.5},
        {"teacher_weight": 1.001},
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="must be"):
        Distillation("teacher", **options)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the LeNet-5 that Torch7 trained on digits."""
    folder = tmp_path_factory.mktemp("teacher") / "lenet5"
    scale = ["--mean-std", str(DIGITS / "digits_meanStd.t7")]
    assert main(["convert", str(DIGITS / "digits-lenet5-bn.t7"), str(folder), *scale]) == 0
    return folder


@pytest.mark.slow
def test_an_interrupted_run_with_a_teacher_ends_like_another(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the second of three epochs: the resumed run has the same bytes."""
    words = ["train", "softmax", str(DIGITS / "digits-train.t7"), "--teacher", str(teacher)]
    words += ["--limit", "80", "--epochs", "3", "--flip", "--tracker", "none", "--resume", "auto"]
    words += ["--batch-size", "32"]
    assert main([*words, "-o", str(tmp_path / "whole")]) == 0
    batches = iter(range(5))
    loss = loop.distillation_loss

    def interrupted(*tensors: Any) -> torch.Tensor:
        if next(batches, None) is None:
            raise KeyboardInterrupt
        return loss(*tensors)

    with monkeypatch.context() as patched:
        # The 72 images of an epoch are two batches of 32, and eight are left out.
        patched.setattr(loop, "distillation_loss", interrupted)
        assert main([*words, "-o", str(tmp_path / "halves")]) == 130
    assert len((tmp_path / "halves" / "metrics.csv").read_text().splitlines()) == 3
    assert main([*words, "-o", str(tmp_path / "halves")]) == 0
    for name in ("metrics.csv", "classes.csv", "evaluation.json", "model/model.safetensors"):
        files = [tmp_path / run / name for run in ("whole", "halves")]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def accuracy(capsys: pytest.CaptureFixture[str], folder: Path, seed: int, *words: str) -> float:
    train, test = str(DIGITS / "digits-train.t7"), str(DIGITS / "digits-test.t7")
    options = ["--test-data", test, "--limit", "300", "--val-fraction", "0", "--tracker", "none"]
    options += ["--epochs", "10", "--batch-size", "32", "--seed", str(seed), "--json"]
    capsys.readouterr()
    assert main(["train", "softmax", train, *options, "-o", str(folder), *words]) == 0
    return float(json.loads(capsys.readouterr().out)["evaluation"]["accuracy"])


@pytest.mark.slow
def test_a_taught_network_is_better_than_one_that_learns_alone(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five seeds; measured: 0.957 and 0.939, a difference of 0.018 with an error of 0.005."""
    gains = [
        accuracy(capsys, tmp_path / f"taught-{seed}", seed, "--teacher", str(teacher))
        - accuracy(capsys, tmp_path / f"alone-{seed}", seed)
        for seed in range(5)
    ]
    assert np.mean(gains) > np.std(gains, ddof=1) / len(gains) ** 0.5


@pytest.mark.parametrize(("before", "after"), [((), (0.25,)), ((0.5,), ()), ((0.5,), (0.25,))])
def test_a_teacher_gets_inputs_with_its_own_mean(
    before: tuple[float, ...], after: tuple[float, ...]
) -> None:
    """The student's is added to its inputs first; either may have none."""
    pixels = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    model = classifier(Preprocessing("gray", mean=after), 1)
    student = classifier(Preprocessing("gray", mean=before), 1)
    inputs = pixels - sum(before)
    expected = model.module(pixels - sum(after)).log_softmax(1)
    torch.testing.assert_close(Teacher(model, student, [0, 1, 2])(inputs), expected)


@pytest.mark.parametrize("kind", ["logits", "features"])
def test_a_network_of_features_is_no_teacher(kind: str, tmp_path: Path) -> None:
    model = classifier(Preprocessing("gray"), 1)
    model.output_kind = kind
    model.labels = model.labels if kind == "logits" else None
    if kind == "logits":
        opened(model, data(("x", "y", "z")), tmp_path)
    else:
        with pytest.raises(TrainingError, match=r"the teacher .*gives features, not classes"):
            opened(model, data(("x", "y", "z")), tmp_path)


@pytest.mark.parametrize("teachers", [True, False])
@pytest.mark.parametrize("students", [True, False])
def test_a_teacher_that_does_not_say_what_its_inputs_are_is_noted(
    teachers: bool, students: bool, tmp_path: Path
) -> None:
    """Unless nothing is known of the student's either."""
    gray = Preprocessing("gray")
    save(classifier(gray if teachers else None, 1), tmp_path / "teacher")
    student = classifier(gray if students else None, 1)
    options = Distillation(str(tmp_path / "teacher"))
    open_teacher(options, student, data(("x", "y", "z")))
    said = f"the teacher {options.teacher} does not say what its inputs are: it gets those of"
    noted = [note for note in student.notes if note.startswith(said)]
    assert len(noted) == (students and not teachers)


def test_a_teacher_is_at_rest_and_learns_nothing() -> None:
    """Its dropout is off, and neither its network nor its answers take part in the training."""
    model = classifier(None, 1)
    model.module = nn.Sequential(nn.Dropout(0.5), model.module).train()
    teacher = Teacher(model, model, [0, 1, 2])
    inputs = torch.rand(50, 1, 4, 4, requires_grad=True)
    found = teacher(inputs)
    assert not found.requires_grad
    torch.testing.assert_close(found, model.module[1](inputs).log_softmax(1).detach())
    assert all(layer.training for layer in model.module.modules())


def test_a_teacher_of_the_same_inputs_gets_them_untouched() -> None:
    """A way to pixels and back would round them."""
    scale = Preprocessing("gray", mean=(0.1,), std=(0.3,))
    model = classifier(scale, 1)
    model.module, model.output_kind = nn.Flatten(), "logits"
    inputs = torch.rand(500, 1, 4, 4, generator=torch.Generator().manual_seed(0)) / 7
    found = Teacher(model, classifier(scale, 1), list(range(16)))(inputs)
    assert torch.equal(found, inputs.flatten(1).log_softmax(1))


def test_probabilities_are_of_the_classes_that_are_learned_alone() -> None:
    """They sum to one over these, whatever the others of the teacher have."""
    model = classifier(None, 1, classes=6)
    found = Teacher(model, model, [4, 1])(torch.rand(5, 1, 4, 4))
    torch.testing.assert_close(found.exp().sum(1), torch.ones(5))


@pytest.mark.parametrize("teachers", [True, False])
@pytest.mark.parametrize("students", [True, False])
def test_classes_that_one_side_does_not_name_are_matched_by_position_with_a_note(
    teachers: bool, students: bool, tmp_path: Path
) -> None:
    model = classifier(Preprocessing("gray"), 1)
    model.labels = model.labels if teachers else None
    save(model, tmp_path / "teacher")
    student = classifier(Preprocessing("gray"), 1)
    images = data(("x", "y", "z") if students else None)
    open_teacher(Distillation(str(tmp_path / "teacher")), student, images)
    said = "the teacher's classes are matched by position: one side has no names"
    assert student.notes == [said] * (not (teachers and students))


@pytest.mark.parametrize("name", ["temperature", "teacher_weight"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_a_teacher_counts_is_a_finite_number(name: str, value: float) -> None:
    with pytest.raises(TrainingError, match=f"{name}=.* must be finite"):
        Distillation("t", **{name: value})  # type: ignore[arg-type]


def test_answers_of_a_teacher_in_another_precision_are_float32() -> None:
    model = classifier(None, 1)
    inputs = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = model.module(inputs).log_softmax(1)
    model.module = model.module.double()

    class Double(nn.Sequential):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input.double())  # type: ignore[no-any-return]

    model.module = Double(*model.module).eval()
    torch.testing.assert_close(Teacher(model, model, [0, 1, 2])(inputs), expected)
