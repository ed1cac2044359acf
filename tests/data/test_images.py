import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from mask2former.data.images import (
    read_image,
    read_image_size,
    read_label_map,
    read_panoptic_ids,
)
from mask2former.data.sources import InMemory

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 7, 3), dtype=np.uint8)
# What each EXIF orientation does to the stored pixels to make them upright, by the EXIF standard.
UPRIGHT = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[:, ::-1],  # a quarter turn clockwise
    7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda p: p.transpose(1, 0, 2)[::-1],  # a quarter turn counter-clockwise
}


def save(path: Path, pixels: np.ndarray, orientation: int | None = None) -> Path:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def grey_png(bits: int, width: int, rows: list[bytes], color_type: int = 0) -> bytes:
    """A PNG as its specification writes it, since Pillow saves no grey of 2 or 4 bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, len(rows), bits, color_type, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(range(48))) if color_type == 3 else b""
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + palette
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_image_is_read_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", PIXELS, orientation)
    expected = UPRIGHT[orientation](PIXELS)
    np.testing.assert_array_equal(read_image(path), expected)
    assert read_image_size(path) == expected.shape[:2]


def test_turned_jpeg_is_read_upright(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = (250, 10, 10)  # red on the left; turned clockwise it is at the top
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(path, exif=exif, quality=95)
    image = read_image(path)
    assert image.shape == (32, 16, 3)
    assert image[:12, :, 0].min() > 200 > 60 > image[20:, :, 0].max()


def test_annotations_made_on_upright_pixels_turn_the_image(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", PIXELS, 6)
    np.testing.assert_array_equal(read_image(path, annotated_size=(7, 4)), UPRIGHT[6](PIXELS))


def test_annotations_made_on_stored_pixels_leave_the_image(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", PIXELS, 6)
    np.testing.assert_array_equal(read_image(path, annotated_size=(4, 7)), PIXELS)


def test_annotations_of_neither_size_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", PIXELS, 6)
    message = r"a\.png has size \(h, w\) = \(7, 4\) \(\(4, 7\) before .* made at \(4, 8\); give"
    with pytest.raises(ValueError, match=message):
        read_image(path, annotated_size=(4, 8))
    path = save(tmp_path / "b.png", PIXELS)
    with pytest.raises(ValueError, match=r"\(4, 7\) but its annotations were made at \(7, 4\)"):
        read_image(path, annotated_size=(7, 4))


def test_every_colour_mode_becomes_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    grey = PIXELS[..., 0]
    Image.fromarray(grey).save(path)
    np.testing.assert_array_equal(read_image(path), np.stack([grey] * 3, axis=2))
    Image.fromarray(np.dstack([PIXELS, grey])).save(path)
    np.testing.assert_array_equal(read_image(path), PIXELS)  # transparency is dropped
    Image.fromarray(PIXELS).convert("P").save(path)
    assert read_image(path).shape == (4, 7, 3)
    Image.fromarray(grey > 100).save(path)
    np.testing.assert_array_equal(read_image(path)[..., 1], np.where(grey > 100, 255, 0))


def test_sixteen_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 257, 514], [32896, 65535, 256]], np.uint16)).save(path)
    # 65535 = 255 * 257 is white
    assert read_image(path)[..., 0].tolist() == [[0, 1, 2], [128, 255, 0]]


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.ones((2, 3), np.float32)).save(path)
    with pytest.raises(ValueError, match=r"a\.tif holds floating-point pixels.*8 or 16"):
        read_image(path)


@pytest.mark.parametrize("read", [read_image, read_label_map, read_panoptic_ids, read_image_size])
def test_missing_file_is_named(tmp_path: Path, read) -> None:
    with pytest.raises(FileNotFoundError, match=r"no image file at .*gone\.png; restore it"):
        read(tmp_path / "gone.png")


@pytest.mark.parametrize("read", [read_image, read_label_map, read_panoptic_ids, read_image_size])
def test_file_that_is_no_image_is_named(tmp_path: Path, read) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot read .*a\.png as an image .*; it is damaged"):
        read(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_image_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(1).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"cannot read .*; it is damaged .*replace it"):
        read_image(path)


def test_labels_keep_palette_indices(tmp_path: Path) -> None:
    labels = np.array([[0, 4, 255], [11, 2, 1]], np.uint8)
    image = Image.fromarray(labels).convert("P")
    image.putdata(labels.ravel().tolist())
    image.putpalette([7, 9, 145] * 256)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), labels)


def test_labels_keep_sixteen_bits(tmp_path: Path) -> None:
    labels = np.array([[0, 300, 65535]], np.uint16)
    Image.fromarray(labels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), labels)


@pytest.mark.parametrize("color_type", [0, 3], ids=["grey", "palette"])
@pytest.mark.parametrize(
    ("bits", "values"), [(1, [0, 0, 0, 1, 1, 0, 1, 1]), (2, [0, 1, 2, 3]), (4, [1, 11])]
)
def test_labels_of_few_bits_are_not_spread(
    tmp_path: Path, bits: int, values: list[int], color_type: int
) -> None:
    # one byte 00011011, cut into 8, 4 or 2 pixels
    path = tmp_path / "a.png"
    path.write_bytes(grey_png(bits, 8 // bits, [bytes([0b00011011])], color_type))
    assert read_label_map(path).tolist() == [values]


def test_colour_mask_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", PIXELS)
    with pytest.raises(ValueError, match=r"mask .*a\.png has colour mode RGB; .* one channel"):
        read_label_map(tmp_path / "a.png")


def test_panoptic_ids_are_read_from_colours(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.array([[[3, 2, 1], [9, 0, 0]]], np.uint8))
    # 3 + 2 * 256 + 65536
    assert read_panoptic_ids(tmp_path / "a.png").tolist() == [[66051, 9]]


def test_grey_panoptic_png_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", PIXELS[..., 0])
    with pytest.raises(ValueError, match=r"panoptic PNG .*a\.png has colour mode L; .*8-bit RGB"):
        read_panoptic_ids(tmp_path / "a.png")


def test_the_size_of_a_png_is_read_from_its_head_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    noise = np.random.default_rng(0).integers(0, 255, (9, 13, 3), np.uint8)
    path = tmp_path / "cut.png"
    Image.fromarray(noise).save(path, exif=exif)
    path.write_bytes(path.read_bytes()[:-100])
    assert read_image_size(path) == (13, 9)


def test_what_is_no_image_is_named_by_its_source_alone() -> None:
    source = InMemory("a.jpg", "shard.tar: a.jpg", b"a text")
    message = (
        r"^cannot read shard\.tar: a\.jpg as an image \(its first bytes are of no known format\); "
        r"it is damaged or not an image: replace it or take it out of the data set$"
    )
    with pytest.raises(ValueError, match=message):
        read_image(source)
