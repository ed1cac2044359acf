"""Colour jitter of the SSD detector: brightness, contrast, saturation and hue."""

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

BRIGHTNESS_SHIFT = 32
CONTRAST_FACTORS = (0.5, 1.5)
SATURATION_FACTORS = (0.5, 1.5)
HUE_SHIFT = 18
"""In OpenCV's half degrees; its hue of 8-bit images goes from 0 to 179."""
BYTES = np.arange(256, dtype=np.float32)


def jitter_colors(
    image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Change the colours of an RGB image at random; each of the four changes has a chance of 1/2.

    Contrast comes before saturation and hue or, with a chance of 1/2, after them. Values are
    clipped to 0..255 and cut to integers after every change. Draws, in this order: a coin and a
    value for brightness, the coin for the order, then coin and value of each change as applied;
    values are drawn only for changes that happen.

    Source:
        detectron2 `ColorAugSSDTransform`, as the Mask2Former mappers use it.
    """
    if _coin(generator):
        image = shift_brightness(image, generator.uniform(-BRIGHTNESS_SHIFT, BRIGHTNESS_SHIFT))
    changes = [_jitter_contrast, _jitter_saturation, _jitter_hue]
    if not _coin(generator):
        changes = changes[1:] + changes[:1]
    for change in changes:
        if _coin(generator):
            image = change(image, generator)
    return image


def shift_brightness(image: UInt8[np.ndarray, "h w 3"], shift: float) -> UInt8[np.ndarray, "h w 3"]:
    return _look_up(image, BYTES + np.float32(shift))


def scale_contrast(image: UInt8[np.ndarray, "h w 3"], factor: float) -> UInt8[np.ndarray, "h w 3"]:
    return _look_up(image, BYTES * np.float32(factor))


def scale_saturation(
    image: UInt8[np.ndarray, "h w 3"], factor: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Multiply the S of HSV."""
    return _change_hsv(image, channel=1, table=_to_bytes(BYTES * np.float32(factor)))


def shift_hue(image: UInt8[np.ndarray, "h w 3"], shift: int) -> UInt8[np.ndarray, "h w 3"]:
    """Turn the H of HSV by half degrees."""
    return _change_hsv(image, channel=0, table=((np.arange(256) + shift) % 180).astype(np.uint8))


def _jitter_contrast(image: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    return scale_contrast(image, generator.uniform(*CONTRAST_FACTORS))


def _jitter_saturation(
    image: NDArray[np.uint8], generator: np.random.Generator
) -> NDArray[np.uint8]:
    return scale_saturation(image, generator.uniform(*SATURATION_FACTORS))


def _jitter_hue(image: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    return shift_hue(image, int(generator.integers(-HUE_SHIFT, HUE_SHIFT, endpoint=True)))


def _coin(generator: np.random.Generator) -> bool:
    return bool(generator.integers(2))


def _look_up(image: NDArray[np.uint8], table: NDArray[np.float32]) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.LUT(image, _to_bytes(table)), np.uint8)


def _change_hsv(
    image: NDArray[np.uint8], *, channel: int, table: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    import cv2

    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., channel] = cv2.LUT(hsv[..., channel], table)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def _to_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return values.clip(0, 255).astype(np.uint8)
