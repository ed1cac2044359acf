"""Images that are there twice: equal files, and pictures that look the same."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

from mask2former.check.facts import ImageFacts
from mask2former.check.findings import Finding, finding
from mask2former.check.similar import (
    Pair,
    find_crowds,
    similar_pairs,
    thumbnail_signatures,
    video_of,
)
from mask2former.check.survey import TRAINVAL
from mask2former.data.formats.format import WHOLE
from mask2former.data.formats.splits import means


def find_copies(images: Sequence[ImageFacts]) -> Iterator[Finding]:
    """Equal files and similar pictures, within splits and across them.

    A split that is the union of others, such as trainval beside train and val, repeats their images
    on purpose. Frames of one video are similar by nature, and are compared with those of other
    videos and splits only.

    Args:
        images: Of all splits.
    """
    meant = _meant_repeats(image.split for image in images)
    files = {(image.split, image.file) for image in images}
    images = [  # those of a union that its parts show as well
        image
        for image in images
        if not any((part, image.file) in files for union, part in meant if union == image.split)
    ]
    yield from _equal_files(images, meant)
    yield from _similar_pictures(images, meant)


def _meant_repeats(splits: Iterable[str]) -> set[tuple[str, str]]:
    """(union, part) for each part of a split that is there to be the union of others."""
    names = set(splits)
    meant = {(WHOLE, name) for name in names - {WHOLE}} if WHOLE in names else set()
    train, val = ([n for n in names if means(n, part)] for part in ("train", "val"))
    if TRAINVAL in names and train:  # without train, it is what is trained on, and val is not
        meant |= {(TRAINVAL, name) for name in (*train, *val)}
    return meant


def _equal_files(
    images: Sequence[ImageFacts], meant: Collection[tuple[str, str]]
) -> Iterator[Finding]:
    """A finding for each file beyond the first of its content."""
    by_digest: dict[bytes, list[ImageFacts]] = defaultdict(list)
    for image in images:
        if image.digest is not None:
            by_digest[image.digest].append(image)
    for alike in by_digest.values():
        seen: dict[str, ImageFacts] = {}
        for image in alike:
            excused = {image.split, *_partners(image.split, meant)}
            other = next((seen[split] for split in seen if split not in excused), None)
            if other is not None:
                yield _leaked(other, image)
            elif image.split in seen:
                yield _doubled(seen[image.split], image)
            seen.setdefault(image.split, image)


def _partners(split: str, meant: Collection[tuple[str, str]]) -> set[str]:
    """The splits that show images of this one on purpose."""
    return {other for pair in meant if split in pair for other in pair} - {split}


def _leaked(first: ImageFacts, second: ImageFacts) -> Finding:
    same = first.file == second.file
    message = (
        f"{second.file} is in the splits {first.split} and {second.split}"
        if same
        else f"{second.file} of split {second.split} is the same file as {first.file} of "
        f"{first.split}"
    )
    return finding(
        "leaked image",
        f"{message}; scores on images that were trained on say nothing, so take it out of one",
        is_error=True,
        file=second.file,
        places=(first.place, second.place),
    )


def _doubled(first: ImageFacts, second: ImageFacts) -> Finding:
    same = first.file == second.file
    return finding(
        "duplicate image",
        f"{second.file} is "
        + ("listed twice" if same else f"the same file as {first.file}")
        + f" in split {second.split}; it counts double, so take one out",
        is_error=False,
        file=second.file,
        places=(first.place, second.place),
    )


def _similar(pair: Pair) -> Finding:
    first, second = pair.first, pair.second
    across = first.split != second.split
    message = (
        f"{second.file} of split {second.split} looks like {first.file}"
        f"{f' of {first.split}' if across else ''} (similarity {pair.similarity:.4f})"
    )
    return finding(
        "leaked image" if across else "similar image",
        f"{message}; if one is a copy of the other, "
        + ("take it out of one split" if across else "take one out"),
        is_error=False,
        file=second.file,
        places=(first.place, second.place),
        weight=pair.similarity,
    )


def _similar_pictures(
    images: Sequence[ImageFacts], meant: Collection[tuple[str, str]]
) -> Iterator[Finding]:
    shown = [image for image in images if image.thumbnail is not None]
    signatures, has_contrast = thumbnail_signatures(shown)
    shown = [image for image, usable in zip(shown, has_contrast, strict=True) if usable]
    signatures = signatures[has_contrast]
    crowds, others = find_crowds(signatures)
    for crowd in crowds:
        yield from _crowded([shown[i] for i in crowd.tolist()])
    shown = [shown[i] for i in others.tolist()]
    for pair in similar_pairs(shown, signatures[others], meant):
        yield _similar(pair)


def _crowded(images: Sequence[ImageFacts]) -> Iterator[Finding]:
    """One finding, unless all are frames of one video."""
    if len({video_of(image, i) for i, image in enumerate(images)}) == 1:
        return
    counts = Counter(image.split for image in images)
    across = len(counts) > 1
    shares = " and ".join(f"{count} of split {name}" for name, count in counts.items())
    firsts = [next(image for image in images if image.split == name) for name in counts]
    last = images[-1] if not across else firsts[-1]
    mend = (
        "what is scored was as good as trained on: divide them by camera or scene"
        if across
        else "keep them in one split, and take out what adds nothing"
    )
    yield finding(
        "leaked image" if across else "similar image",
        f"{len(images)} images ({shares}) look nearly the same, such as {firsts[0].file} and "
        f"{last.file}, and were not compared one by one; {mend}",
        is_error=False,
        file=last.file,
        places=(firsts[0].place, last.place),
        weight=1.0,
    )
