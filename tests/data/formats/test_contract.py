"""What is true of every format, on its own data sets and on any other folder."""

import os
import pickle
import re
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import Instances, Layered, SegmentMap
from mask2former.data.dataset import Dataset
from mask2former.data.derive import for_task
from mask2former.data.formats.format import WHOLE, Format, Reading
from mask2former.data.locate import FORMATS, find_format

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
)
NAMES = [one.name for one in FORMATS]
BY_NAME = {one.name: one for one in FORMATS}
SECONDS = 2.0
"""In which a folder is looked at, on a busy machine; it takes milliseconds."""

every_format = pytest.mark.parametrize("one", FORMATS, ids=NAMES)
every_name = pytest.mark.parametrize("name", NAMES)
Tiny = Callable[[str], Path]


def claims(folder: Path) -> list[str]:
    """The formats that say that a folder is theirs."""
    return [one.name for one in FORMATS if one.find(folder) is not None]


def open_tiny(name: str, folder: Path) -> Dataset:
    found = BY_NAME[name].find(folder)
    assert found is not None
    (split,) = found.splits
    return BY_NAME[name].read(folder, split, found, Reading())


def test_names_are_told_apart_and_written_alike() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for name in NAMES:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9.]+)*", name), name


@every_format
def test_layouts_and_functions_are_given(one: Format) -> None:
    assert one.layouts
    assert all(layout == layout.strip() != "" for layout in one.layouts)
    pickle.dumps((one.find, one.read))


@every_name
def test_the_smallest_data_set_is_found_first_by_its_own_format(name: str, tiny: Tiny) -> None:
    folder = tiny(name)
    assert claims(folder)[0] == name
    assert find_format(folder).format.name == name


@every_name
def test_what_find_says_is_what_read_gives(name: str, tiny: Tiny) -> None:
    folder = tiny(name)
    found = BY_NAME[name].find(folder)
    assert found is not None
    (split,) = found.splits
    assert split in ("train", "training", WHOLE)
    dataset = open_tiny(name, folder)
    assert (dataset.format, dataset.folder, dataset.split) == (name, folder, split)
    assert dataset.tasks == found.tasks
    assert len(dataset) == 1


@every_name
def test_annotations_fit_the_tasks_and_the_image(name: str, tiny: Tiny) -> None:
    dataset = open_tiny(name, tiny(name))
    (record,) = dataset.records
    # readers run in other processes
    decode = pickle.loads(pickle.dumps(dataset.decode))  # noqa: S301
    annotations = decode(pickle.loads(pickle.dumps(record)))  # noqa: S301
    assert isinstance(annotations, Instances | SegmentMap | Layered)
    assert record.num_objects == (1 if isinstance(annotations, Instances) else None)
    for task in dataset.tasks:
        derived = for_task(dataset, task).annotations(0)
        if isinstance(derived, Instances):
            assert task == "instance"
            assert (derived.height, derived.width) == (6, 8)
            assert len(derived.items) == 1
        else:
            assert derived.ids.shape == (6, 8)
            assert derived.ids.dtype == np.int32
            # a class that is listed is a class of the data set
            classes = for_task(dataset, task).classes
            assert all(0 <= s.class_id < len(classes) for s in derived.segments)
            assert len(derived.segments) > 0


@every_name
def test_notes_are_sentences(name: str, tiny: Tiny) -> None:
    for note in open_tiny(name, tiny(name)).notes:
        assert note[0].isupper() or note[0].isdigit() or note.startswith("_"), note
        assert note.endswith("."), note


@every_format
def test_an_empty_or_missing_folder_is_of_no_format(one: Format, tmp_path: Path) -> None:
    assert one.find(tmp_path) is None
    assert one.find(tmp_path / "gone") is None
    (tmp_path / "file").touch()
    assert one.find(tmp_path / "file") is None


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, in the folder itself and in folders with usual names, and nothing else."""
    folder = tmp_path_factory.mktemp("photos")
    Image.new("RGB", (4, 3)).save(folder / "0.jpg")
    for place in ("", "images", "train", "val/images", "JPEGImages", "a/b/c/d/e/f"):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for i in range(1, 400):
            (folder / place / f"{i}.jpg").hardlink_to(folder / "0.jpg")
    return folder


@every_format
def test_a_folder_of_photos_is_of_no_format(one: Format, photos: Path) -> None:
    start = time.perf_counter()
    assert one.find(photos) is None
    assert time.perf_counter() - start < SECONDS


USUAL_FILES = (
    "train.json",
    "instances.json",
    "annotations.json",
    "result.json",
    "_annotations.coco.json",
    "annotations/instances_train.json",
    "annotations/panoptic_train.json",
    "annotations/train.json",
    "a.json",
    "id2label.json",
    "categories.json",
    "classes.json",
    "config.json",
    "index.json",
    "dataset_dict.json",
    "state.json",
    "dataset_info.json",
    "metadata.jsonl",
    "metadata.csv",
    "_classes.csv",
    "train/_classes.csv",
    "data.yaml",
    "any.yml",
    "classes.yaml",
    "Annotations/a.xml",
    "labelmap.txt",
    "train.txt",
    "ImageSets/Segmentation/train.txt",
    "train-00000-of-00001.parquet",
    "data-00000-of-00001.arrow",
    "train-000000.tar",
    "train-00000-of-00001.tfrecord",
)
"""Names by which formats are known."""
DAMAGE = {
    "empty": b"",
    "cut": b'{"images": [{"id": 1, "names": "na',
    "other": b'["names", "images", 3]',
    "nested": b"[" * 100_000,
    "binary": bytes(range(256)) * 16,
    "yaml": b"names: [a, b\ntrain: {*unknown}\n\t- x",
    "csv": b"file_name,a\nx.png,1,2,3\n",
    "numbers": b'{"splits": 3, "_data_files": [4], "names": 5, "train": [[]], "images": {}}',
}
SURE = {
    "_annotations.coco.json",
    "instances_train.json",
    "dataset_dict.json",
    "state.json",
    "metadata.jsonl",
    ".parquet",
    "data.yaml",
}
"""Whoever writes such a file means the format: what is wrong with it is told when it is read."""


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """(folder, the damaged file in it), one for each name and damage."""
    root = tmp_path_factory.mktemp("damaged")
    folders = []
    for i, (usual, damage) in enumerate(product(USUAL_FILES, DAMAGE)):
        path = root / f"{i}-{damage}" / usual
        path.parent.mkdir(parents=True)
        path.write_bytes(DAMAGE[damage])
        folders.append((root / f"{i}-{damage}", usual))
    return folders


@every_format
def test_a_damaged_file_is_none_or_is_named_when_it_is_read(
    one: Format, damaged: list[tuple[Path, str]]
) -> None:
    for folder, usual in damaged:
        found = one.find(folder)
        if found is None:
            continue
        assert any(usual.endswith(sure) for sure in SURE), f"{one.name} claims any {usual}"
        (split,) = found.splits
        with pytest.raises((ValueError, FileNotFoundError, ImportError)) as error:
            one.read(folder, split, found, Reading())
        assert Path(usual).name in str(error.value) or "pyarrow" in str(error.value), folder


@every_format
def test_files_where_folders_should_be_and_the_reverse_are_of_no_format(
    one: Format, tmp_path: Path
) -> None:
    for name in ("images", "masks", "annotations", "JPEGImages", "leftImg8bit", "train", "index"):
        (tmp_path / name).touch()
    for name in USUAL_FILES:
        if "/" not in name:
            (tmp_path / name).mkdir()
    assert one.find(tmp_path) is None


FOLDERS = ("images", "masks", "annotations", "labels", "JPEGImages", "Annotations", "train", "data")


@every_format
def test_links_in_circles_are_of_no_format(one: Format, tmp_path: Path) -> None:
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "up").symlink_to(tmp_path)
        (tmp_path / name / "itself").symlink_to("itself")
        (tmp_path / name / "gone.png").symlink_to("nowhere.png")
    for name in ("train.json", "data.yaml", "val"):
        (tmp_path / name).symlink_to(name)
    start = time.perf_counter()
    assert one.find(tmp_path) is None
    assert time.perf_counter() - start < SECONDS


@every_name
def test_folders_that_may_not_be_read_are_not_there(name: str, tiny: Tiny) -> None:
    folder = tiny(name)
    inner = [folder / "locked", *(path for path in folder.iterdir() if path.is_dir())]
    inner[0].mkdir()
    for path in inner:
        path.chmod(0)
    try:
        if os.access(inner[0], os.R_OK):
            pytest.skip("this user may read everything")
        for one in FORMATS:
            one.find(folder)  # claimed or not, but no error
    finally:
        for path in inner:
            path.chmod(0o700)


# which formats claim each sample, in order of preference
CLAIMS = {
    "ade20k_sample": ["ade20k", "png-masks"],
    "camvid": ["png-masks"],
    "caps_video": ["youtube-vis", "davis"],
    "cityscapes_sample": ["cityscapes"],
    "coco_instances": ["coco-instance"],
    "coco_panoptic": ["coco-panoptic"],
    "davis_video": ["youtube-vis", "davis"],
    "labelme_instances": ["labelme"],
    "labelme_instances/data_annotated": ["labelme"],
    "labelme_instances/data_dataset_coco": ["coco-instance"],
    "labelme_instances/data_dataset_voc": ["voc"],
    "labelme_video": ["youtube-vis", "labelme"],
    "mapillary_sample": ["mapillary-v1.2", "mapillary-v2.0"],
    "metrics_reference": [],
    "nuts_coco": ["coco-instance"],
    "pan_clips": ["youtube-vis"],
    "panopticapi_sample": ["coco-panoptic"],
    "penn_fudan": ["instance-png"],
}


@needs_samples
@pytest.mark.parity
@pytest.mark.parametrize("sample", CLAIMS)
def test_real_data_are_claimed_by_these_formats(sample: str) -> None:
    assert claims(SAMPLES / sample) == CLAIMS[sample]


@needs_samples
@pytest.mark.parity
def test_the_claims_of_all_real_data_are_known() -> None:
    assert {path.name for path in SAMPLES.iterdir() if path.is_dir()} <= set(CLAIMS)
