"""Data sets with faults, one of each kind."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SIZE = (64, 80)
SQUARE = [10, 10, 40, 10, 40, 40, 10, 40]


def photo(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Smooth patches of colour, different for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


class CocoSplit:
    """One split of a COCO instance data set, image by image."""

    def __init__(self, folder: Path, split: str, first_id: int) -> None:
        """Start an empty split whose image ids begin at `first_id`."""
        self.folder, self.split, self.first_id = folder, split, first_id
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        (folder / split).mkdir(parents=True)

    def add_image(self, name: str, content: bytes | None, size: tuple[int, int] = SIZE) -> int:
        image_id = self.first_id + len(self.images)
        self.images.append({"id": image_id, "file_name": name, "height": size[0], "width": size[1]})
        if content is not None:
            (self.folder / self.split / name).write_bytes(content)
        return image_id

    def add_object(self, image_id: int, segmentation: object, category: int = 1, **more) -> None:
        self.annotations.append(
            {
                "id": 1000 * self.first_id + len(self.annotations),
                "image_id": image_id,
                "category_id": category,
                "segmentation": segmentation,
                "iscrowd": 0,
                **more,
            }
        )

    def write(self, names: list[str]) -> None:
        content = {
            "images": self.images,
            "annotations": self.annotations,
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
        }
        path = self.folder / "annotations" / f"instances_{self.split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def clean_coco(tmp_path: Path) -> Path:
    """Two splits of three images without a fault, and two classes."""
    folder = tmp_path / "clean"
    for start, split in ((0, "train"), (10, "val")):
        part = CocoSplit(folder, split, first_id=start)
        for i in range(3):
            image_id = part.add_image(f"{i}.jpg", jpeg(photo(start + i)))
            part.add_object(image_id, [SQUARE], category=1)
            part.add_object(image_id, [[50, 5, 75, 5, 75, 30]], category=2)
        part.write(["cat", "<script>alert(1)</script>"])
    return folder


@pytest.fixture(scope="session")
def broken_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every fault that a folder in COCO's instance format can have, each once.

    Made for the preset "tiny": 20 queries, images resized to a short side of 128 pixels.
    """
    folder = tmp_path_factory.mktemp("broken") / "coco"
    train = CocoSplit(folder, "train", first_id=0)
    good = train.add_image("good.jpg", jpeg(photo(0)))
    train.add_object(good, [SQUARE])
    train.add_object(good, [[50, 5, 75, 5, 75, 30]], category=2)
    train.add_image("empty.jpg", jpeg(photo(1)))
    for name, content in (("missing.jpg", None), ("cut_off.jpg", jpeg(photo(2))[:-300])):
        train.add_object(train.add_image(name, content), [SQUARE])
    other_size = train.add_image("other_size.jpg", jpeg(photo(3, (32, 40))))
    train.add_object(other_size, [SQUARE])
    outside = train.add_image("outside.jpg", jpeg(photo(4)))
    train.add_object(outside, [[60, 10, 130, 10, 130, 40]])
    train.add_object(outside, [[200, 200, 240, 200, 240, 240]])
    flat = train.add_image("flat.jpg", jpeg(photo(5)))
    train.add_object(flat, [SQUARE])
    train.add_object(flat, [[5, 5, 40, 40, 20, 20]])
    twice = train.add_image("twice.jpg", jpeg(photo(6)))
    train.add_object(twice, [SQUARE])
    train.add_object(twice, [SQUARE])
    crowded = train.add_image("crowded.jpg", jpeg(photo(7)))
    for i in range(220):
        x, y = 5 * (i % 15), 4 * (i // 15)
        train.add_object(crowded, [[x, y, x + 4, y, x + 4, y + 3, x, y + 3]])
    tiny = train.add_image("tiny.jpg", jpeg(photo(8)))
    for x in range(20, 50, 3):
        train.add_object(tiny, [[x, 20, x + 1, 20, x + 1, 21, x, 21]])
    for name, content in (("copy.jpg", jpeg(photo(0))), ("recompressed.jpg", jpeg(photo(0), 50))):
        train.add_object(train.add_image(name, content), [SQUARE])
    train.add_object(good, [SQUARE], category=99)
    train.add_object(777, [SQUARE])
    train.add_object(flat, [], category=1)
    train.add_object(flat, [[1, 2, 3, 4, 5]], category=1)
    train.add_object(flat, {"size": list(SIZE), "counts": [1, 2, 3]}, category=1)
    train.add_object(flat, [[1, 2, 30, 4, float("nan"), 40]], category=1)
    train.annotations[-1]["id"] = train.annotations[0]["id"]
    (folder / "train" / "not_listed.jpg").write_bytes(jpeg(photo(9)))
    val = CocoSplit(folder, "val", first_id=100)
    for name, content in (("leaked.jpg", jpeg(photo(1))), ("alike.jpg", jpeg(photo(6), 40))):
        val.add_object(val.add_image(name, content), [SQUARE])
    only = val.add_image("only.jpg", jpeg(photo(10)))
    val.add_object(only, [SQUARE], category=3)
    for part in (train, val):
        part.write(["common", "rare", "only scored", "never used"])
    return folder


@pytest.fixture
def write_masks(tmp_path: Path) -> Callable[[], Path]:
    """A folder of semantic masks with every fault that it can have."""

    def write() -> Path:
        folder = tmp_path / "masks"
        for part in ("images/train", "masks/train"):
            (folder / part).mkdir(parents=True)
        (folder / "classes.json").write_text('["floor", "wall"]', encoding="utf-8")
        values = np.zeros(SIZE, np.uint8)
        values[20:] = 1
        names = ("good", "unknown", "cut", "other_size", "ignored", "no_mask")
        for seed, name in enumerate(names):
            (folder / "images/train" / f"{name}.jpg").write_bytes(jpeg(photo(seed)))
        for name in (*names[:-1], "no_image"):
            mask = values.copy()
            if name == "unknown":
                mask[:3, :3] = 17
            if name == "ignored":
                mask[:] = 255
            if name == "other_size":
                mask = mask[:50, :60]
            Image.fromarray(mask).save(folder / "masks/train" / f"{name}.png")
        cut = folder / "masks/train/cut.png"
        cut.write_bytes(cut.read_bytes()[:60])
        return folder

    return write


@pytest.fixture
def one_empty_image(tmp_path: Path) -> Path:
    """A data set of a single image that shows nothing."""
    part = CocoSplit(tmp_path / "one", "train", first_id=0)
    part.add_image("a.jpg", jpeg(photo(0)))
    part.write(["cat"])
    return tmp_path / "one"
