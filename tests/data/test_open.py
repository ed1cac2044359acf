import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import Instances
from mask2former.data.derive import instance_rles
from mask2former.data.images import read_image
from mask2former.data.open import list_splits, open_dataset
from mask2former.data.synthetic import write_synthetic
from mask2former.masks.rle import rle_area

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "data"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
)

# (folder, split, format, images, classes, annotations), from the samples' own README; CamVid has
# no objects to count there
COUNTS = [
    ("camvid", "train", "png-masks", 44, 11, None),
    ("camvid", "val", "png-masks", 22, 11, None),
    ("nuts_coco", "train", "coco-instance", 12, 3, 101),
    ("nuts_coco", "val", "coco-instance", 6, 3, 64),
    ("coco_instances", "train", "coco-instance", 50, 80, 470),
    ("coco_instances", "val", "coco-instance", 50, 80, 382),
    ("coco_panoptic", "train", "coco-panoptic", 24, 133, 284),
    ("coco_panoptic", "val", "coco-panoptic", 12, 133, 171),
    ("panopticapi_sample", "examples", "coco-panoptic", 2, 133, 50),
]


@needs_samples
@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "split", "data_format", "num_images", "num_classes", "num_annotations"), COUNTS
)
def test_real_data_have_the_counts_that_are_known(
    name: str,
    split: str,
    data_format: str,
    num_images: int,
    num_classes: int,
    num_annotations: int | None,
) -> None:
    dataset = open_dataset(SAMPLES / name, split)
    assert dataset.format == data_format
    assert len(dataset) == num_images
    assert len(dataset.classes) == num_classes
    annotations = [dataset.annotations(i) for i in range(num_images)]
    if num_annotations is not None:
        objects = [a.items if isinstance(a, Instances) else a.segments for a in annotations]
        assert sum(map(len, objects)) == num_annotations


@needs_samples
@pytest.mark.parity
@pytest.mark.parametrize("split", ["train", "val"])
def test_real_coco_has_five_crowds_and_80_things(split: str) -> None:
    dataset = open_dataset(SAMPLES / "coco_instances", split)
    rles = [rle for i in range(len(dataset)) for rle in instance_rles(dataset.annotations(i))]
    assert sum(is_crowd for _, _, is_crowd, _ in rles) == 5
    assert len({class_id for class_id, *_ in rles}) == {"train": 49, "val": 48}[split]
    panoptic = open_dataset(SAMPLES / "coco_panoptic", "train")
    assert sum(panoptic.classes.is_thing) == 80


@needs_samples
@pytest.mark.parity
def test_panoptic_sample_equals_its_published_conversion_to_instances() -> None:
    # the same content as COCO detection JSON: area of each segment, in the same order
    text = (SAMPLES / "panopticapi_sample" / "panoptic_coco_detection_format.json").read_text()
    published = json.loads(text)["annotations"]
    dataset = open_dataset(SAMPLES / "panopticapi_sample", "examples")
    for i, record in enumerate(dataset.records):
        ours = sorted(
            (dataset.classes.category_ids[class_id], rle_area(rle), rle["counts"].decode())
            for class_id, rle, _, _ in instance_rles(dataset.annotations(i))
        )
        theirs = sorted(
            (a["category_id"], a["area"], a["segmentation"]["counts"])
            for a in published
            if a["image_id"] == record.image_id
        )
        assert ours == theirs


@needs_samples
@pytest.mark.parity
@pytest.mark.parametrize("name", ["camvid", "nuts_coco", "coco_instances", "coco_panoptic"])
def test_real_images_fit_their_annotations(name: str) -> None:
    dataset = open_dataset(SAMPLES / name, "val")
    for i in range(0, len(dataset), 5):
        annotations = dataset.annotations(i)
        if isinstance(annotations, Instances):
            size = (annotations.height, annotations.width)
        else:
            size = annotations.ids.shape
        assert read_image(dataset.records[i].image, annotated_size=size).shape[:2] == size


def write_masks(folder: Path, split: str) -> None:
    for place in ("images", "masks"):
        (folder / place / split).mkdir(parents=True)
        Image.fromarray(np.eye(4, 5, dtype=np.uint8)).save(folder / place / split / "a.png")


@pytest.fixture
def panoptic(tmp_path: Path) -> Path:
    write_synthetic(tmp_path / "set", train_images=1, val_images=1, size=(32, 40), seed=0)
    return tmp_path / "set"


def write_instances(folder: Path) -> None:
    (folder / "annotations" / "instances_train.json").write_text(
        '{"images": [{"id": 0, "file_name": "000000.jpg", "height": 32, "width": 40}], '
        '"annotations": [], "categories": [{"id": 1, "name": "a"}]}'
    )


@pytest.mark.parametrize(
    ("task", "data_format"),
    [
        (None, "coco-panoptic"),
        ("panoptic", "coco-panoptic"),
        ("instance", "coco-instance"),
        ("semantic", "coco-panoptic"),
    ],
)
def test_of_two_formats_the_one_made_for_the_task_is_read(
    panoptic: Path, task, data_format: str
) -> None:
    write_instances(panoptic)
    assert open_dataset(panoptic, "train", task=task).format == data_format


def test_a_format_that_serves_the_task_goes_before_one_that_does_not(tmp_path: Path) -> None:
    write_masks(tmp_path, "train")
    (tmp_path / "annotations").mkdir()
    write_instances(tmp_path)
    Image.new("RGB", (40, 32)).save(tmp_path / "000000.jpg")
    assert open_dataset(tmp_path, "train", task="semantic").format == "png-masks"
    # none serves panoptic: the first that is found, and `for_task` says what it can do
    assert open_dataset(tmp_path, "train", task="panoptic").format == "coco-instance"


def test_validation_split_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    write_masks(tmp_path, "training")
    write_masks(tmp_path, "validation")
    assert list_splits(tmp_path) == ["training", "validation"]
    assert open_dataset(tmp_path, "val").split == "validation"


def test_ignore_index_reaches_the_masks(tmp_path: Path) -> None:
    write_masks(tmp_path, "train")
    assert open_dataset(tmp_path, "train", ignore_index=0).classes.category_ids == (1,)


def test_missing_split_is_refused(panoptic: Path) -> None:
    with pytest.raises(ValueError, match="no split 'test'; the data set has 'train', 'val'"):
        open_dataset(panoptic, "test")


def test_unknown_layout_says_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "notes.txt").touch()
    message = (
        r"no data set of a known format in .*, which holds notes\.txt, pictures/; looked for "
        r"coco-panoptic: annotations/panoptic_\{split\}\*\.json .*coco-instance: .*png-masks: "
    )
    for call in (list_splits, lambda folder: open_dataset(folder, "train")):
        with pytest.raises(ValueError, match=message):
            call(tmp_path)


def test_empty_folder_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which holds nothing; looked for"):
        open_dataset(tmp_path, "train")


def test_missing_folder_and_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no data set folder at .*gone; correct the path"):
        open_dataset(tmp_path / "gone", "train")
    (tmp_path / "set.zip").touch()
    with pytest.raises(ValueError, match=r"set\.zip is a file; give the folder"):
        open_dataset(tmp_path / "set.zip", "train")
