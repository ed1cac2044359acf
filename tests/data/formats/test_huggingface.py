import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mask2former.data.annotations import Instances, SegmentMap
from mask2former.data.dataset import Dataset
from mask2former.data.derive import instance_rles, semantic_map
from mask2former.data.formats import arrow_tables
from mask2former.data.formats.format import WHOLE, Found, Reading
from mask2former.data.formats.huggingface import find, read
from mask2former.data.images import read_image
from mask2former.data.problems import Collected
from mask2former.masks.id_maps import ids_to_rgb
from mask2former.masks.rle import decode_rle, encode_mask

pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow (extra hf)")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow (extra hf)")

LABELS = np.array([[0, 1, 1, 2, 255], [0, 0, 1, 2, 2], [1, 1, 0, 0, 2]], np.uint8)
SCORED = np.where(LABELS == 255, -1, LABELS.astype(int))
SQUARE = [1, 0, 3, 0, 3, 2, 1, 2]
OBJECTS = {"category": [1, 0], "segmentation": [[SQUARE], [[0, 0, 2, 0, 2, 2], [3, 0, 5, 0, 5, 2]]]}
SEGMENT_IDS = np.array([[7, 7, 9, 9, 0], [7, 7, 9, 8, 8], [7, 7, 7, 8, 8]])
SEGMENTS = [
    {"id": 7, "category_id": 3, "iscrowd": 0},
    {"id": 8, "category_id": 5, "iscrowd": 0},
    {"id": 9, "category_id": 5, "iscrowd": 0},
]
CLASS_LABEL = {"_type": "ClassLabel", "names": ["fig", "date"]}
OBJECT_FEATURES = {"category": {"feature": CLASS_LABEL, "_type": "List"}, "segmentation": {}}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def cell(pixels: np.ndarray, name: str | None = None) -> dict[str, Any]:
    return {"bytes": png(pixels), "path": name}


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, 5, 3), np.uint8)


def rows(number: int = 3, **columns: Any) -> list[dict[str, Any]]:
    return [{"image": cell(picture(i), f"{i}.png"), **columns} for i in range(number)]


def table_of(content: list[dict[str, Any]], **features: Any) -> Any:
    table = pyarrow.Table.from_pylist(content)
    described = {
        name: {"_type": "Image"}
        for name, kind in zip(table.schema.names, table.schema.types, strict=True)
        if pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    }
    described |= {name: features.get(name, {}) for name in content[0] if name not in described}
    metadata = json.dumps({"info": {"features": described}}) if features else "{}"
    return table.replace_schema_metadata({"huggingface": metadata})


def save_split(place: Path, table: Any) -> None:
    """The layout of `Dataset.save_to_disk`."""
    place.mkdir(parents=True)
    with pyarrow.ipc.new_stream(str(place / "data-00000-of-00001.arrow"), table.schema) as file:
        file.write_table(table, max_chunksize=2)
    (place / "dataset_info.json").write_text("{}")
    files = [{"filename": "data-00000-of-00001.arrow"}]
    (place / "state.json").write_text(json.dumps({"_data_files": files}))


def save(folder: Path, form: str, content: list[dict[str, Any]], **features: Any) -> Path:
    table = table_of(content, **features)
    if form == "saved":
        save_split(folder / "train", table)
        (folder / "dataset_dict.json").write_text('{"splits": ["train"]}')
    else:
        (folder / "data").mkdir(parents=True)
        path = folder / "data" / "train-00000-of-00001.parquet"
        parquet.write_table(table, path, row_group_size=2)
    return folder


def found_in(folder: Path) -> Found:
    found = find(folder)
    assert found is not None
    return found


def open_split(folder: Path, split: str = "train", **options: Any) -> Dataset:
    return read(folder, split, found_in(folder), Reading(**options))


def segment_map(dataset: Dataset, index: int = 0) -> SegmentMap:
    annotations = dataset.annotations(index)
    assert isinstance(annotations, SegmentMap)
    return annotations


def instances(dataset: Dataset, index: int = 0) -> Instances:
    annotations = dataset.annotations(index)
    assert isinstance(annotations, Instances)
    return annotations


def labels(dataset: Dataset, index: int = 0) -> np.ndarray:
    return semantic_map(segment_map(dataset, index), len(dataset.classes))


FORMS = pytest.mark.parametrize("form", ["saved", "parquet"])


@FORMS
def test_images_and_masks_lie_in_tables(tmp_path: Path, form: str) -> None:
    content = [row | {"label": cell(LABELS + (i == 1))} for i, row in enumerate(rows(5))]
    folder = save(tmp_path, form, content)
    (folder / "id2label.json").write_text('{"0": "road", "1": "car", "2": "sky", "3": "sea"}')
    dataset = open_split(folder)
    assert dataset.tasks == found_in(folder).tasks == ("semantic",)
    assert dataset.classes.names == ("road", "car", "sky", "sea")
    assert [record.image.name for record in dataset.records] == [f"{i}.png" for i in range(5)]
    for i in range(5):
        np.testing.assert_array_equal(read_image(dataset.records[i].image), picture(i))
    np.testing.assert_array_equal(labels(dataset, 4), SCORED)
    np.testing.assert_array_equal(labels(dataset, 1), LABELS + np.uint8(1))  # 255 + 1 is 0


@FORMS
def test_source_names_its_place_and_travels_to_other_processes(tmp_path: Path, form: str) -> None:
    dataset = open_split(save(tmp_path, form, rows(label=cell(LABELS))))
    copied = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    np.testing.assert_array_equal(labels(copied, 2), labels(dataset, 2))
    image = copied.records[2].image
    suffix = "arrow" if form == "saved" else "parquet"
    assert str(image).endswith(f"-00000-of-00001.{suffix}: row 2, column image (2.png)")
    assert image.read_bytes() == png(picture(2))


@FORMS
def test_objects_are_polygons_of_named_classes(tmp_path: Path, form: str) -> None:
    folder = save(tmp_path, form, rows(objects=OBJECTS), objects=OBJECT_FEATURES)
    dataset = open_split(folder)
    assert dataset.tasks == found_in(folder).tasks == ("instance", "panoptic", "semantic")
    assert dataset.classes.names == ("fig", "date")
    assert dataset.records[0].num_objects == 2
    first, second = instances(dataset).items
    assert (first.class_id, first.is_crowd, len(second.mask)) == (1, False, 2)
    assert isinstance(first.mask, tuple)
    np.testing.assert_array_equal(first.mask[0], np.reshape(SQUARE, (4, 2)))
    # 2 x 2 pixels, counted because the table has no areas
    assert first.area == 4
    assert (instances(dataset).height, instances(dataset).width) == (3, 5)


MASK = LABELS == 1


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1.0, 0.0, 3.0, 0.0, 3.0, 2.0, 1.0, 2.0]],
        SQUARE,
        [[1, 0], [3, 0], [3, 2], [1, 2]],
        [[[1, 0], [3, 0], [3, 2], [1, 2]]],
        json.dumps([SQUARE]),
        {"size": [3, 5], "counts": [3, 2, 1, 2, 7]},
        json.dumps({"size": [3, 5], "counts": [3, 2, 1, 2, 7]}),
    ],
)
def test_segmentations_are_read_in_every_form(tmp_path: Path, segmentation: Any) -> None:
    entry = {"category_id": 4, "segmentation": segmentation, "iscrowd": 1, "area": 4.5}
    dataset = open_split(save(tmp_path, "saved", rows(1, objects=[entry])))
    ((_, rle, is_crowd, area, _),) = instance_rles(instances(dataset))
    assert (is_crowd, area) == (True, 4.5)
    expected = np.zeros((3, 5), bool)
    expected[:2, 1:3] = True
    np.testing.assert_array_equal(decode_rle(rle), expected)
    assert dataset.classes.category_ids == (4,)


def test_run_lengths_may_be_text(tmp_path: Path) -> None:
    rle = encode_mask(MASK)
    entry = {"category": "fig", "rle": {"size": [3, 5], "counts": rle["counts"].decode()}}
    dataset = open_split(save(tmp_path, "parquet", rows(1, objects=[entry])))
    assert dataset.classes.names == ("fig",)
    ((_, ours, _, area, _),) = instance_rles(instances(dataset))
    np.testing.assert_array_equal(decode_rle(ours), MASK)
    assert area == MASK.sum()


def panoptic_rows(segments: Any = SEGMENTS) -> list[dict[str, Any]]:
    return rows(2, label=cell(ids_to_rgb(SEGMENT_IDS)), segments_info=segments, image_id=77)


@FORMS
def test_masks_with_segments_are_panoptic(tmp_path: Path, form: str) -> None:
    content = [row | {"image_id": f"x{i}"} for i, row in enumerate(panoptic_rows())]
    folder = save(tmp_path, form, content)
    listed = [
        {"id": 3, "name": "sky", "isthing": 0},
        {"id": 5, "name": "car", "isthing": 1},
    ]
    (folder / "categories.json").write_text(json.dumps(listed))
    dataset = open_split(folder)
    assert dataset.tasks == ("panoptic", "semantic", "instance")
    assert [record.image_id for record in dataset.records] == ["x0", "x1"]
    assert dataset.classes.is_thing == (False, True)
    annotations = segment_map(dataset)
    np.testing.assert_array_equal(annotations.ids, SEGMENT_IDS)
    assert [(s.id, s.class_id) for s in annotations.segments] == [(7, 0), (8, 1), (9, 1)]


def test_classes_with_two_segments_in_an_image_are_things_if_nothing_tells(tmp_path: Path) -> None:
    content = panoptic_rows()[:1]
    dataset = open_split(save(tmp_path, "saved", content))
    assert dataset.classes.names == ("class 3", "class 5")
    assert dataset.classes.is_thing == (False, True)
    assert "write categories.json" in dataset.notes[-1]


def test_colours_may_hold_class_and_number(tmp_path: Path) -> None:
    # the layout of transformers' instance segmentation example
    red, green = np.where(MASK, 2, 0), np.where(MASK, 1, 0)
    mask = np.stack([red, green, 0 * red], axis=-1).astype(np.uint8)
    table = {"background": 0, "bed": 1, "lamp": 2}
    content = rows(annotation=cell(mask), semantic_class_to_id=table)
    folder = save(tmp_path, "parquet", content)
    dataset = open_split(folder)
    assert dataset.tasks == found_in(folder).tasks == ("instance", "panoptic", "semantic")
    assert dataset.classes.names == ("bed", "lamp")
    (segment,) = segment_map(dataset).segments
    assert (segment.id, segment.class_id) == (1, 1)
    np.testing.assert_array_equal(segment_map(dataset).ids == 1, MASK)


def test_grey_masks_saved_in_colour_are_class_masks(tmp_path: Path) -> None:
    mask = np.repeat(LABELS[..., None], 3, axis=2)
    dataset = open_split(save(tmp_path, "saved", rows(label=cell(mask))))
    np.testing.assert_array_equal(labels(dataset), SCORED)


def test_other_colours_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, "saved", rows(label=cell(picture(0))))
    with pytest.raises(ValueError, match="is in colours, which have no classes; give masks whose"):
        open_split(folder)


def test_values_without_names_are_found_and_zero_is_none_if_the_names_begin_at_one(
    tmp_path: Path,
) -> None:
    folder = save(tmp_path, "saved", rows(label=cell(LABELS)))
    assert open_split(folder).classes.category_ids == (0, 1, 2)
    assert open_split(folder, ignore_index=2).classes.category_ids == (0, 1, 255)
    (folder / "id2label.json").write_text('{"1": "car", "2": "sky"}')
    dataset = open_split(folder)
    np.testing.assert_array_equal(labels(dataset) + 1, np.where(LABELS == 255, 0, LABELS))
    assert "Value 0 is no class" in dataset.notes[-1]


def test_value_beyond_the_names_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path, "saved", rows(label=cell(LABELS)))
    (folder / "id2label.json").write_text('{"0": "road", "1": "car"}')
    message = r"row 0, column label .* has value 2, but the classes have the values 0 to 1 and 255"
    with pytest.raises(ValueError, match=message):
        open_split(folder).annotations(0)


def write_image_folder(folder: Path, entries: list[dict[str, Any]], split: str = "train") -> Path:
    place = folder / split
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(0)).save(place / "a.png")
    Image.fromarray(LABELS).save(place / "a_mask.png")
    (place / "metadata.jsonl").write_text("\n".join(map(json.dumps, entries)))
    return folder


def test_image_folder_with_masks(tmp_path: Path) -> None:
    entry = {"file_name": "a.png", "mask_file_name": "a_mask.png"}
    dataset = open_split(write_image_folder(tmp_path, [entry]))
    assert dataset.records[0].image == tmp_path / "train" / "a.png"
    np.testing.assert_array_equal(labels(dataset), SCORED)


def test_image_folder_with_objects(tmp_path: Path) -> None:
    bare = {"file_name": "a.png", "id": 1, "objects": {"category": [], "segmentation": []}}
    entry = {"file_name": "a.png", "id": 2, "objects": OBJECTS}
    folder = write_image_folder(tmp_path, [bare, entry])
    (folder / "classes.txt").write_text("fig\ndate\n")
    dataset = open_split(folder)
    assert [record.num_objects for record in dataset.records] == [0, 2]
    assert dataset.classes.names == ("fig", "date")


def test_image_folder_as_a_table_of_commas(tmp_path: Path) -> None:
    write_image_folder(tmp_path, [], ".")
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "metadata.csv").write_text("file_name,label_file_name\na.png,a_mask.png\n")
    assert len(open_split(tmp_path, WHOLE)) == 1


def test_splits_are_told_by_names(tmp_path: Path) -> None:
    table = table_of(rows(label=cell(LABELS)))
    (tmp_path / "data" / "test").mkdir(parents=True)
    for name in (
        "train-00000-of-00002",
        "train-00001-of-00002",
        "validation-00000-of-00001",
        "test/0000",
    ):
        parquet.write_table(table, tmp_path / "data" / f"{name}.parquet")
    assert set(found_in(tmp_path).splits) == {"train", "validation", "test"}
    assert [len(open_split(tmp_path, s)) for s in ("train", "validation", "test")] == [6, 3, 3]


def test_one_saved_split_is_the_whole(tmp_path: Path) -> None:
    save_split(tmp_path / "set", table_of(rows(label=cell(LABELS))))
    assert list(found_in(tmp_path / "set").splits) == [WHOLE]


def test_other_tables_are_not_claimed(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    boxes = {"category": [0], "bbox": [[0.0, 0.0, 1.0, 1.0]]}
    assert find(save(tmp_path / "boxes", "parquet", rows(objects=boxes))) is None
    assert find(save(tmp_path / "text", "parquet", [{"text": "a", "label": 1}])) is None
    assert find(save(tmp_path / "classes", "saved", rows(label=3))) is None


def with_faults() -> list[dict[str, Any]]:
    good = {"category": [1], "segmentation": [[SQUARE]]}
    unknown = {"category": [9], "segmentation": [[SQUARE]]}
    line = {"category": [1], "segmentation": [[[1, 1, 2, 2]]]}
    contents = [(0, good), (1, unknown), (2, line), (2, good)]
    return [
        {"image": cell(picture(i), f"{i}.png"), "id": image_id, "objects": objects}
        for i, (image_id, objects) in enumerate(contents)
    ]


FAULTS = [
    ("unknown class", 1, r"row 1, .* has an object of category 9; known are 0, 1: correct"),
    ("bad polygon", 2, r"row 2, .*object 0 has a segmentation .*\(a part has 4 numbers\); give x"),
    ("duplicate id", 2, r"row 3, .* has the id 2, which an earlier row has, too; number the id"),
]


def test_faults_are_collected_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = save(tmp_path, "saved", with_faults(), objects=OBJECT_FEATURES)
    problems = Collected()
    dataset = open_split(folder, problems=problems)
    assert [(p.kind, p.image_id) for p in problems.found] == [fault[:2] for fault in FAULTS]
    assert [record.num_objects for record in dataset.records] == [1, 0, 0]


@pytest.mark.parametrize("fault", range(3))
def test_each_fault_stops_reading(tmp_path: Path, fault: int) -> None:
    content = [with_faults()[i] for i in ([1], [2], [2, 3])[fault]]
    content[0]["objects"] = content[0]["objects"] if fault < 2 else with_faults()[0]["objects"]
    folder = save(tmp_path, "saved", content, objects=OBJECT_FEATURES)
    message = FAULTS[fault][2].replace("row 3", "row 1").replace("row 2", "row 0")
    message = message if fault else message.replace("row 1", "row 0")
    with pytest.raises(ValueError, match=message):
        open_split(folder)


def test_objects_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    content = rows(2, objects=OBJECTS)
    content[1]["objects"] = OBJECTS | {"category": [1]}
    folder = save(tmp_path, "saved", content, objects=OBJECT_FEATURES)
    message = r"row 1, .*different lengths: \{'category': 1, 'segmentation': 2\}; give one list"
    with pytest.raises(ValueError, match=message):
        open_split(folder)
    problems = Collected()
    assert [r.num_objects for r in open_split(folder, problems=problems).records] == [2, 0]
    assert [p.kind for p in problems.found] == ["unreadable annotation"]


def test_files_that_an_image_folder_lacks_are_named(tmp_path: Path) -> None:
    good = {"file_name": "a.png", "mask_file_name": "a_mask.png", "height": 3, "width": 5}
    entries = [good, good | {"file_name": "b.png"}, good | {"mask_file_name": "b_mask.png"}]
    folder = write_image_folder(tmp_path, entries)
    with pytest.raises(FileNotFoundError, match=r"row 1 of .*train has no image at .*b\.png; add"):
        open_split(folder)
    problems = Collected()
    dataset = open_split(folder, problems=problems)
    assert [(r.image_id, r.height, r.width) for r in dataset.records] == [(0, 3, 5)]
    assert [(p.kind, p.image_id) for p in problems.found] == [
        ("missing image", 1),
        ("image without annotation", 2),
    ]


def test_row_without_mask_and_segment_twice(tmp_path: Path) -> None:
    content = panoptic_rows([*SEGMENTS, SEGMENTS[0]])
    content[1] |= {"label": None, "image_id": 78}
    folder = save(tmp_path, "saved", content)
    problems = Collected()
    assert len(open_split(folder, problems=problems)) == 1
    assert [p.kind for p in problems.found] == ["bad segment", "image without annotation"]


def test_empty_cell_and_missing_file_are_named(tmp_path: Path) -> None:
    content = rows(2, label=cell(LABELS))
    content[0]["image"] = {"bytes": None, "path": None}
    content[1]["image"] = {"bytes": None, "path": "/nowhere/b.png"}
    dataset = open_split(save(tmp_path, "saved", content))
    with pytest.raises(ValueError, match=r"row 0, column image .* is empty; add the image"):
        dataset.records[0].image.read_bytes()
    with pytest.raises(FileNotFoundError, match=r"names the file /nowhere/b\.png, which is not"):
        dataset.records[1].image.read_bytes()


@FORMS
def test_damaged_table_is_named(tmp_path: Path, form: str) -> None:
    folder = save(tmp_path, form, rows(label=cell(LABELS)))
    (path,) = [*folder.rglob("*.arrow"), *folder.rglob("*.parquet")]
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=rf"cannot read .*{path.name} .*restore it"):
        open_split(folder)


def test_damaged_line_and_state_are_named(tmp_path: Path) -> None:
    folder = write_image_folder(tmp_path / "lines", [{"file_name": "a.png"}])
    (folder / "train" / "metadata.jsonl").write_text('{"file_name": "a.png"}\n{')
    with pytest.raises(ValueError, match=r"cannot read line 2 of .*metadata\.jsonl"):
        open_split(folder)
    folder = save(tmp_path / "saved", "saved", rows(label=cell(LABELS)))
    (folder / "dataset_dict.json").write_text("{")
    with pytest.raises(
        ValueError, match=r"dataset_dict\.json is not valid JSON .* restore the file"
    ):
        open_split(folder, WHOLE)


def test_what_to_install_is_said_when_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path, "parquet", rows(label=cell(LABELS)))
    arrow_tables._parquet.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    found = found_in(folder)  # the splits are known all the same
    with pytest.raises(
        ImportError, match=r"pyarrow, .* not installed; pip install mask2former\[hf"
    ):
        read(folder, "train", found, Reading())


@pytest.mark.parametrize("form", ["saved", "parquet"])
@pytest.mark.filterwarnings("ignore")
def test_what_the_datasets_library_writes_is_read(tmp_path: Path, form: str) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the datasets library")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.Image(),
            "segments_info": [
                {
                    "id": datasets.Value("int64"),
                    "category_id": datasets.ClassLabel(names=["a", "b", "c", "sky", "d", "car"]),
                    "iscrowd": datasets.Value("bool"),
                }
            ],
        }
    )
    content = [
        {
            "image": Image.fromarray(picture(i)),
            "label": Image.fromarray(ids_to_rgb(SEGMENT_IDS)),
            "segments_info": SEGMENTS,
        }
        for i in range(3)
    ]
    written = datasets.Dataset.from_list(content, features=features)
    if form == "saved":
        datasets.DatasetDict({"train": written}).save_to_disk(tmp_path)
    else:
        written.to_parquet(tmp_path / "train-00000-of-00001.parquet")
    dataset = open_split(tmp_path)
    assert dataset.classes.names == ("a", "b", "c", "sky", "d", "car")
    for i in range(3):
        np.testing.assert_array_equal(
            read_image(dataset.records[i].image), np.asarray(written[i]["image"])
        )
        np.testing.assert_array_equal(segment_map(dataset, i).ids, SEGMENT_IDS)
        assert [s.class_id for s in segment_map(dataset, i).segments] == [3, 5, 5]
