"""Which images a user means: files, folders, patterns."""

import glob
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from mask2former.data.images import IMAGE_SUFFIXES


def find_images(sources: Iterable[str | Path]) -> list[Path]:
    """All images that are meant, in the order given, each once.

    A folder stands for the images that lie directly in it, by name; a pattern for all images
    that it matches (`**` goes down into folders).

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: Something is there but no image.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            images = _in_folder(path)
        elif path.exists():
            images = [_checked(path)]
        elif glob.has_magic(str(source)):
            images = _matching(str(source))
        else:
            raise FileNotFoundError(
                f"nothing is at {path}; give images, folders of images or patterns such as "
                "'photos/*.jpg'"
            )
        found.update(dict.fromkeys(images))
    return list(found)


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """A name for the outputs of each image, which no other one has.

    The file name without its suffix where that is enough, else with the folder's name, else with
    the suffix too, else with a number. Case does not distinguish, as on many file systems.
    """
    stems = [path.stem for path in paths]
    occurs = Counter(stem.lower() for stem in stems)
    taken = {stem.lower() for stem in stems if occurs[stem.lower()] == 1}
    names = []
    for path, stem in zip(paths, stems, strict=True):
        if occurs[stem.lower()] > 1:
            stem = next(name for name in _longer_names(path) if name.lower() not in taken)
            taken.add(stem.lower())
        names.append(stem)
    return names


def _longer_names(path: Path) -> Iterable[str]:
    yield f"{path.parent.name}_{path.stem}" if path.parent.name else path.stem
    full = "_".join(part for part in (path.parent.name, path.name.replace(".", "_")) if part)
    yield full
    number = 2
    while True:
        yield f"{full}_{number}"
        number += 1


def _in_folder(folder: Path) -> list[Path]:
    images = sorted(path for path in folder.iterdir() if _is_image(path))
    if not images:
        raise ValueError(
            f"no image lies in folder {folder}; accepted are {_accepted()}; for images in folders "
            f"below it give the pattern '{folder}/**/*'"
        )
    return images


def _matching(pattern: str) -> list[Path]:
    # pathlib's own glob wants the pattern apart from the folder it starts at
    paths = sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207
    if not paths:
        raise FileNotFoundError(f"nothing matches {pattern!r}; correct the pattern")
    images = [path for path in paths if _is_image(path)]
    if not images:
        raise ValueError(f"no image is among what {pattern!r} matches; accepted are {_accepted()}")
    return images


def _checked(path: Path) -> Path:
    if not _is_image(path):
        raise ValueError(f"{path} is not an image file; accepted are {_accepted()}")
    return path


def _is_image(path: Path) -> bool:
    return (
        path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _accepted() -> str:
    return " ".join(sorted(IMAGE_SUFFIXES))
