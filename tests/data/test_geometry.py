from dataclasses import replace

import numpy as np
import pytest

from mask2former.data.geometry import (
    Geometry,
    large_scale_jitter,
    shortest_edge_crop,
    shortest_edge_size,
)

WIDE = Geometry(source=(10, 20), resized=(20, 60), offset=(3, 8), crop=(12, 30), padded=(16, 32))


class Draws(np.random.Generator):
    """Gives the listed numbers in order, each in the way that was asked for."""

    def __init__(self, *numbers: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.numbers = list(numbers)

    def random(self) -> float:
        return self.numbers.pop(0)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * self.numbers.pop(0)

    def choice(self, options: tuple[int, ...]) -> int:
        return options[int(self.numbers.pop(0))]

    def integers(self, high: int) -> int:
        return int(self.numbers.pop(0) * high)


def jitter(source: tuple[int, int], *numbers: float, crop: tuple[int, int] = (64, 64)) -> Geometry:
    draws = Draws(*numbers)
    geometry = large_scale_jitter(
        source, draws, crop=crop, min_scale=0.5, max_scale=1.5, flip_probability=0.5
    )
    assert draws.numbers == []
    return geometry


def test_jitter_fits_the_image_into_the_scaled_crop() -> None:
    # factor 0.5 + 0.25 * 1 = 0.75: target 48; 40 x 30 fits by min(48 / 40, 48 / 30) = 1.2
    geometry = jitter((40, 30), 0.9, 0.25, 0.7)
    assert geometry.resized == (48, 36)
    assert (geometry.offset, geometry.crop, geometry.padded) == ((0, 0), (48, 36), (64, 64))
    assert geometry.mirrored is None


def test_jitter_positions_both_axes_by_one_number() -> None:
    # factor 1.5: target 96 x 96; 60 x 50 grows by 96 / 60 = 1.6 to 96 x 80;
    # room 32 and 16, times 0.25: 8 and 4
    geometry = jitter((60, 50), 0.1, 1.0, 0.25)
    assert (geometry.resized, geometry.offset) == ((96, 80), (8, 4))
    assert (geometry.crop, geometry.mirrored) == ((64, 64), "before")


def test_jitter_rounds_halves_to_even() -> None:
    # factor 1: target (64, 64); 128 x 5 shrinks by 1/2 to 64 x 2.5, and 2.5 rounds to 2
    assert jitter((128, 5), 0.9, 0.5, 0.0).resized == (64, 2)
    # 128 x 7: 3.5 rounds to 4
    assert jitter((128, 7), 0.9, 0.5, 0.0).resized == (64, 4)
    # room 3 x 0.5 = 1.5 rounds to 2, room 1 x 0.5 = 0.5 rounds to 0
    assert jitter((67, 65), 0.9, 67 / 64 - 0.5, 0.5).offset == (2, 0)


def test_jitter_keeps_a_pixel_of_an_extreme_shape() -> None:
    # factor 0.5: 1000 x 2 fits 32 by 0.032, and 2 * 0.032 rounds to 0
    assert jitter((1000, 2), 0.9, 0.0, 0.0).resized == (32, 1)


def test_jitter_takes_a_crop_that_is_not_square() -> None:
    # factor 1: target 40 x 80; 30 x 30 fits by min(40 / 30, 80 / 30)
    geometry = jitter((30, 30), 0.9, 0.5, 0.0, crop=(40, 80))
    assert (geometry.resized, geometry.padded) == ((40, 40), (40, 80))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ((480, 640), (512, 683)),  # 640 * 512 / 480 = 682.67
        ((640, 480), (683, 512)),
        ((100, 500), (160, 800)),  # long side 2560 is over 800: 512 * 800 / 2560 = 160
        ((512, 512), (512, 512)),
        ((1000, 1001), (512, 513)),  # 512.512 rounds up from .5
        ((2, 4000), (1, 800)),  # 0.4 would round to 0
    ],
)
def test_shortest_edge_size(source: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shortest_edge_size(source, 512, 800) == expected


def test_crop_draws_side_top_left_and_mirror_in_this_order() -> None:
    # side 60: 40 x 80 becomes 60 x 120; room 60 - 50 + 1 = 11 and 120 - 70 + 1 = 51
    draws = Draws(1, 0.5, 0.9, 0.2)
    geometry = shortest_edge_crop(
        (40, 80),
        draws,
        short_sides=(30, 60),
        max_long_side=200,
        crop=(50, 70),
        flip_probability=0.5,
        pad_to_crop=True,
    )
    assert draws.numbers == []
    # int(0.5 * 11) = 5, int(0.9 * 51) = 45
    assert geometry == Geometry((40, 80), (60, 120), (5, 45), (50, 70), (50, 70), "after")


@pytest.mark.parametrize(("pad_to_crop", "padded"), [(True, (50, 70)), (False, (30, 60))])
def test_crop_of_a_small_image_is_padded_only_if_asked(
    pad_to_crop: bool, padded: tuple[int, int]
) -> None:
    geometry = shortest_edge_crop(
        (40, 80),
        np.random.default_rng(0),
        short_sides=(30,),
        max_long_side=200,
        crop=(50, 70),
        flip_probability=0.0,
        pad_to_crop=pad_to_crop,
    )
    assert (geometry.crop, geometry.padded, geometry.offset) == ((30, 60), padded, (0, 0))


def test_every_offset_is_drawn_and_none_outside() -> None:
    generator = np.random.default_rng(3)
    offsets = {
        shortest_edge_crop(
            (6, 9),
            generator,
            short_sides=(6,),
            max_long_side=9,
            crop=(5, 7),
            flip_probability=0.5,
            pad_to_crop=True,
        ).offset
        for _ in range(200)
    }
    assert offsets == {(y, x) for y in (0, 1) for x in (0, 1, 2)}


def test_points_move_with_the_crop() -> None:
    # x 20 -> 60 is times 3, minus 8; y 10 -> 20 is times 2, minus 3
    assert WIDE.point_map == ((3, 2), (-8, -3))
    # mirrored before: x' = 3 (20 - x) - 8 = 52 - 3 x
    assert replace(WIDE, mirrored="before").point_map == ((-3, 2), (52, -3))
    # mirrored after: x' = 30 - (3 x - 8) = 38 - 3 x
    assert replace(WIDE, mirrored="after").point_map == ((-3, 2), (38, -3))


def test_crop_box_is_in_the_image_that_is_not_mirrored() -> None:
    assert WIDE.crop_box == (3, 8, 15, 38)
    # 60 - 8 - 30 = 22 columns are left on the other side
    assert replace(WIDE, mirrored="before").crop_box == (3, 22, 15, 52)
    assert replace(WIDE, mirrored="after").crop_box == (3, 8, 15, 38)
