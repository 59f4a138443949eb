"""What a file of transformers says of images: what must be known, and what does not matter."""

from __future__ import annotations

from typing import Any

import pytest

from torchlift.transfer.libraries.image_processor import preprocessing_of


@pytest.mark.parametrize(
    ("changes", "is_known"),
    [
        ({"do_convert_rgb": True}, True),
        ({"do_pad": False, "rescale_offset": False}, True),
        ({"rescale_offset": True}, False),
        ({"size": {"shortest_edge": 40, "longest_edge": 80}}, False),
        ({"size": {"height": 40}}, False),
        ({"size": {"height": 40, "width": 30, "more": 5}}, True),
        ({"crop_size": {"longest_edge": 4}}, True),
        ({"crop_size": {"longest_edge": 4}, "do_center_crop": True}, False),
    ],
)
def test_what_is_not_done_to_images_does_not_matter(
    changes: dict[str, Any], is_known: bool
) -> None:
    """Only what a flag switches on must be known; conversion to RGB is done in any case."""
    if is_known:
        found = preprocessing_of({"size": {"height": 40, "width": 30}, **changes})
        assert (found.size, found.crop, found.color) == ((40, 30), None, "RGB")
    else:
        with pytest.raises(ValueError, match="is not known"):
            preprocessing_of({"size": 40, **changes})


@pytest.mark.parametrize(
    ("edge", "size", "crop"),
    [
        # int(383 / 0.875) is the shorter side.
        (383, 437, (383, 383)),
        (384, (384, 384), None),
        (385, (385, 385), None),
    ],
)
def test_from_a_size_on_images_of_convnext_are_not_cropped(
    edge: int, size: Any, crop: tuple[int, int] | None
) -> None:
    found = preprocessing_of({"size": {"shortest_edge": edge}, "crop_pct": 0.875})
    assert (found.size, found.crop) == (size, crop)


@pytest.mark.parametrize(("factor", "limits"), [(1 / 255 * 1.00001, None), (1 / 256, 255 / 256)])
def test_a_factor_close_to_that_of_bytes_is_that_of_bytes(
    factor: float, limits: float | None
) -> None:
    """To a millionth; a hundred-thousandth is another range."""
    found = preprocessing_of({"size": 8, "rescale_factor": factor}).value_range
    assert isinstance(found, tuple)
    assert found == pytest.approx((0, limits or 1.00001))
    close = preprocessing_of({"size": 8, "rescale_factor": 1 / 255 * (1 + 5e-7)})
    assert close.value_range == 1
