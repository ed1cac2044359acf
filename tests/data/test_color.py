import random

import cv2
import numpy as np

from mask2former.data.color import (
    jitter_colors,
    scale_contrast,
    scale_saturation,
    shift_brightness,
    shift_hue,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)


def published_convert(image: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
    return np.clip(image.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)


def published_hsv(image: np.ndarray, channel: int, change) -> np.ndarray:
    """As written there: on BGR, one channel of HSV replaced."""
    hsv = cv2.cvtColor(np.ascontiguousarray(image[..., ::-1]), cv2.COLOR_BGR2HSV)
    hsv[..., channel] = change(hsv[..., channel])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[..., ::-1]


def test_changes_equal_their_plain_transcription() -> None:
    rng = random.Random(1)
    for _ in range(20):
        shift, factor, turn = rng.uniform(-32, 32), rng.uniform(0.5, 1.5), rng.randint(-18, 18)
        np.testing.assert_array_equal(
            shift_brightness(IMAGE, shift), published_convert(IMAGE, beta=shift)
        )
        np.testing.assert_array_equal(
            scale_contrast(IMAGE, factor), published_convert(IMAGE, alpha=factor)
        )
        np.testing.assert_array_equal(
            scale_saturation(IMAGE, factor),
            published_hsv(IMAGE, 1, lambda s, factor=factor: published_convert(s, alpha=factor)),
        )
        np.testing.assert_array_equal(
            shift_hue(IMAGE, turn),
            published_hsv(IMAGE, 0, lambda h, turn=turn: (h.astype(int) + turn) % 180),
        )


def test_brightness_is_cut_not_rounded() -> None:
    image = np.array([[[10, 250, 0]]], np.uint8)
    # 10.9, 250.9, 0.9
    assert shift_brightness(image, 0.9).tolist() == [[[10, 250, 0]]]
    # 10 - 20.5 and 0 - 20.5 are below 0; 229.5
    assert shift_brightness(image, -20.5).tolist() == [[[0, 229, 0]]]


def test_hue_of_red_turns_to_yellowish_and_back() -> None:
    red = np.array([[[200, 0, 0]]], np.uint8)
    # 18 half degrees are 36 degrees of 60 between red and yellow: green = 200 * 36 / 60
    assert shift_hue(red, 18).tolist() == [[[200, 120, 0]]]
    # -18 wraps to 162 half degrees = 324 degrees: blue = 200 * 36 / 60
    assert shift_hue(red, -18).tolist() == [[[200, 0, 120]]]


def test_jitter_depends_on_the_generator_alone() -> None:
    once, again = (jitter_colors(IMAGE, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_jitter_leaves_one_image_in_sixteen_as_it_is() -> None:
    generator = np.random.default_rng(2)
    image = np.full((2, 3, 3), (90, 140, 60), np.uint8)
    changed = [bool((jitter_colors(image, generator) != image).any()) for _ in range(2000)]
    # four coins: 1/16 = 0.0625 unchanged, standard error 0.0054; changes too small to survive
    # the cut to integers add a few
    assert 0.045 < 1 - np.mean(changed) < 0.11


def test_input_is_not_written_to() -> None:
    image = IMAGE.copy()
    for seed in range(20):
        jitter_colors(image, np.random.default_rng(seed))
    np.testing.assert_array_equal(image, IMAGE)
