import io

import numpy as np
from PIL import Image

from mask2former.check.copies import find_copies, similar_pairs
from mask2former.check.facts import ImageFacts, digest_of, thumbnail_of
from mask2former.check.objects import NO_OBJECTS


def photo(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((90, 60), Image.Resampling.BICUBIC)


def facts(
    picture: Image.Image, name: str, *, split: str = "train", group: str | None = None
) -> ImageFacts:
    pixels = np.asarray(picture)
    return ImageFacts(
        split=split,
        index=0,
        image_id=name,
        file=name,
        group=group,
        size=(pixels.shape[0], pixels.shape[1]),
        digest=digest_of(pixels.tobytes()),
        thumbnail=thumbnail_of(pixels),
        is_annotated=True,
        objects=NO_OBJECTS.table,
        overlap=0,
        unlabelled=0,
        faults=(),
    )


def kinds(images: list[ImageFacts]) -> list[tuple[str, bool]]:
    return [(f.problem.kind, f.problem.is_error) for f in find_copies(images)]


def recompressed(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def test_equal_files_are_an_error_across_splits_and_a_warning_within_one() -> None:
    images = [facts(photo(0), "a.png"), facts(photo(0), "b.png")]
    assert kinds(images) == [("duplicate image", False)]
    images = [facts(photo(0), "a.png"), facts(photo(0), "b.png", split="val")]
    assert kinds(images) == [("leaked image", True)]


def test_recompressed_and_resized_copies_look_alike() -> None:
    original = photo(1)
    copies = [recompressed(original, 60), original.resize((45, 30)), original.resize((180, 120))]
    for copy in copies:
        images = [facts(original, "a.png"), facts(copy, "b.png", split="val")]
        assert kinds(images) == [("leaked image", False)]
        assert kinds([facts(original, "a.png"), facts(copy, "b.png")]) == [("similar image", False)]


def test_different_pictures_do_not_look_alike() -> None:
    assert kinds([facts(photo(seed), f"{seed}.png") for seed in range(40)]) == []


def test_plain_pictures_are_not_compared() -> None:
    plain = [Image.new("RGB", (90, 60), (grey, grey, grey)) for grey in (10, 200)]
    assert kinds([facts(picture, str(i)) for i, picture in enumerate(plain)]) == []


def test_frames_of_one_video_are_similar_by_nature() -> None:
    frames = [photo(2), recompressed(photo(2), 80)]
    same = [facts(picture, str(i), group="clip") for i, picture in enumerate(frames)]
    assert kinds(same) == []
    other = [facts(picture, str(i), group=f"clip {i}") for i, picture in enumerate(frames)]
    assert kinds(other) == [("similar image", False)]


def test_a_union_of_splits_leaks_nothing() -> None:
    images = [facts(photo(0), "a.png"), facts(photo(0), "a.png", split="trainval")]
    assert kinds(images) == []
    whole = [facts(photo(0), name, split="all") for name in ("a.png", "b.png")]
    assert kinds(whole) == [("duplicate image", False)]


def test_every_copy_is_named_once() -> None:
    qualities = (90, 85, 80, 75)
    images = [facts(recompressed(photo(3), q), f"{q}.jpg") for q in qualities]
    pairs = similar_pairs(images)
    assert [pair.second.file for pair in pairs] == ["85.jpg", "80.jpg", "75.jpg"]


def test_files_that_cannot_be_read_have_no_copies() -> None:
    broken = facts(photo(0), "a.png")
    broken = ImageFacts(**{**vars(broken), "thumbnail": None, "digest": None})
    assert kinds([broken, broken]) == []
    assert similar_pairs([]) == []
