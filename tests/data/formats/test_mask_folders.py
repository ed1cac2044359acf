from pathlib import Path

from mask2former.data.formats.mask_folders import Place, find_places, list_masks, pair_files
from mask2former.data.problems import Collected, Strict


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def pairs(folder: Path) -> dict[str, str]:
    """Name of each image's mask, by the name of the image."""
    found = pair_files(Place(folder / "images", folder / "masks"), Strict())
    return {name: mask.name for name, (_, mask) in found.items()}


def test_annotations_below_are_no_masks_of_the_images_beside_them(tmp_path: Path) -> None:
    # COCO panoptic: two folders with usual names, but not of one split
    touch(tmp_path, "images/train/a.jpg", "annotations/panoptic_train/a.png")
    assert find_places(tmp_path, ("annotations",)) == {}


def test_masks_among_images_are_told_by_their_ending(tmp_path: Path) -> None:
    touch(tmp_path, "val/a.png", "val/a_mask.png", "val/_classes.csv")
    (found,) = find_places(tmp_path, ("masks",)).values()
    assert list_masks(found) == [tmp_path / "val" / "a_mask.png"]


def test_files_pair_by_name_before_their_endings_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/b_sat.jpg", "masks/a.png", "masks/b_mask.png")
    assert pairs(tmp_path) == {"a": "a.png", "b_sat": "b_mask.png"}


def test_two_masks_of_one_image_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "masks/a_mask.png", "masks/a_gt.png")
    problems = Collected()
    pair_files(Place(tmp_path / "images", tmp_path / "masks"), problems)
    (problem,) = problems.found
    assert problem.kind == "duplicate id"
    assert "are both for 'a'; keep one of the two" in problem.message
