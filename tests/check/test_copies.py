import io
from dataclasses import replace

import numpy as np
from PIL import Image

from mask2former.check.copies import find_copies
from mask2former.check.facts import ImageFacts, digest_of, thumbnail_of
from mask2former.check.objects import NO_OBJECTS
from mask2former.check.similar import CROWD, similar_pairs, thumbnail_signatures


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
        findings=(),
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


def test_a_video_that_is_in_two_splits_leaks() -> None:
    frames = [photo(2), recompressed(photo(2), 80)]
    images = [
        facts(picture, f"{split}/0.jpg", split=split, group="clip")
        for split, picture in zip(("train", "val"), frames, strict=True)
    ]
    assert kinds(images) == [("leaked image", False)]


def test_a_union_of_splits_repeats_them_on_purpose() -> None:
    images = [facts(photo(0), "a.png"), facts(photo(0), "a.png", split="trainval")]
    assert kinds(images) == []
    parts = [facts(photo(0), "a.png"), facts(photo(1), "b.png", split="val")]
    for names in (("a.png", "b.png"), ("shard: a.png", "shard: b.png")):
        union = [facts(photo(i), name, split="trainval") for i, name in enumerate(names)]
        assert kinds([*parts, *union]) == []
    whole = [facts(photo(0), name, split="all") for name in ("a.png", "b.png")]
    assert kinds(whole) == [("duplicate image", False)]


def test_a_union_of_splits_leaks_into_others() -> None:
    test = facts(photo(0), "c.png", split="test")
    union = [facts(photo(0), "a.png", split="trainval"), facts(photo(1), "b.png", split="trainval")]
    assert kinds([*union, test]) == [("leaked image", True)]
    recompressed_test = facts(recompressed(photo(0), 60), "c.jpg", split="test")
    assert kinds([*union, recompressed_test]) == [("leaked image", False)]
    # where nothing else is trained on, the validation images must not be in it
    val = facts(photo(0), "a.png", split="val")
    assert kinds([*union, val]) == [("leaked image", True)]
    # the union has an image that is in neither part, and in the test split
    train, val = facts(photo(1), "b.png"), facts(photo(2), "d.png", split="val")
    assert kinds([train, val, *union, test]) == [("leaked image", True)]


def test_duplicates_in_a_union_count_where_there_is_nothing_else() -> None:
    union = [facts(photo(0), name, split="trainval") for name in ("a.png", "b.png")]
    test = facts(photo(1), "c.png", split="test")
    assert kinds([*union, test]) == [("duplicate image", False)]


def still_camera(count: int, *, split: str = "train", group: str | None = None) -> list[ImageFacts]:
    """Pictures that differ by a little noise."""
    generator = np.random.default_rng(len(split))
    thumbnail = np.frombuffer(thumbnail_of(np.asarray(photo(5))), np.uint8).astype(int)
    first = facts(photo(5), "first", split=split, group=group)
    noise = generator.integers(-1, 2, (count, len(thumbnail)))
    return [
        replace(
            first,
            index=i,
            file=f"{split}/{i}.jpg",
            digest=f"{split} {i}".encode(),
            thumbnail=(thumbnail + one).clip(0, 255).astype(np.uint8).tobytes(),
        )
        for i, one in enumerate(noise)
    ]


def test_the_pictures_of_a_still_camera_are_told_together() -> None:
    images = [*still_camera(CROWD), *still_camera(CROWD // 2, split="val")]
    (found,) = find_copies(images)
    assert (found.kind, found.severity) == ("leaked image", "warning")
    assert "1500 images (1000 of split train and 500 of split val) look nearly" in found.message
    assert "divide them by camera or scene" in found.message
    (found,) = find_copies(still_camera(CROWD + 1))
    assert found.kind == "similar image"
    assert list(find_copies(still_camera(CROWD + 1, group="clip"))) == []


def test_others_are_compared_beside_a_still_camera() -> None:
    copies = [facts(photo(6), "a.png"), facts(recompressed(photo(6), 60), "b.jpg", split="val")]
    assert kinds([*still_camera(CROWD + 1, group="clip"), *copies]) == [("leaked image", False)]


def test_every_copy_is_named_once() -> None:
    qualities = (90, 85, 80, 75)
    images = [facts(recompressed(photo(3), q), f"{q}.jpg") for q in qualities]
    pairs = similar_pairs(images, thumbnail_signatures(images)[0])
    assert [pair.second.file for pair in pairs] == ["85.jpg", "80.jpg", "75.jpg"]


def test_files_that_cannot_be_read_have_no_copies() -> None:
    broken = facts(photo(0), "a.png")
    broken = ImageFacts(**{**vars(broken), "thumbnail": None, "digest": None})
    assert kinds([broken, broken]) == []
    assert similar_pairs([], thumbnail_signatures([])[0]) == []
