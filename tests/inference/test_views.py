"""Which views of an image the network gets, and what they cost."""

import numpy as np
import pytest
import torch

from mask2former.data.transforms import resize_for_test
from mask2former.inference.views import View, ViewSizes, describe, show


def picture(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def test_every_size_is_shown_plain_then_mirrored_in_the_order_listed() -> None:
    tta = ViewSizes((32, 96, 64), 180)
    # of 64 x 128: 96 x 192 would be too long, so it becomes 90 x 180
    assert tta.views((64, 128), usual_first=False) == [
        View((32, 64), False), View((32, 64), True),
        View((90, 180), False), View((90, 180), True),
        View((64, 128), False), View((64, 128), True),
    ]  # fmt: skip
    plain = ViewSizes((32, 96, 64), 180, flip=False)
    assert plain.views((64, 128), usual_first=False) == [
        View((32, 64), False), View((90, 180), False), View((64, 128), False),
    ]  # fmt: skip


def test_the_usual_size_comes_first_where_others_are_compared_with_it() -> None:
    listed = ViewSizes((32, 64, 96), 180, flip=False)
    sizes = [view.size for view in listed.views((64, 128), usual_first=True)]
    assert sizes == [(64, 128), (32, 64), (90, 180)]
    missing = ViewSizes((32, 32), 180)
    assert missing.views((64, 128), usual_first=True) == [
        View((64, 128), False), View((64, 128), True), View((32, 64), False), View((32, 64), True),
    ]  # fmt: skip


def test_an_image_that_was_made_smaller_for_its_length_is_not_when_it_is_shown_again() -> None:
    # 100 x 300 in a limit of 64/128 is 43 x 128; its short side becomes 64 from there
    usual = resize_for_test(np.zeros((100, 300, 3), np.uint8), 64, 128).shape[1:]
    assert tuple(usual) == (43, 128)
    views = ViewSizes((64,), 448, flip=False).views((43, 128), usual_first=False)
    # 64 / 43 x 128 = 190.5, rounded up
    assert views == [View((64, 191), False)]


@pytest.mark.parametrize("short_side", [5, 20, 31])
def test_views_are_resized_as_images_are_for_evaluation(short_side) -> None:
    image = picture(20, 31)
    (view,) = ViewSizes((short_side,), 99, flip=False).views((20, 31), usual_first=False)
    expected = resize_for_test(image.permute(1, 2, 0).numpy(), short_side, 99)
    assert torch.equal(show(image, view), expected)
    # mirrored after resizing, as the authors do
    assert torch.equal(show(image, View(view.size, True)), expected.flip(2))


def test_an_image_at_its_own_size_is_shown_as_it_is() -> None:
    image = picture(20, 31)
    assert show(image, View((20, 31), False)) is image


def test_the_cost_is_told_in_one_line() -> None:
    usual = (40, 80)
    views = ViewSizes((20, 40), 999).views(usual, usual_first=False)
    # 2 x (1/4 + 1)
    assert describe(views, usual) == (
        "test-time augmentation: 4 passes an image (2 sizes, each also mirrored), about 2.5 times "
        "the pixels of one"
    )
    assert describe([View(usual, False)], usual) == (
        "test-time augmentation: 1 pass an image (1 size), about 1.0 times the pixels of one"
    )


@pytest.mark.parametrize(
    ("sides", "longest"), [((), 100), ((32, 0), 100), ((32,), 0)], ids=["none", "zero", "no length"]
)
def test_sizes_below_one_pixel_are_refused(sides, longest) -> None:
    with pytest.raises(ValueError, match=r"short sides \(.*give one short side or more"):
        ViewSizes(sides, longest)
