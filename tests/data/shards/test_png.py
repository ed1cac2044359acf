import io

import numpy as np
import pytest
from PIL import Image

from mask2former.data.shards.png import as_png


@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (300, 1), (1, 300), (5, 7, 3)])
@pytest.mark.parametrize("largest", [1, 255, 65_535])
def test_pillow_reads_what_is_written(shape: tuple[int, ...], largest: int) -> None:
    if largest > 255 and len(shape) == 3:
        pytest.skip("RGB has 8 bits")
    dtype = np.uint16 if largest > 255 else np.uint8
    pixels = np.random.default_rng(0).integers(0, largest, shape, dtype, endpoint=True)
    with Image.open(io.BytesIO(as_png(pixels))) as image:
        image.load()
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_columns_first_arrays_are_written_row_by_row() -> None:
    pixels = np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    with Image.open(io.BytesIO(as_png(pixels))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
