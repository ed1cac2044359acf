import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import Instances
from mask2former.data.derive import for_task, instance_rles, panoptic_map, semantic_map
from mask2former.data.images import read_image
from mask2former.data.locate import FORMATS, find_format
from mask2former.data.open import (
    DataFolder,
    list_splits,
    natural_tasks,
    open_dataset,
    open_every_split,
)
from mask2former.data.problems import Collected
from mask2former.data.synthetic import write_synthetic
from mask2former.masks.rle import rle_area

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "data"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
)

# (folder, split, format, images, classes, annotations), from the samples' own README; semantic data
# have no objects to count there, and of the 12 objects of LabelMe one is an ignored shape
COUNTS = [
    ("ade20k_sample", "all", "ade20k", 3, 150, None),
    ("camvid", "train", "png-masks", 44, 11, None),
    ("camvid", "val", "png-masks", 22, 11, None),
    ("caps_video", "all", "youtube-vis", 5, 1, 8),
    ("cityscapes_sample", "val", "cityscapes", 1, 19, None),
    ("coco_instances", "train", "coco-instance", 50, 80, 470),
    ("coco_instances", "val", "coco-instance", 50, 80, 382),
    ("coco_panoptic", "train", "coco-panoptic", 24, 133, 284),
    ("coco_panoptic", "val", "coco-panoptic", 12, 133, 171),
    ("davis_video", "train", "youtube-vis", 24, 2, 24),
    ("davis_video", "val", "youtube-vis", 24, 2, 24),
    ("labelme_instances", "all", "labelme", 3, 20, None),
    ("labelme_instances/data_dataset_coco", "all", "coco-instance", 3, 20, None),
    ("labelme_instances/data_dataset_voc", "all", "voc", 3, 21, None),
    ("labelme_video", "all", "youtube-vis", 5, 2, 10),
    ("mapillary_sample", "all", "mapillary-v1.2", 1, 65, None),
    ("nuts_coco", "train", "coco-instance", 12, 3, 101),
    ("nuts_coco", "val", "coco-instance", 6, 3, 64),
    ("panopticapi_sample", "examples", "coco-panoptic", 2, 133, 50),
    ("penn_fudan", "all", "instance-png", 14, 1, 33),
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
    natural = for_task(dataset, dataset.tasks[0])
    annotations = [natural.annotations(i) for i in range(num_images)]
    if num_annotations is not None:
        objects = [a.items if isinstance(a, Instances) else a.segments for a in annotations]
        assert sum(map(len, objects)) == num_annotations


@needs_samples
@pytest.mark.parity
@pytest.mark.parametrize("name", sorted({name for name, *_ in COUNTS}))
def test_every_task_of_real_data_can_be_made_of_them(name: str) -> None:
    for task in natural_tasks(SAMPLES / name):
        for split in list_splits(SAMPLES / name, task):
            derived = for_task(open_dataset(SAMPLES / name, split, task=task), task)
            annotations = derived.annotations(0)
            if task == "semantic":
                labels = semantic_map(annotations, len(derived.classes))
                assert labels.max() < len(derived.classes)
            elif task == "panoptic":
                ids, segments = panoptic_map(annotations)
                assert set(np.unique(ids)) - {0} <= {segment.id for segment in segments}
            else:
                assert all(0 <= c < len(derived.classes) for c, *_ in instance_rles(annotations))


@needs_samples
@pytest.mark.parity
@pytest.mark.parametrize("split", ["train", "val"])
def test_real_coco_has_five_crowds_and_80_things(split: str) -> None:
    dataset = open_dataset(SAMPLES / "coco_instances", split)
    natural = for_task(dataset, "instance")
    rles = [rle for i in range(len(dataset)) for rle in instance_rles(natural.annotations(i))]
    assert sum(item.is_crowd for item in rles) == 5
    assert len({class_id for class_id, *_ in rles}) == {"train": 49, "val": 48}[split]
    panoptic = open_dataset(SAMPLES / "coco_panoptic", "train")
    assert sum(panoptic.classes.is_thing) == 80


@needs_samples
@pytest.mark.parity
def test_panoptic_sample_equals_its_published_conversion_to_instances() -> None:
    # the same content as COCO detection JSON: area of each segment, in the same order
    text = (SAMPLES / "panopticapi_sample" / "panoptic_coco_detection_format.json").read_text()
    published = json.loads(text)["annotations"]
    dataset = for_task(open_dataset(SAMPLES / "panopticapi_sample", "examples"), "panoptic")
    for i, record in enumerate(dataset.records):
        ours = sorted(
            (dataset.classes.category_ids[class_id], rle_area(rle), rle["counts"].decode())
            for class_id, rle, *_ in instance_rles(dataset.annotations(i))
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
    dataset = for_task(dataset, dataset.tasks[0])
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
    assert open_dataset(tmp_path, "train", task="panoptic").format == "coco-instance"
    assert open_dataset(tmp_path, "train").format == "coco-instance"


@pytest.mark.parametrize("task", [None, "semantic", "instance", "panoptic"])
def test_the_pngs_of_a_benchmark_are_not_read_as_anybodys(tmp_path: Path, task) -> None:
    for place, kind in (("images", "jpg"), ("labels", "png"), ("instances", "png")):
        (tmp_path / "training" / place).mkdir(parents=True)
        path = tmp_path / "training" / place / f"__CRyFzoDOXn6unQ6a3DnQ.{kind}"
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(path)
    located = find_format(tmp_path, task=task)
    assert located.format.name == "mapillary-v1.2"


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
        r"no data set of a known format in .*, which holds notes\.txt, pictures/; arrange "
        r"the files in one of these layouts:\n(  .*\n)*  coco-panoptic: annotations/panoptic_"
        r"\{split\}\*\.json .*\n(  .*\n)*  coco-instance: .*\n(  .*\n)*  png-masks: "
    )
    for call in (list_splits, lambda folder: open_dataset(folder, "train")):
        with pytest.raises(ValueError, match=message):
            call(tmp_path)


def test_empty_folder_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which holds nothing; arrange"):
        open_dataset(tmp_path, "train")


def test_missing_folder_and_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no data set folder at .*gone; correct the path"):
        open_dataset(tmp_path / "gone", "train")
    (tmp_path / "set.zip").touch()
    with pytest.raises(ValueError, match=r"set\.zip is a file; give the folder"):
        open_dataset(tmp_path / "set.zip", "train")


def test_a_format_can_be_forced(tmp_path: Path) -> None:
    write_masks(tmp_path, "train")
    (tmp_path / "annotations").mkdir()
    write_instances(tmp_path)
    assert open_dataset(tmp_path, "train", format="png_masks").format == "png-masks"
    assert natural_tasks(tmp_path, "png-masks") == ("semantic",)
    assert list_splits(tmp_path, format="png-masks") == ["train"]
    message = r"no data set of the format voc in .*; arrange the files .*:\n  voc: "
    with pytest.raises(ValueError, match=message):
        open_dataset(tmp_path, "train", format="voc")
    with pytest.raises(ValueError, match=r"no format png-mask; did you mean png-masks\?"):
        open_dataset(tmp_path, "train", format="png-mask")


def test_every_format_has_a_name_of_its_own() -> None:
    assert len({data_format.name for data_format in FORMATS}) == len(FORMATS)


def write_unsplit(folder: Path, count: int) -> None:
    """Penn-Fudan's layout."""
    for place in ("PNGImages", "PedMasks"):
        (folder / place).mkdir(parents=True)
    for i in range(count):
        numbers = np.zeros((4, 5), np.uint8)
        numbers[1:3, 1:4] = 1
        Image.fromarray(numbers).convert("RGB").save(folder / "PNGImages" / f"{i:02}.png")
        Image.fromarray(numbers).save(folder / "PedMasks" / f"{i:02}_mask.png")


def names(folder: Path, split: str, **options) -> set[str]:
    return {record.image.name for record in open_dataset(folder, split, **options).records}


def test_a_folder_without_splits_is_divided(tmp_path: Path) -> None:
    write_unsplit(tmp_path, 20)
    assert list_splits(tmp_path) == ["train", "val"]
    train, val = names(tmp_path, "train"), names(tmp_path, "valid")
    assert (len(train), len(val), len(train | val)) == (18, 2, 20)
    assert len(names(tmp_path, "all")) == 20
    assert len(names(tmp_path, "all", fractions=(0.5, 0.5))) == 20
    thirds = {"fractions": (0.5, 0.25, 0.25)}
    assert list_splits(tmp_path, **thirds) == ["train", "val", "test"]
    assert len(names(tmp_path, "test", **thirds)) == 5
    with pytest.raises(ValueError, match="no split 'test'; the data set has 'train', 'val'"):
        open_dataset(tmp_path, "test")
    with pytest.raises(ValueError, match=r"split 0\.9/0\.2: the shares"):
        open_dataset(tmp_path, "train", fractions=(0.9, 0.2))


def test_lists_in_the_folder_divide_it(tmp_path: Path) -> None:
    write_unsplit(tmp_path, 5)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.txt").write_text("00\n03\n")
    (tmp_path / "splits" / "valid.txt").write_text("01\n")
    assert list_splits(tmp_path) == ["train", "valid"]
    assert names(tmp_path, "train") == {"00.png", "03.png"}
    assert names(tmp_path, "val") == {"01.png"}
    assert len(names(tmp_path, "all")) == 5
    message = (
        r"has the splits 'train', 'valid' by .*train\.txt, .*, which fractions would mix; leave"
    )
    for call in (list_splits, lambda *a, **k: open_dataset(*a, "train", **k)):
        with pytest.raises(ValueError, match=message):
            call(tmp_path, fractions=(0.9, 0.1))
    (tmp_path / "splits" / "valid.txt").write_text("09\n")
    problems = Collected()
    assert names(tmp_path, "val", problems=problems) == set()
    assert [problem.kind for problem in problems.found] == ["missing image"]
    (tmp_path / "splits" / "valid.txt").write_text("\n")
    with pytest.raises(
        FileNotFoundError, match=r"valid\.txt names no image of .*; write file names"
    ):
        open_dataset(tmp_path, "val")
    (tmp_path / "splits" / "valid.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(ValueError, match=r"cannot read .*valid\.txt .*save it as UTF-8"):
        open_dataset(tmp_path, "val")


def test_fractions_divide_the_only_split_and_do_not_mix_several(panoptic: Path) -> None:
    with pytest.raises(ValueError, match="has the splits 'train', 'val', which fractions would"):
        open_dataset(panoptic, "train", fractions=(0.5, 0.5))
    write_unsplit(panoptic / "more", 1)
    (panoptic / "annotations" / "panoptic_val.json").unlink()
    assert list_splits(panoptic) == ["train"]
    assert list_splits(panoptic, fractions=(0.5, 0.5)) == ["train", "val"]
    assert len(open_dataset(panoptic, "val", fractions=(0.5, 0.5))) == 1


@pytest.mark.parametrize("only", ["val", "test"])
def test_the_only_split_is_divided_when_fractions_are_given_and_else_what_it_is(
    tmp_path: Path, only: str
) -> None:
    write_masks(tmp_path, only)
    for place in ("images", "masks"):
        for i in range(9):
            shutil.copy(tmp_path / place / only / "a.png", tmp_path / place / only / f"{i}.png")
    assert list_splits(tmp_path) == [only]
    assert len(names(tmp_path, only)) == 10
    missing = {"val": "test", "test": "val"}[only]
    for wanted in ("train", missing):
        message = rf"{tmp_path}: no split '{wanted}'; the data set has '{only}', so name"
        with pytest.raises(ValueError, match=message):
            open_dataset(tmp_path, wanted)
    tenths = {"fractions": (0.9, 0.1)}
    assert (len(names(tmp_path, "train", **tenths)), len(names(tmp_path, "val", **tenths))) == (
        9,
        1,
    )


def test_what_has_no_split_to_train_on_is_divided_to_be_trained_on(
    tmp_path: Path, panoptic: Path
) -> None:
    write_masks(tmp_path / "val", "val")
    write_masks(tmp_path / "train", "train")
    write_unsplit(tmp_path / "whole", 2)
    automatic, given = (0.9, 0.1), (0.5, 0.5)
    cases = [
        ("val", "train", None, automatic),
        ("val", "val", None, None),
        ("val", "train", given, given),
        ("whole", "train", None, automatic),
        ("whole", "all", None, None),
        ("train", "train", None, None),
        ("train", "train", given, given),
    ]
    for name, split, wanted, expected in cases:
        assert DataFolder(tmp_path / name).fractions_to_train(split, wanted) == expected
    for wanted in (None, given):
        assert DataFolder(panoptic).fractions_to_train("train", wanted) is None


def test_every_split_is_opened_and_an_undivided_one_read_once(tmp_path: Path, monkeypatch) -> None:
    write_unsplit(tmp_path, 4)
    located = find_format(tmp_path)
    reads = []

    def read(*arguments):
        reads.append(arguments[1])
        return located.format.read(*arguments)

    counted = replace(located.format, read=read)
    monkeypatch.setattr("mask2former.data.locate.FORMATS", (counted,))
    opened = open_every_split(tmp_path, fractions=(0.5, 0.5))
    assert {name: len(dataset) for name, dataset in opened.items()} == {"train": 2, "val": 2}
    assert reads == ["all"]
    whole = open_every_split(tmp_path)
    assert {name: len(dataset) for name, dataset in whole.items()} == {"all": 4}


def test_the_only_data_set_in_a_folder_is_meant(tmp_path: Path) -> None:
    write_unsplit(tmp_path / "unpacked", 2)
    (tmp_path / "pictures").mkdir()
    dataset = open_dataset(tmp_path, "all")
    assert dataset.folder == tmp_path / "unpacked"
    assert dataset.notes[-1] == (
        f"read from {tmp_path / 'unpacked'}, the only data set in {tmp_path}"
    )
    write_unsplit(tmp_path / "more", 2)
    message = r"holds 2 data sets: .*more \(instance-png\), .*unpacked \(instance-png\); give one"
    with pytest.raises(ValueError, match=message):
        open_dataset(tmp_path, "all")
