"""Results made elsewhere, or earlier, that are to be scored: what a path holds.

- COCO results (a list of objects with scores, empty where nothing was found): instance.
- A COCO panoptic JSON file with its PNGs: panoptic.
- A folder of PNGs with a class per pixel, or detectron2's `sem_seg_predictions.json`: semantic.
- A folder that `predict --save` wrote: whichever of these are in it.
- What an evaluation kept (`predictions.jsonl`, `predictions-0.jsonl`, ...): its tasks.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.coco_json import sniff
from mask2former.data.formats.listing import JSON, PNG, files_in, first_few, first_file
from mask2former.evaluation.given.classes import CLASS_LIST, agreed_classes, own_classes
from mask2former.evaluation.given.coco import GivenObjects
from mask2former.evaluation.given.json_lists import describe_object, first_character, iterate_list
from mask2former.evaluation.given.panoptic import GivenPanoptic
from mask2former.evaluation.given.predictions import GivenPredictions
from mask2former.evaluation.given.reader import ResultsReader
from mask2former.evaluation.given.semantic import GivenMaps, GivenMasks
from mask2former.evaluation.kept.file import iterate, whole_length
from mask2former.tasks import Task
from mask2former.types import Classes, Result

Kind: TypeAlias = Literal["panoptic", "objects", "masks", "maps", "kept"]
KEPT = frozenset({".jsonl"})
SEMANTIC_FOLDER = "semantic"
DEEPEST = 5
"""Levels of folders in which PNGs are looked for."""
ACCEPTED = (
    "accepted are COCO results (a list of objects with scores), a panoptic JSON file with its "
    "PNGs, detectron2's sem_seg_predictions.json, a folder of PNGs with a class per pixel, what "
    "predict --save wrote, and predictions*.jsonl of an evaluation"
)


class GivenResults:
    """Results of one model on the images of a data set, read image by image."""

    def __init__(self, path: Path, readers: Sequence[ResultsReader]) -> None:
        """Combine readers of different tasks; see `open_results`.

        Raises:
            ValueError: Two are of one task, or number their classes in different ways.
        """
        self.path = path
        tasks = [task for reader in readers for task in reader.tasks]
        twice = [task for task in tasks if tasks.count(task) > 1]
        if twice:
            raise ValueError(f"{path} holds several {twice[0]} results; give one of the files")
        if any(reader.classes != readers[0].classes for reader in readers):
            raise ValueError(
                f"the {' and '.join(tasks)} results in {path} number their classes in different "
                f"ways; give them one by one"
            )
        self.tasks: tuple[Task, ...] = tuple(tasks)
        self.classes = readers[0].classes
        """What class ids count: the data set's, or those that the results came with."""
        self._readers = readers
        self._asked: set[Task] = set()
        self._doubts: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """How was understood what the files leave open; more is known when all was scored."""
        of_readers = (note for reader in self._readers for note in reader.notes)
        return (*of_readers, *self._doubts)

    def find(
        self, record: Record, height: int, width: int, tasks: Collection[Task]
    ) -> dict[Task, Result]:
        """The results of an image.

        Args:
            record: Of the data set. Results are found by its image id, as number or text, or by
                the name of its file.
            height: Of the image in pixels.
            width: Of the image in pixels.
            tasks: Whose results are wanted; those without results are passed over.

        Raises:
            ValueError: There is no result, unless objects are listed, which some images have none
                of; or it is damaged or of another size.
        """
        results: dict[Task, Result] = {}
        for reader in self._readers:
            if not set(tasks).isdisjoint(reader.tasks):
                self._asked.update(reader.tasks)
                results |= reader.find(record, height, width)
        return {task: result for task, result in results.items() if task in tasks}

    def check_images(self, dataset: Dataset, tasks: Collection[Task]) -> None:
        """Refuse, before anything is scored, results that are not of the images of a data set.

        Args:
            dataset: One split.
            tasks: That are scored; results of others are passed over.

        Raises:
            ValueError: Results are of no image of the data set, are missing where every image
                must have one, or are the annotations themselves.
        """
        readers = [r for r in self._readers if not set(tasks).isdisjoint(r.tasks)]
        for reader in readers:
            self._asked.update(reader.tasks)
            self._check_origin(reader, dataset.folder)
        found = [[reader.images.find(r) for reader in readers] for r in dataset.records]
        self.check_all_found()
        for i, reader in enumerate(readers):
            pairs = zip(dataset.records, found, strict=True)
            lacking = [record for record, entries in pairs if entries[i] is None]
            if lacking and not reader.may_lack_images:
                reader.images.require(lacking[0])
            if lacking:
                have = "has" if len(lacking) == 1 else "have"
                self._doubts += (
                    f"{reader.images.where}: {len(lacking)} of {len(found)} images {have} no "
                    f"entry; nothing counts as found there",
                )

    def _check_origin(self, reader: ResultsReader, folder: Path) -> None:
        """Refuse the annotations themselves, and doubt what may be them.

        Raises:
            ValueError: The results are an annotation file in the folder of the data set.
        """
        if not lies_in(self.path, folder):
            return
        if reader.are_annotations:
            raise ValueError(
                f"{self.path} is an annotation file of the data set in {folder}, without a score: "
                f"compared with itself it would have 100 %; give what a model predicted (results "
                f"that have no scores must lie in another folder)"
            )
        if isinstance(reader, GivenMaps):
            self._doubts += (
                f"{self.path} lies in the folder of the data set; should it hold the annotations "
                f"themselves, the scores prove nothing",
            )

    def unused(self) -> list[str]:
        """Images that there are results for, of tasks that were asked for, but that were not."""
        asked = (reader for reader in self._readers if not self._asked.isdisjoint(reader.tasks))
        return [entry for reader in asked for entry in reader.images.unused()]

    def check_all_found(self) -> None:
        """Refuse results of which some are of no image of the data set.

        Raises:
            ValueError: There are such; images that have no result may be among them by another
                name.
        """
        unused = self.unused()
        if unused:
            raise ValueError(
                f"{len(unused)} images that {self.path} has results for are not among those that "
                f"were scored: {first_few(unused)}; score the split that the results are of, or "
                f"take them out"
            )


def open_results(
    path: Path, classes: Classes, tasks: Collection[Task] | None = None
) -> GivenResults:
    """Find out what results a path holds, and open them.

    Args:
        path: A file or a folder.
        classes: Of the data set.
        tasks: Results of others are left aside where there are some of these; none: of all tasks.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: It holds no results, or they are damaged, of other classes or incomplete.
    """
    found = _find_kinds(path)
    if "kept" in found:
        return GivenResults(path, [GivenPredictions(found["kept"])])
    classes = agreed_classes(own_classes(path if path.is_dir() else path.parent), classes)
    of_tasks = [k for k in found if tasks is None or not set(tasks).isdisjoint(READERS[k].tasks)]
    readers: list[ResultsReader] = []
    for kind, open_kind in READERS.items():  # panoptic ones first: they may bring their classes
        for place in found.get(kind, []) if kind in (of_tasks or found) else []:
            reader = open_kind(place, classes)
            classes = reader.classes
            readers.append(reader)
    return GivenResults(path, readers)


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a path leads into a folder, as it is written or through links."""
    places = (path.absolute(), path.resolve())
    return any(p.is_relative_to(f) for p in places for f in (folder.absolute(), folder.resolve()))


def tasks_of(path: Path) -> tuple[Task, ...]:
    """The tasks that a path holds results of, looked up without reading them all.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: It holds no results.
    """
    found = _find_kinds(path)
    if "kept" in found:
        lines = (results for file in found["kept"] for _, results in iterate(file))
        first = next(lines, None)
        if first is None:
            raise ValueError(f"{path} holds no image yet; let the evaluation go on")
        return tuple(first)
    return tuple(dict.fromkeys(task for kind in found for task in READERS[kind].tasks))


READERS: dict[Kind, Any] = {
    "panoptic": GivenPanoptic,
    "objects": GivenObjects,
    "masks": GivenMasks,
    "maps": GivenMaps,
}


def _find_kinds(path: Path) -> dict[Kind, list[Path]]:
    """The files and folders that are to be read, by their kind; not empty."""
    if path.is_file():
        kind: Kind = "kept" if path.suffix.lower() in KEPT else _kind_of_json(path)
        return {kind: [path]}
    if not path.is_dir():
        raise FileNotFoundError(f"no results are at {path}; {ACCEPTED}")
    kept = [file for file in files_in(path, KEPT) if file.stem.startswith("predictions")]
    begun = [file for file in kept if whole_length(file)]  # a process may be killed at once
    if begun:
        return {"kept": begun}
    found: dict[Kind, list[Path]] = {}
    for file in files_in(path, JSON):
        if file.name != CLASS_LIST:
            found.setdefault(_kind_of_json(file), []).append(file)
    if first_file(path / SEMANTIC_FOLDER, PNG, depth=DEEPEST):
        found["maps"] = [path / SEMANTIC_FOLDER]
    elif not found and first_file(path, PNG, depth=DEEPEST):
        found["maps"] = [path]
    if not found:
        raise ValueError(f"{path} holds no results; {ACCEPTED}")
    return found


def _kind_of_json(path: Path) -> Kind:
    """Told without reading all of a file.

    Raises:
        ValueError: It is damaged, or holds no results.
    """
    first = first_character(path)
    if first == "{":
        if sniff(path) == "panoptic":
            return "panoptic"
        raise ValueError(f"{path} is no list of results but {describe_object(path)}: {ACCEPTED}")
    entry = next(iter(iterate_list(path)), None)
    if not isinstance(entry, dict) or "file_name" not in entry:
        return "objects"
    return "masks" if entry.get("image_id") is None and "score" not in entry else "objects"
