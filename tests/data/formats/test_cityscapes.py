import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mask2former.data.annotations import SegmentMap
from mask2former.data.dataset import Dataset
from mask2former.data.derive import for_task, semantic_map
from mask2former.data.formats.cityscapes import find, read
from mask2former.data.formats.format import Found, Reading
from mask2former.data.images import read_label_map
from mask2former.data.problems import Collected

SAMPLE = Path(__file__).parents[3] / ".." / "shared" / "data" / "cityscapes_sample"
needs_samples = pytest.mark.skipif(
    not SAMPLE.is_dir(), reason="the real sample data are not beside this checkout"
)

NAME = "bonn_000003_000019"
# id: (train id, has objects), written down apart from the package's tables
SCORED = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10} | {
    24: 11,
    25: 12,
    26: 13,
    27: 14,
    28: 15,
    31: 16,
    32: 17,
    33: 18,
}
THINGS = {24, 25, 26, 27, 28, 31, 32, 33}
INSTANCE_IDS = np.array(
    [
        [7, 7, 26000, 26000, 26001, 0],
        [7, 7, 26000, 26, 26, 1],
        [8, 29000, 29, 24000, 24, 18],
        [21, 23, 23, 30, 16, 12],
    ],
    np.uint16,
)
LABEL_IDS = np.where(INSTANCE_IDS < 1000, INSTANCE_IDS, INSTANCE_IDS // 1000).astype(np.uint8)


def write_image(folder: Path, split: str = "train", name: str = NAME) -> Path:
    place = folder / "leftImg8bit" / split / name.partition("_")[0]
    place.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4)).save(place / f"{name}_leftImg8bit.png")
    return folder


def label_path(
    folder: Path, ending: str, split: str = "train", name: str = NAME, kind: str = "gtFine"
) -> Path:
    place = folder / kind / split / name.partition("_")[0]
    place.mkdir(parents=True, exist_ok=True)
    return place / f"{name}_{kind}_{ending}"


def write_instance_ids(folder: Path, ids: np.ndarray = INSTANCE_IDS, **place: str) -> Path:
    Image.fromarray(ids).save(label_path(write_image(folder), "instanceIds.png", **place))
    return folder


def train_ids() -> np.ndarray:
    table = np.full(256, 255, np.uint8)
    table[list(SCORED)] = list(SCORED.values())
    return table[LABEL_IDS]


def found_in(folder: Path) -> Found:
    found = find(folder)
    assert found is not None
    return found


def open_split(folder: Path, split: str = "train") -> Dataset:
    return read(folder, split, found_in(folder), Reading())


def segment_map(dataset: Dataset, index: int = 0) -> SegmentMap:
    annotations = dataset.annotations(index)
    assert isinstance(annotations, SegmentMap)
    return annotations


def published_segments(ids: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(id, category id, area, is crowd), by the rules that cityscapesScripts documents."""
    rows = []
    for value in np.unique(ids).tolist():
        category = value if value < 1000 else value // 1000
        if category in SCORED:
            crowd = int(value < 1000 and category in THINGS)
            rows.append((value, category, int((ids == value).sum()), crowd))
    return rows


def our_segments(dataset: Dataset) -> list[tuple[int, int, int, int]]:
    annotations = segment_map(dataset)
    return [
        (
            s.id,
            dataset.classes.category_ids[s.class_id],
            int((annotations.ids == s.id).sum()),
            int(s.is_crowd),
        )
        for s in annotations.segments
    ]


def test_segments_are_those_of_the_published_panoptic_conversion(tmp_path: Path) -> None:
    dataset = open_split(write_instance_ids(tmp_path))
    assert dataset.tasks == ("panoptic", "semantic", "instance")
    assert our_segments(dataset) == published_segments(INSTANCE_IDS)
    assert (26, 26, 2, 1) in our_segments(dataset)  # a group of cars
    assert {29, 29000, 30, 16, 18} & {s.id for s in segment_map(dataset).segments} == set()


def test_records_are_named_and_grouped_by_recording(tmp_path: Path) -> None:
    (record,) = open_split(write_instance_ids(tmp_path)).records
    assert record.image_id == NAME
    assert record.group == "bonn_000003"
    assert str(record.image).endswith("leftImg8bit/train/bonn/bonn_000003_000019_leftImg8bit.png")


def test_semantic_labels_are_the_published_train_ids(tmp_path: Path) -> None:
    dataset = for_task(open_split(write_instance_ids(tmp_path)), "semantic")
    ours = semantic_map(dataset.annotations(0), 19)
    np.testing.assert_array_equal(np.where(ours < 0, 255, ours), train_ids())


def test_instances_are_single_things_and_groups_are_crowds(tmp_path: Path) -> None:
    dataset = for_task(open_split(write_instance_ids(tmp_path)), "instance")
    annotations = dataset.annotations(0)
    assert isinstance(annotations, SegmentMap)
    assert dataset.classes.names[2] == "car"
    assert [(s.id, s.class_id, s.is_crowd) for s in annotations.segments] == [
        (24, 0, True),
        (26, 2, True),
        (24000, 0, False),
        (26000, 2, False),
        (26001, 2, False),
    ]


@pytest.mark.parametrize(
    ("ending", "values"), [("labelIds.png", LABEL_IDS), ("labelTrainIds.png", train_ids())]
)
def test_labels_without_objects_are_semantic(
    tmp_path: Path, ending: str, values: np.ndarray
) -> None:
    Image.fromarray(values).save(label_path(write_image(tmp_path), ending))
    dataset = open_split(tmp_path)
    assert dataset.tasks == ("semantic",)
    ours = semantic_map(segment_map(dataset), 19)
    np.testing.assert_array_equal(np.where(ours < 0, 255, ours), train_ids())


POLYGONS = [
    ("road", [[0, 0], [19, 0], [19, 9], [0, 9]]),
    ("car", [[2, 2], [6, 2], [6, 6], [2, 6]]),
    ("car", [[5, 3], [9, 3], [9, 7], [5, 7]]),  # above the first
    ("cargroup", [[12, 2], [16, 2], [16, 4], [12, 4]]),
    ("license plate", [[3, 3], [4, 3], [4, 4]]),
    ("polegroup", [[18, 0], [19, 0], [19, 3]]),
    ("caravan", [[0, 8], [3, 8], [3, 9], [0, 9]]),
]


def write_polygons(folder: Path, objects: list, size: tuple[int, int] = (20, 10)) -> Path:
    content = {
        "imgWidth": size[0],
        "imgHeight": size[1],
        "objects": [
            {"label": label, "polygon": polygon, **dict(*more)} for label, polygon, *more in objects
        ],
    }
    label_path(write_image(folder), "polygons.json").write_text(json.dumps(content))
    return folder


def test_polygons_alone_are_drawn_in_order_and_numbered_by_class(tmp_path: Path) -> None:
    deleted = ("person", [[0, 0], [9, 0], [9, 9]], [("deleted", 1)])
    dataset = open_split(write_polygons(tmp_path, [*POLYGONS[:2], deleted, *POLYGONS[2:]]))
    assert dataset.tasks[0] == "panoptic"
    expected = Image.new("I", (20, 10), 0)
    draw = ImageDraw.Draw(expected)
    values = (7, 26000, 26001, 26, None, 18, 29000)
    for (_, points), value in zip(POLYGONS, values, strict=True):
        if value is not None:
            draw.polygon([tuple(point) for point in points], fill=value)
    ids = np.asarray(expected)
    assert ids[5, 5] == 26001  # where both cars lie, the later one
    np.testing.assert_array_equal(segment_map(dataset).ids, ids)
    assert our_segments(dataset) == published_segments(ids)


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(5))
def test_polygons_are_drawn_as_the_published_scripts_draw_them(tmp_path: Path, seed: int) -> None:
    script = pytest.importorskip(
        "cityscapesscripts.preparation.json2instanceImg", reason="needs cityscapesScripts"
    )
    names = [label.name for label in script.labels] + ["cargroup", "persongroup", "cargroup"]
    generator = np.random.default_rng(seed)
    objects = [
        (
            str(generator.choice(names)),
            generator.integers(-5, 70, (int(generator.integers(2, 8)), 2)).tolist(),
            [("deleted", int(generator.random() < 0.1))],
        )
        for _ in range(30)
    ]
    dataset = open_split(write_polygons(tmp_path, objects, size=(64, 48)))
    annotation = script.Annotation()
    annotation.fromJsonFile(str(label_path(tmp_path, "polygons.json")))
    published = np.asarray(script.createInstanceImage(annotation, "ids"))
    np.testing.assert_array_equal(segment_map(dataset).ids, published)
    assert our_segments(dataset) == published_segments(published)


def test_instance_pngs_go_before_polygons_and_polygons_mend_a_missing_png(tmp_path: Path) -> None:
    write_polygons(tmp_path, POLYGONS)
    write_instance_ids(tmp_path)
    assert segment_map(open_split(tmp_path)).ids.shape == (4, 6)
    write_image(tmp_path, name="ulm_000000_000001")
    place = label_path(tmp_path, "polygons.json", name="ulm_000000_000001")
    place.write_text('{"imgWidth": 3, "imgHeight": 2, "objects": []}')
    dataset = open_split(tmp_path)
    assert [r.image_id for r in dataset.records] == [NAME, "ulm_000000_000001"]
    assert segment_map(dataset, 1).segments == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"polygons\.json is not valid JSON .*; restore the file"),
        ('{"imgWidth": 3}', r"polygons\.json \(KeyError: 'objects'\); a polygon file has imgWidth"),
        (
            '{"imgWidth": 3, "imgHeight": 2, "objects": ['
            '{"label": "cow", "polygon": [[0, 0], [1, 1]]}]}',
            "the label 'cow', which is no label of Cityscapes; correct it",
        ),
        (
            '{"imgWidth": 3, "imgHeight": 2, "objects": [{"label": "car", "polygon": [[0, 0]]}]}',
            "has a 'car' whose polygon has fewer than 2 points; correct it",
        ),
    ],
)
def test_faults_of_polygon_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    label_path(write_image(tmp_path), "polygons.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_split(tmp_path).annotations(0)


@pytest.mark.parametrize(
    ("ending", "values", "message"),
    [
        ("instanceIds.png", np.full((4, 6), 34000, np.uint16), "value 34000, which is no label"),
        ("labelIds.png", np.full((4, 6), 99, np.uint8), "value 99, which is no label"),
        ("labelTrainIds.png", np.full((4, 6), 19, np.uint8), "value 19; train ids are 0 to 18"),
    ],
)
def test_foreign_values_are_named(
    tmp_path: Path, ending: str, values: np.ndarray, message: str
) -> None:
    Image.fromarray(values).save(label_path(write_image(tmp_path), ending))
    with pytest.raises(ValueError, match=message):
        open_split(tmp_path).annotations(0)


def test_image_without_labels_stops_reading_or_is_collected(tmp_path: Path) -> None:
    write_image(write_instance_ids(tmp_path), name="bonn_000003_000020")
    with pytest.raises(
        ValueError, match=r"bonn_000003_000020_leftImg8bit\.png has no .* add \*_gtFine_i"
    ):
        open_split(tmp_path)
    problems = Collected()
    dataset = read(tmp_path, "train", found_in(tmp_path), Reading(problems))
    assert [r.image_id for r in dataset.records] == [NAME]
    (problem,) = problems.found
    assert (problem.kind, problem.image_id) == ("image without annotation", "bonn_000003_000020")


def test_labels_without_image_are_one_warning(tmp_path: Path) -> None:
    write_instance_ids(tmp_path)
    for i in range(5):
        place = label_path(tmp_path, "instanceIds.png", name=f"ulm_000000_00000{i}")
        Image.fromarray(INSTANCE_IDS).save(place)
    problems = Collected()
    assert len(read(tmp_path, "train", found_in(tmp_path), Reading(problems))) == 1
    (problem,) = problems.found
    assert not problem.is_error
    assert "5 of 6 annotation files" in problem.message


def test_coarse_labels_serve_where_there_are_no_fine_ones(tmp_path: Path) -> None:
    write_image(write_instance_ids(tmp_path), "train_extra")
    place = label_path(tmp_path, "instanceIds.png", "train_extra", kind="gtCoarse")
    Image.fromarray(INSTANCE_IDS).save(place)
    coarse = label_path(tmp_path, "instanceIds.png", kind="gtCoarse")
    Image.fromarray(np.zeros_like(INSTANCE_IDS)).save(coarse)
    assert sorted(found_in(tmp_path).splits) == ["train", "train_extra"]
    assert len(segment_map(open_split(tmp_path)).segments) > 0  # the fine ones
    assert any("coarse" in note for note in open_split(tmp_path, "train_extra").notes)


def test_dummies_of_the_test_split_are_told(tmp_path: Path) -> None:
    write_image(tmp_path, "test")
    dummy = np.full((4, 6), 3, np.uint16)
    Image.fromarray(dummy).save(label_path(tmp_path, "instanceIds.png", "test"))
    dataset = open_split(tmp_path, "test")
    assert "dummies" in dataset.notes[-1]
    assert segment_map(dataset).segments == ()


def test_other_folders_are_not_claimed(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    write_image(tmp_path)
    assert find(tmp_path) is None


def test_reader_can_be_sent_to_a_loader_process(tmp_path: Path) -> None:
    dataset = pickle.loads(pickle.dumps(open_split(write_instance_ids(tmp_path))))  # noqa: S301
    np.testing.assert_array_equal(segment_map(dataset).ids, INSTANCE_IDS)


@needs_samples
@pytest.mark.parity
def test_the_label_files_of_the_real_frame_agree_where_they_can() -> None:
    dataset = open_split(SAMPLE, "val")
    (record,) = dataset.records
    assert (record.image_id, record.group) == ("frankfurt_000000_000294", "frankfurt_000000")
    folder = SAMPLE / "gtFine" / "val" / "frankfurt"
    stem = "frankfurt_000000_000294_gtFine"
    ids = read_label_map(folder / f"{stem}_instanceIds.png")
    assert our_segments(dataset) == published_segments(ids)
    # the sample's README gives no counts; these are the PNG's own objects
    assert sum(s.id >= 1000 for s in segment_map(dataset).segments) == 7
    semantic = semantic_map(for_task(dataset, "semantic").annotations(0), 19)
    ours = np.where(semantic < 0, 255, semantic)
    table = np.full(256, 255)
    table[list(SCORED)] = list(SCORED.values())
    from_labels = table[read_label_map(folder / f"{stem}_labelIds.png")]
    np.testing.assert_array_equal(ours, from_labels)
    # whoever shrank the frame shrank each file by itself: 77 pixels of the PNGs disagree
    published = read_label_map(folder / f"{stem}_labelTrainIds.png")
    np.testing.assert_array_equal(ours == published, from_labels == published)
    assert (from_labels != published).sum() == 77
