import json
from pathlib import Path

import pytest

from mask2former.data.class_tables import (
    class_colors,
    class_table,
    class_table_names,
    find_class_table,
    synonyms,
)

SPECIFIED = Path(__file__).parents[2] / ".." / "shared" / "spec" / "classes"
needs_specification = pytest.mark.skipif(
    not SPECIFIED.exists(), reason="needs the specification in ../shared"
)
FILES = {
    "coco_panoptic": "coco_panoptic",
    "ade20k": "ade20k",
    "cityscapes": "cityscapes",
    "mapillary_vistas": "mapillary_vistas",
    "youtube_vis_2019": "ytvis_categories_2019",
    "youtube_vis_2021": "ytvis_categories_2021",
    "ade20k_full": "ade20k_full_847",
    "coco_stuff_10k": "coco_stuff_10k",
}


def specified(name: str) -> list[dict]:
    return json.loads((SPECIFIED / f"{name}.json").read_text(encoding="utf-8"))["classes"]


@needs_specification
@pytest.mark.parametrize(("name", "file"), FILES.items())
def test_tables_are_the_specified_ones(name: str, file: str) -> None:
    table, colors = class_table(name), class_colors(name)
    rows = specified(file)
    assert table.names == tuple(row["name"].strip() for row in rows)
    assert table.category_ids == tuple(row["id"] for row in rows)
    assert table.is_thing == tuple(bool(row.get("isthing")) for row in rows)
    assert colors == tuple(tuple(row["color"]) if "color" in row else None for row in rows)
    # where the source tells class ids, they count up from 0 as our places do
    assert [row.get("trainId", i) for i, row in enumerate(rows)] == list(range(len(rows)))


@needs_specification
def test_ade20ks_things_are_those_that_have_an_instance_id() -> None:
    content = json.loads((SPECIFIED / "ade20k_instance_ids.json").read_text(encoding="utf-8"))
    # semantic ids there count from 1
    expected = sorted({semantic - 1 for _, semantic in content["instance_to_semantic"]})
    assert class_table("ade20k_instance").category_ids == tuple(expected)


@pytest.mark.parametrize(
    ("name", "classes", "things"),
    [
        ("coco_panoptic", 133, 80),
        ("coco_instance", 80, 80),
        ("ade20k", 150, 100),
        ("ade20k_instance", 100, 100),
        ("cityscapes", 19, 8),
        ("cityscapes_instance", 8, 8),
        ("mapillary_vistas", 65, 37),
        ("youtube_vis_2019", 40, 40),
        ("youtube_vis_2021", 40, 40),
        ("ade20k_full", 847, 0),
        ("coco_stuff_10k", 171, 80),
    ],
)
def test_tables_have_the_published_sizes(name: str, classes: int, things: int) -> None:
    # specification 1.2, column K, and 1.4
    table = class_table(name)
    assert (len(table), sum(table.is_thing)) == (classes, things)
    assert len(class_colors(name)) == classes
    assert name in class_table_names()


def test_no_other_table_is_listed() -> None:
    assert len(class_table_names()) == len(set(class_table_names())) == 11


def test_the_ids_are_those_of_the_data_sets_own_files() -> None:
    for name, class_id, class_name, category_id in (
        ("coco_panoptic", 0, "person", 1),
        ("coco_panoptic", 79, "toothbrush", 90),
        ("coco_panoptic", 132, "rug-merged", 200),
        ("ade20k", 12, "person", 12),
        ("cityscapes", 0, "road", 7),
        ("cityscapes_instance", 7, "bicycle", 33),
        ("mapillary_vistas", 0, "Bird", 1),
        ("youtube_vis_2021", 39, "zebra", 40),
        ("ade20k_full", 0, "wall", 2978),
    ):
        table = class_table(name)
        assert (table.names[class_id], table.category_ids[class_id]) == (class_name, category_id)


def test_cocos_instance_classes_are_the_first_80_of_the_panoptic_ones() -> None:
    instance, panoptic = class_table("coco_instance"), class_table("coco_panoptic")
    assert instance.names == panoptic.names[:80]
    assert instance.category_ids == panoptic.category_ids[:80]
    assert class_colors("coco_instance") == class_colors("coco_panoptic")[:80]


def test_names_have_no_stray_blanks() -> None:
    assert class_table("ade20k").names[8] == "window"
    for name in class_table_names():
        assert [n for n in class_table(name).names if n != " ".join(n.split())] == []


def test_colors_are_rgb_or_none() -> None:
    assert class_colors("cityscapes")[:2] == ((128, 64, 128), (244, 35, 232))
    assert class_colors("ade20k_full") == (None,) * 847
    for name in class_table_names():
        known = [color for color in class_colors(name) if color is not None]
        assert all(len(color) == 3 and 0 <= min(color) <= max(color) <= 255 for color in known)


@pytest.mark.parametrize("name", class_table_names())
def test_a_table_is_found_by_its_names(name: str) -> None:
    assert find_class_table([f" {n.upper()} " for n in class_table(name).names]) == name


def test_names_that_are_not_all_of_a_table_or_in_another_order_are_none() -> None:
    names = class_table("cityscapes").names
    assert find_class_table(names[:-1]) is None
    assert find_class_table(names[::-1]) is None
    assert find_class_table([]) is None


def test_synonyms_are_compared_without_underscores_blanks_and_case() -> None:
    assert synonyms("_background_") == synonyms(" background ") == {"background"}
    assert synonyms("Traffic_Light; , signal") == {"traffic light", "signal"}


def test_a_misspelt_table_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no class table ade20; did you mean ade20k\?"):
        class_table("ade20")
    with pytest.raises(ValueError, match="no class table coco-instances; did you mean coco_insta"):
        class_colors("coco-instances")


def test_a_table_is_read_once() -> None:
    assert class_table("cityscapes") is class_table("cityscapes")


def test_a_shortened_synonym_or_a_rare_other_name_is_still_the_table() -> None:
    names = [name.split(",")[0] for name in class_table("ade20k").names]
    assert find_class_table(names) == "ade20k"
    names[8] = "windowpane"
    assert find_class_table(names) == "ade20k"
    assert find_class_table(names[::-1]) is None
    assert find_class_table([*names, "one more"]) is None
    cityscapes = list(class_table("cityscapes").names)
    cityscapes[:2] = ["a", "b"]  # two of nineteen are more than one in ten
    assert find_class_table(cityscapes) is None
