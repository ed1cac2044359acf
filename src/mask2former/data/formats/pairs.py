"""Images and annotation files that belong together by their names: one policy for all formats.

An image without annotation is an error: whoever put it there wants it to count. An annotation
without image is a warning: people copy a part of the images and keep all annotations.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mask2former.data.formats.listing import files_below, first_few
from mask2former.data.problems import Problems


def pair_by_name(
    images: Mapping[str, Path],
    annotations: Mapping[str, Path],
    annotations_in: Path,
    problems: Problems,
    *,
    mend: str = "add it or take the image out",
) -> dict[str, tuple[Path, Path]]:
    """Image and annotation file by their name, in the order of the images.

    What stays alone is told and left out.

    Args:
        images: By name.
        annotations: By the same names.
        annotations_in: Where they lie, for the messages.
        problems: Is told the faults.
        mend: What to do about an image without annotation.
    """
    tell_bare(
        {name: path for name, path in images.items() if name not in annotations},
        len(images),
        annotations_in,
        problems,
        mend=mend,
    )
    spare = [path for name, path in annotations.items() if name not in images]
    warn_spare(spare, len(annotations), annotations_in, problems)
    return {name: (path, annotations[name]) for name, path in images.items() if name in annotations}


def tell_bare(
    images: Mapping[str, Path],
    num_images: int,
    annotations_in: Path,
    problems: Problems,
    *,
    mend: str = "add it or take the image out",
) -> None:
    """Tell of images that have no annotation, one by one; arguments as of `pair_by_name`."""
    for name, path in images.items():
        problems.error(
            "image without annotation",
            f"image {path} has no annotation in {annotations_in} ({len(images)} of {num_images} "
            f"images have none); {mend}",
            file=path,
            image_id=name,
        )


def warn_spare(
    annotations: Sequence[Path], num_annotations: int, annotations_in: Path, problems: Problems
) -> None:
    """Tell of annotation files that have no image, in one warning."""
    if annotations:
        problems.warn(
            "annotation without image",
            f"{len(annotations)} of {num_annotations} annotation files in {annotations_in} have no "
            f"image and are left out: {first_few(annotations)}; add the images or take the files "
            f"out",
            file=annotations[0] if len(annotations) == 1 else annotations_in,
        )


def files_by_name(folder: Path, suffixes: Collection[str], problems: Problems) -> dict[str, Path]:
    """All files in a folder and below by their relative name without suffix; doubles are told."""
    files: dict[str, Path] = {}
    for path in files_below(folder, suffixes):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            message = f"{files[name]} and {path} share a name; keep one of the two"
            problems.error("duplicate id", message, file=path, image_id=name)
        else:
            files[name] = path
    return files


def shorten_names(
    files: Mapping[str, Path], endings: Sequence[str], problems: Problems
) -> dict[str, tuple[str, Path]]:
    """(full name, path) by the name without its ending; doubles are told."""
    shortened: dict[str, tuple[str, Path]] = {}
    for name, path in files.items():
        ending = next((ending for ending in endings if name.endswith(ending)), "")
        short = name.removesuffix(ending)
        if short in shortened:
            message = (
                f"{shortened[short][1]} and {path} are both for {short!r}; keep one of the two"
            )
            problems.error("duplicate id", message, file=path, image_id=short)
        else:
            shortened[short] = (name, path)
    return shortened
