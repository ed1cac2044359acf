"""The files of the benchmarks' own scripts, made by the commands of docs/benchmarks.md."""

import contextlib
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mask2former.cli.main import OK, main
from mask2former.data.class_tables import class_table
from mask2former.data.derive import for_task, semantic_map
from mask2former.data.open import open_dataset

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
SAMPLES = ROOT / ".." / "shared" / "data"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the real sample data are not beside this checkout"
)
IMAGES = 12
"""Of each split, drawn at random."""
SIZE = (11, 14)
ADE20K_THINGS = [i for i, thing in enumerate(class_table("ade20k").is_thing) if thing]
ADE20K_STUFF = [i for i, thing in enumerate(class_table("ade20k").is_thing) if not thing]
TRAIN_IDS = {label: i for i, label in enumerate(class_table("cityscapes").category_ids)}
CITYSCAPES_WITH_OBJECTS = (24, 25, 26, 27, 28, 31, 32, 33)


def commands() -> list[list[str]]:
    """Words of every conversion that the page shows."""
    lines = re.findall(r"^mask2former (data convert .*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def command_to(name: str) -> list[str]:
    [words] = [words for words in commands() if Path(words[3]).name == name]
    return words


def prepare(name: str, cwd: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict:
    """Run the command that writes a folder of that name; its answer and where it wrote."""
    words = command_to(name)
    source, output = cwd / words[2], cwd / words[3]
    capsys.readouterr()
    code = main([*words[:2], str(source), str(output), *words[4:], "--workers", "0", "--json"])
    shown = capsys.readouterr()
    assert code == OK, shown.err
    return json.loads(shown.out)


def blocks(rng: np.random.Generator, values: list[int], count: int = 6) -> np.ndarray:
    """A map of rectangles over each other."""
    found = np.full(SIZE, rng.choice(values), np.int64)
    for _ in range(count):
        top, left = rng.integers(0, SIZE[0]), rng.integers(0, SIZE[1])
        height, width = rng.integers(1, 8, 2)
        found[top : top + height, left : left + width] = rng.choice(values)
    return found


def save(values: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def photo(path: Path) -> None:
    save(np.zeros((*SIZE, 3), np.uint8), path)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(np.int64)


def read_ids(path: Path) -> np.ndarray:
    return read(path) @ np.array([1, 256, 65536])


def contents(folder: Path) -> dict[Path, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def box_of(mask: np.ndarray) -> list[int]:
    """(x, y, width, height) in whole pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [
        int(columns[0]),
        int(rows[0]),
        int(columns[-1] - columns[0] + 1),
        int(rows[-1] - rows[0] + 1),
    ]


def write_ade20k(folder: Path) -> None:
    rng = np.random.default_rng(1)
    for split, name in (("training", "train"), ("validation", "val")):
        for i in range(1, IMAGES + 1):
            stem = f"ADE_{name}_{i:08d}"
            photo(folder / "images" / split / f"{stem}.jpg")
            semantic = blocks(rng, list(range(151)))
            save(semantic.astype(np.uint8), folder / "annotations" / split / f"{stem}.png")
            numbers = blocks(rng, [0, 0, *range(1, 9)])
            labels = np.array([0, *rng.integers(1, 101, 8)])[numbers]
            objects = np.stack([labels, numbers, 0 * numbers], -1).astype(np.uint8)
            save(objects, folder / "annotations_instance" / split / f"{stem}.png")


def write_cityscapes(folder: Path) -> None:
    rng = np.random.default_rng(2)
    objects = [label * 1000 + n for label in (*CITYSCAPES_WITH_OBJECTS, 29) for n in range(3)]
    for split in ("train", "val"):
        for city in ("aachen", "bochum"):
            for i in range(IMAGES // 2):
                stem = f"{city}_{i:06d}_000019"
                photo(folder / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png")
                ids = blocks(rng, [*range(34), *objects], count=12)
                path = folder / "gtFine" / split / city / f"{stem}_gtFine_instanceIds.png"
                save(ids.astype(np.uint16), path)


def write_mapillary(folder: Path) -> None:
    rng = np.random.default_rng(3)
    values = [label * 256 + n for label in range(66) for n in range(2)]
    for split in ("training", "validation"):
        for i in range(IMAGES):
            stem = f"{split[:5]}{i:017d}"
            photo(folder / split / "images" / f"{stem}.jpg")
            save(blocks(rng, values).astype(np.uint16), folder / split / f"instances/{stem}.png")


def write_coco(folder: Path) -> None:
    rng = np.random.default_rng(4)
    categories = class_table("coco_panoptic").category_ids
    listed = [{"id": c, "name": f"{c}", "isthing": int(i < 80)} for i, c in enumerate(categories)]
    for split in ("train2017", "val2017"):
        images, annotations = [], []
        for i in range(1, IMAGES + 1):
            photo(folder / split / f"{i:012d}.jpg")
            ids = blocks(rng, [0, 1, 2, 300, 70_000])
            colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
            save(colors, folder / "annotations" / f"panoptic_{split}" / f"{i:012d}.png")
            segments = [
                {
                    "id": int(id_),
                    "category_id": int(rng.choice(categories)),
                    "iscrowd": int(rng.random() < 0.2),
                    "area": int((ids == id_).sum()),
                    "bbox": box_of(ids == id_),
                }
                for id_ in np.unique(ids[ids > 0])
            ]
            name = {"file_name": f"{i:012d}.jpg", "height": SIZE[0], "width": SIZE[1]}
            images.append({"id": i, **name})
            png = {"image_id": i, "file_name": f"{i:012d}.png"}
            annotations.append({**png, "segments_info": segments})
        content = {"images": images, "annotations": annotations, "categories": listed}
        path = folder / "annotations" / f"panoptic_{split}.json"
        path.write_text(json.dumps(content), encoding="utf-8")


WRITE: dict[str, Callable[[Path], None]] = {
    "ADEChallengeData2016": write_ade20k,
    "cityscapes": write_cityscapes,
    "mapillary_vistas": write_mapillary,
    "coco": write_coco,
}


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every benchmark, named as on the page, laid out as it is downloaded."""
    folder = tmp_path_factory.mktemp("downloads")
    for name, write in WRITE.items():
        write(folder / name)
    return folder


@pytest.fixture
def place(downloads: Path) -> Iterator[Path]:
    """The same, and what is prepared there is taken away again."""
    yield downloads
    shutil.rmtree(downloads / "prepared", ignore_errors=True)


def panoptic_annotations(folder: Path, split: str) -> Iterator[tuple[dict, np.ndarray]]:
    """Entries and ids of the pixels of one split; areas, boxes and lists must be of the pixels."""
    content = json.loads((folder / "annotations" / f"panoptic_{split}.json").read_text("utf-8"))
    assert len(content["annotations"]) == len(content["images"]) == IMAGES
    for entry in content["annotations"]:
        ids = read_ids(folder / "annotations" / f"panoptic_{split}" / entry["file_name"])
        segments = {segment["id"]: segment for segment in entry["segments_info"]}
        assert set(segments) == set(np.unique(ids).tolist()) - {0}
        for id_, segment in segments.items():
            assert segment["area"] == (ids == id_).sum()
            assert segment["bbox"] == box_of(ids == id_)
        yield entry, ids


def named_objects(path: Path) -> tuple[COCO, dict[str, list[dict]]]:
    """What pycocotools reads, and the annotations by the name of their image."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(path)
    images = coco.loadImgs(coco.getImgIds())
    assert len(images) == IMAGES
    return coco, {
        Path(image["file_name"]).stem: coco.loadAnns(coco.getAnnIds([image["id"]]))
        for image in images
    }


def assert_objects_are(
    coco: COCO, found: list[dict], expected: dict[int, tuple[int, np.ndarray]]
) -> None:
    """Category, mask, area, box of every object, in order of numbers in the PNG."""
    assert len(found) == len(expected)
    for one, (category, mask) in zip(found, expected.values(), strict=True):
        assert one["category_id"] == category
        assert np.array_equal(coco.annToMask(one), mask)
        assert one["area"] == mask.sum() == coco_mask.area(coco.annToRLE(one))
        assert one["bbox"] == box_of(mask) == coco_mask.toBbox(coco.annToRLE(one)).tolist()
        assert one["iscrowd"] == 0


@pytest.mark.parametrize("words", commands(), ids=lambda words: Path(words[3]).name)
def test_every_command_writes_the_same_bytes_twice(
    words: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []
    name = Path(words[3]).name
    for _ in range(2):
        answer = prepare(name, place, capsys)
        written.append(contents(Path(answer["output"])))
        shutil.rmtree(answer["output"])
    assert len(written[0]) > 2 * IMAGES
    assert written[0] == written[1]


def test_processes_change_no_byte(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = []
    for workers in ("0", "2"):
        words = command_to("ade20k_panoptic")
        output = place / "prepared" / workers
        paths = [str(place / words[2]), str(output)]
        assert main([*words[:2], *paths, *words[4:], "--workers", workers]) == OK
        written.append(contents(output))
    capsys.readouterr()
    assert written[0] == written[1]


def test_ade20k_semantic_is_the_value_less_one(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare("ade20k_semantic", place, capsys)
    for split in ("training", "validation"):
        paths = sorted((place / "ADEChallengeData2016/annotations" / split).iterdir())
        for path in paths:
            values = read(place / "prepared/ade20k_semantic/masks" / split / path.name)
            # in 8 bits, so that 0 becomes 255
            assert np.array_equal(values, (read(path) - 1) % 256)


def test_ade20k_panoptic_is_objects_over_stuff(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = prepare("ade20k_panoptic", place, capsys)
    source = place / "ADEChallengeData2016"
    seen = set()
    for split in ("training", "validation"):
        for entry, ids in panoptic_annotations(Path(answer["output"]), split):
            semantic = read(source / "annotations" / split / entry["file_name"]) - 1
            labels, numbers, _ = np.moveaxis(
                read(source / "annotations_instance" / split / entry["file_name"]), -1, 0
            )
            categories = {s["id"]: s["category_id"] for s in entry["segments_info"]}
            category = np.array([categories.get(int(i), -1) for i in ids.ravel()]).reshape(SIZE)
            things = np.array([-1, *ADE20K_THINGS])[labels]
            stuff = np.where(np.isin(semantic, ADE20K_STUFF), semantic, -1)
            assert np.array_equal(category, np.where(numbers > 0, things, stuff))
            for number in np.unique(numbers[numbers > 0]):
                [id_] = np.unique(ids[numbers == number])
                assert np.array_equal(ids == id_, numbers == number)
            assert not any(segment["iscrowd"] for segment in entry["segments_info"])
            seen |= set(categories.values())
    content = json.loads(
        (Path(answer["output"]) / "annotations/panoptic_training.json").read_text()
    )
    listed = {entry["id"]: bool(entry["isthing"]) for entry in content["categories"]}
    assert listed == dict(enumerate(class_table("ade20k").is_thing))
    assert len(ADE20K_THINGS) == 100
    assert len(seen) > 50


def test_ade20k_instance_has_the_numbers_of_the_150_classes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = prepare("ade20k_instance", place, capsys)
    for split in ("training", "validation"):
        path = Path(answer["output"]) / "annotations" / f"instances_{split}.json"
        coco, objects = named_objects(path)
        assert coco.getCatIds() == ADE20K_THINGS
        for stem, found in objects.items():
            png = place / "ADEChallengeData2016/annotations_instance" / split / f"{stem}.png"
            labels, numbers, _ = np.moveaxis(read(png), -1, 0)
            expected = {
                int(n): (ADE20K_THINGS[labels[numbers == n][0] - 1], numbers == n)
                for n in np.unique(numbers[numbers > 0])
            }
            assert_objects_are(coco, found, expected)


def test_ade20k_objects_by_name() -> None:
    # rows of the reference's table of ids: its 1 is bed, 2 window, 4 person
    names = class_table("ade20k").names
    assert [ADE20K_THINGS[i - 1] for i in (1, 2, 4)] == [7, 8, 12]
    assert names[7].startswith("bed")
    assert names[8].startswith("window")
    assert names[12].startswith("person")


def test_coco_semantic_is_the_place_in_the_list_of_categories(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = prepare("coco_semantic", place, capsys)
    values_of = {c: i for i, c in enumerate(class_table("coco_panoptic").category_ids)}
    for split in ("train2017", "val2017"):
        content = json.loads((place / f"coco/annotations/panoptic_{split}.json").read_text())
        for entry in content["annotations"]:
            ids = read_ids(place / f"coco/annotations/panoptic_{split}" / entry["file_name"])
            expected = np.full(SIZE, 255)
            for segment in entry["segments_info"]:  # crowds, too
                expected[ids == segment["id"]] = values_of[segment["category_id"]]
            masks = Path(answer["output"]) / "masks" / split.removesuffix("2017")
            assert np.array_equal(read(masks / entry["file_name"]), expected)


def test_cityscapes_train_ids_are_0_to_18_and_255(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = prepare("cityscapes_train_ids", place, capsys)
    for split in ("train", "val"):
        paths = sorted((place / "cityscapes/gtFine" / split).rglob("*_instanceIds.png"))
        assert len(paths) == IMAGES
        for path in paths:
            ids = read(path)
            labels = np.where(ids >= 1000, ids // 1000, ids)
            expected = np.vectorize(lambda label: TRAIN_IDS.get(label, 255))(labels)
            stem = path.name.removesuffix("_gtFine_instanceIds.png")
            mask = Path(answer["output"]) / "masks" / split / path.parent.name
            assert np.array_equal(read(mask / f"{stem}_leftImg8bit.png"), expected)
    # cityscapesScripts' labels.py: road, car and bicycle
    assert (TRAIN_IDS[7], TRAIN_IDS[26], TRAIN_IDS[33]) == (0, 13, 18)


def test_cityscapes_panoptic_ids_are_those_of_the_instance_files(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = prepare("cityscapes_panoptic", place, capsys)
    crowds = 0
    for split in ("train", "val"):
        for entry, ids in panoptic_annotations(Path(answer["output"]), split):
            stem = Path(entry["file_name"]).name.removesuffix("_leftImg8bit.png")
            city = stem.split("_")[0]
            known = read(place / f"cityscapes/gtFine/{split}/{city}/{stem}_gtFine_instanceIds.png")
            labels = np.where(known >= 1000, known // 1000, known)
            scored = np.isin(labels, list(TRAIN_IDS))
            assert np.array_equal(ids, np.where(scored, known, 0))
            for segment in entry["segments_info"]:
                label = segment["id"] // 1000 if segment["id"] >= 1000 else segment["id"]
                assert segment["category_id"] == label
                # a group of what has objects, which nobody could tell apart
                is_group = label in CITYSCAPES_WITH_OBJECTS and segment["id"] < 1000
                assert segment["iscrowd"] == int(is_group)
                crowds += is_group
    assert crowds > IMAGES


def test_mapillary_instance_has_37_kinds_of_things(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = prepare("mapillary_instance", place, capsys)
    table = class_table("mapillary_vistas")
    things = [i for i, thing in enumerate(table.is_thing) if thing]
    assert len(things) == 37
    stuff = next(loss for loss in answer["losses"] if loss["kind"] == "stuff")
    assert stuff["count"] == 65 - 37
    for split in ("training", "validation"):
        path = Path(answer["output"]) / "annotations" / f"instances_{split}.json"
        coco, objects = named_objects(path)
        # panoptic_2018.json numbers labels from 1
        assert coco.getCatIds() == [i + 1 for i in things]
        assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == [
            table.names[i] for i in things
        ]
        for stem, found in objects.items():
            values = read(place / "mapillary_vistas" / split / "instances" / f"{stem}.png")
            expected = {
                int(value): (int(value) // 256 + 1, values == value)
                for value in np.unique(values)
                if value // 256 in things
            }
            assert_objects_are(coco, found, expected)


@pytest.mark.parametrize(
    ("name", "source", "split"),
    [
        ("ade20k_semantic", "ADEChallengeData2016", "val"),
        ("coco_semantic", "coco", "val"),
        ("cityscapes_train_ids", "cityscapes", "val"),
    ],
)
def test_what_was_prepared_is_what_the_download_is_read_as(
    name: str, source: str, split: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = prepare(name, place, capsys)
    kind = "coco-panoptic" if source == "coco" else None
    read_as = for_task(open_dataset(place / source, split, format=kind), "semantic")
    prepared = open_dataset(Path(answer["output"]), split, task="semantic")
    assert prepared.classes.names == read_as.classes.names
    assert [r.image.name for r in prepared.records] == [r.image.name for r in read_as.records]
    num_classes = len(read_as.classes)
    for i in range(len(read_as)):
        ours = semantic_map(for_task(prepared, "semantic").annotations(i), num_classes)
        assert np.array_equal(ours, semantic_map(read_as.annotations(i), num_classes))


@needs_samples
@pytest.mark.parity
def test_train_ids_of_a_real_frame_are_those_of_cityscapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cityscapes"
    shutil.copytree(SAMPLES / "cityscapes_sample", folder)
    [known] = (SAMPLES / "cityscapes_sample").rglob("*_labelTrainIds.png")
    answer = prepare("cityscapes_train_ids", tmp_path, capsys)
    [mask] = (Path(answer["output"]) / "masks").rglob("*.png")
    # the files of the sample were shrunk one by one, so that edges differ
    assert (read(mask) == read(known)).mean() > 0.997
    shutil.rmtree(answer["output"])
    for path in (*folder.rglob("*_instanceIds.png"), *folder.rglob("*_labelIds.png")):
        path.unlink()
    prepare("cityscapes_train_ids", tmp_path, capsys)
    assert np.array_equal(read(mask), read(known))


@needs_samples
@pytest.mark.parity
def test_semantic_masks_of_real_coco_are_those_of_another_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(SAMPLES / "coco_panoptic", tmp_path / "coco")
    answer = prepare("coco_semantic", tmp_path, capsys)
    # there values are category ids, and 0 is unlabelled
    values_of = {c: i for i, c in enumerate(class_table("coco_panoptic").category_ids)} | {0: 255}
    paths = sorted((SAMPLES / "coco_panoptic/semantic_masks").rglob("*.png"))
    assert len(paths) == 36
    for path in paths:
        expected = np.vectorize(values_of.__getitem__)(read(path))
        mask = Path(answer["output"]) / "masks" / path.parent.name / path.name
        assert np.array_equal(read(mask), expected)


@needs_samples
@pytest.mark.parity
def test_labels_of_real_ade20k_are_the_values_less_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(SAMPLES / "ade20k_sample", tmp_path / "ADEChallengeData2016")
    answer = prepare("ade20k_semantic", tmp_path, capsys)
    paths = sorted((SAMPLES / "ade20k_sample/annotations").iterdir())
    assert len(paths) == 3
    for path in paths:
        [mask] = (Path(answer["output"]) / "masks").rglob(path.name)
        assert np.array_equal(read(mask), (read(path) - 1) % 256)
