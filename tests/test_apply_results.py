"""What `apply` writes and says of each image, with a function in place of a network."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torchlift.cli.apply import _open, apply
from torchlift.cli.main import main
from torchlift.cli.model_options import ModelOptions, OutputOptions
from torchlift.converters.errors import WriteError
from torchlift.converters.images.class_map import class_map_image
from torchlift.converters.inference import InferenceError, Predictor
from torchlift.converters.inference.image_model import ImageModel

Network = Callable[[Image.Image, Any], Image.Image]


@pytest.fixture
def applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return a function that applies another one to the images of a folder, and its data."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, size in (("a", (4, 3)), ("b", (5, 2)), ("c", (4, 3))):
        Image.new("RGB", size, (200, 100, 50)).save(folder / f"{name}.png")

    def run(network: Network, images: str, output: str, labels: Any = None) -> Any:
        def opened(*given: Any) -> Any:
            stand_in = SimpleNamespace(provider="none", labels=labels)
            return _Callable(network, stand_in)

        monkeypatch.setattr("torchlift.cli.apply._open", opened)
        return apply("model", str(tmp_path / images), str(tmp_path / output))

    return run


class _Callable:
    def __init__(self, network: Network, said: SimpleNamespace) -> None:
        self.network, self.provider, self.labels = network, said.provider, said.labels

    def __call__(self, image: Image.Image, mask: Any) -> Image.Image:
        return self.network(image, mask)


def refuses(*sizes: tuple[int, int]) -> Network:
    def run(image: Image.Image, mask: Any) -> Image.Image:
        if image.size in sizes:
            raise InferenceError("of\nno size\x1b[2J")
        return image

    return run


def test_an_image_that_does_not_fit_is_reported_and_the_others_are_written(
    applied: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = applied(refuses((5, 2)), "images", "out")
    assert not result.passed
    problem = f"{tmp_path / 'images' / 'b.png'}: of no size\x1b[2J"
    assert [one["problem"] for one in result.data["results"]] == [None, problem, None]
    assert [one["file"] is None for one in result.data["results"]] == [False, True, False]
    # A terminal shows the control sequence, and does not obey it.
    spelled = problem.replace("\x1b", r"\x1b")
    assert capsys.readouterr().err == f"torchlift: {spelled}\n"
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    (line,) = result.view.renderables
    assert line == f"2 of 3 images → {tmp_path / 'out'}"


def test_what_the_first_image_shows_of_the_network_ends_the_command(
    applied: Any, tmp_path: Path
) -> None:
    with pytest.raises(InferenceError, match=r"a\.png: of"):
        applied(refuses((4, 3)), "images", "out")
    with pytest.raises(InferenceError, match=r"b\.png: of"):
        applied(refuses((5, 2)), "images/b.png", "b.png")
    assert not (tmp_path / "out").exists()


def test_sizes_and_files_are_those_that_are_written(applied: Any, tmp_path: Path) -> None:
    result = applied(lambda image, mask: image.resize((7, 9)), "images/b.png", "b.jpg")
    target = str(tmp_path / "b.jpg")
    (said,) = result.data["results"]
    assert result.passed
    assert (said["file"], said["width"], said["height"]) == (target, 7, 9)
    assert result.view.renderables == [f"{tmp_path / 'images' / 'b.png'} → {target}"]
    assert Image.open(target).size == (7, 9)


def test_jpegs_are_kept_well(applied: Any, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    image, expected = Image.fromarray(noise), io.BytesIO()
    applied(lambda *given: image, "images/b.png", "b.jpg")
    image.save(expected, "JPEG", quality=95)
    assert (tmp_path / "b.jpg").read_bytes() == expected.getvalue()


def test_classes_that_have_pixels_are_counted_with_their_names(
    applied: Any, tmp_path: Path
) -> None:
    classes = np.array([[0, 2, 2], [2, 0, 2]], np.uint8)
    for labels, names in ((["road", "car", "sky"], ["road", "sky"]), (None, ["0", "2"])):
        made = class_map_image(classes, labels)
        result = applied(lambda *given, made=made: made, "images/b.png", f"{names[0]}.png", labels)
        assert result.data["results"][0]["classes"] == [
            {"index": 0, "label": names[0], "count": 2},
            {"index": 2, "label": names[1], "count": 4},
        ]
        kept = Image.open(tmp_path / f"{names[0]}.png")
        assert np.array_equal(np.asarray(kept), classes)
        assert ("labels" in kept.info) is (labels is not None)
    with pytest.raises(Exception, match=r"written as \.png"):
        applied(lambda *given: class_map_image(classes), "images/b.png", "map.jpg")
    assert not (tmp_path / "map.jpg").exists()


def test_a_folder_is_not_written_into_itself_or_over_another(
    applied: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images" / "notes.txt").touch()
    (tmp_path / "link").symlink_to(tmp_path / "images")
    for target, message in (
        ("images", "is the folder of the images"),
        ("images/../images", "is the folder of the images"),
        ("link", "is the folder of the images"),
        ("x.png", "is a folder"),
    ):
        with pytest.raises(Exception, match=message):
            applied(refuses(), "images", target)
    applied(refuses(), "images", "out")
    assert "files of other kinds: 1 (notes.txt)" in capsys.readouterr().err
    with pytest.raises(Exception, match="already exists"):
        applied(refuses(), "images", "out")


def test_errors_of_a_network_name_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what is said of where it runs is said."""

    class Options:
        def predictor(self, model: str, provider: str) -> Predictor:
            predictor: Any = SimpleNamespace(note="runs on the moon", provider=provider)
            return predictor  # type: ignore[no-any-return]

    def refuse(self: Any, *given: Any, **options: Any) -> None:
        raise InferenceError("no network")

    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageModel, "__init__", refuse)
    with pytest.raises(InferenceError, match=r"net\.t7: no network"):
        apply(
            "net.t7",
            str(tmp_path / "a.png"),
            str(tmp_path / "b.png"),
            model_options=Options(),  # type: ignore[arg-type]
        )
    assert "runs on the moon" in capsys.readouterr().err
    assert main(["apply", "net.t7", str(tmp_path), str(tmp_path / "b.gif")]) == 2


@pytest.mark.parametrize(
    ("model", "says_all"),
    [("m.t7", False), ("m.ONNX", True), ("saved", True), ("torchvision:fcn_resnet50", False)],
)
def test_a_file_that_says_all_itself_is_told_nothing_else(
    model: str,
    says_all: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved").mkdir()
    predictor = SimpleNamespace(note="runs on the CPU")
    asked: list[Any] = []

    def made(*given: Any, **named: Any) -> None:
        asked.append((given, named))
        raise InferenceError("it says something else")

    monkeypatch.setattr("torchlift.converters.inference.image_model.ImageModel", made)
    monkeypatch.setattr(ModelOptions, "predictor", lambda self, *given: predictor)
    options = OutputOptions(output_range=[-1, 1])
    with pytest.raises(InferenceError, match=f"^{model}: it says something else"):
        _open(model, "cpu", 64, ModelOptions(), options)
    assert asked == [((predictor, options.said()), {"tile": 64, "fixed": says_all})]
    assert capsys.readouterr().err == "runs on the CPU\n"


@pytest.mark.parametrize("mask", ["mask.png", None])
def test_a_mask_goes_with_every_image(
    mask: str | None, applied: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (4, 3), 77).save(tmp_path / "mask.png")
    seen: list[Any] = []
    advanced: list[int] = []

    def fill(image: Image.Image, holes: Any) -> Image.Image:
        seen.append(None if holes is None else np.asarray(holes).flat[0])
        return image

    @contextmanager
    def bar(total: int) -> Iterator[Callable[[int], None]]:
        advanced.append(-total)
        yield advanced.append

    def opened(*given: Any) -> Any:
        return _Callable(fill, SimpleNamespace(provider="none", labels=None))

    monkeypatch.setattr("torchlift.cli.apply.progress", bar)
    monkeypatch.setattr("torchlift.cli.apply._open", opened)
    path = None if mask is None else str(tmp_path / mask)
    assert apply("m", str(tmp_path / "images"), str(tmp_path / "out"), mask=path).passed
    assert seen == [None if mask is None else 77] * 3
    assert sum(advanced) == 0


def test_the_suffix_of_an_image_may_have_capital_letters(applied: Any, tmp_path: Path) -> None:
    """A PNG has the names of classes in it, whatever its suffix looks like."""
    made = class_map_image(np.array([[0, 1]], np.uint8), ["road", "car"])
    applied(lambda *given: made, "images/b.png", "MAP.PNG", ["road", "car"])
    assert "labels" in Image.open(tmp_path / "MAP.PNG").info
    before = (tmp_path / "MAP.PNG").read_bytes()
    with pytest.raises(WriteError, match=r"MAP\.PNG already exists"):
        applied(refuses(), "images/b.png", "MAP.PNG")
    assert (tmp_path / "MAP.PNG").read_bytes() == before
