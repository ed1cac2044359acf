"""Predictions as files: COCO results, COCO panoptic, class id PNGs, overlays.

Files are written as predictions arrive and get their names when they are complete, so memory does
not grow with the number of images, and what bears a final name is whole.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from PIL import Image

from mask2former.files import replacing, unfinished_path
from mask2former.inference.prediction import Prediction
from mask2former.masks.id_maps import ids_to_rgb
from mask2former.tasks import Task
from mask2former.types import Classes, Segment

Kind: TypeAlias = Literal["overlay", "masks", "coco", "panoptic"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TASK_OF_KIND: dict[Kind, Task] = {"masks": "semantic", "coco": "instance", "panoptic": "panoptic"}
"""The task whose predictions a kind of file holds; overlays are of any task."""


class ResultsWriter:
    """Writes the predictions of many images into a folder; use it with `with`.

    - overlay: `overlay/NAME.png`, the picture with what was found.
    - masks: `semantic/NAME.png`, one channel whose values are class ids 0..k-1 (8 bits, 16 for
      more than 256 classes), and `classes.json`: entry i of `classes` and `category_ids` is the
      name and the data set's own id of value i.
    - coco: `predictions.coco.json`, a list of objects as the COCO tools read it. `category_id` is
      the data set's own; boxes are (x, y, width, height); `file_name` is ours.
    - panoptic: `panoptic.json` and `panoptic/NAME.png`, as the COCO panoptic tools read them.
    """

    def __init__(self, folder: Path, classes: Classes, kinds: Collection[str]) -> None:
        self.folder = folder
        self.classes = classes
        self.kinds = kinds
        self._coco: JsonList | None = None
        self._panoptic: JsonList | None = None
        self._images: list[dict] = []

    def __enter__(self) -> "ResultsWriter":
        self.folder.mkdir(parents=True, exist_ok=True)
        for kind, name in (("overlay", "overlay"), ("masks", "semantic"), ("panoptic", "panoptic")):
            if kind in self.kinds:
                (self.folder / name).mkdir(exist_ok=True)
        if "masks" in self.kinds:
            table = {"classes": self.classes.names, "category_ids": self.classes.category_ids}
            with replacing(self.folder / "classes.json") as path:
                text = json.dumps(table, ensure_ascii=False, indent=1)
                path.write_text(text, encoding="utf-8")
        if "coco" in self.kinds:
            self._coco = JsonList(self.folder / "predictions.coco.json", "[", "]")
        if "panoptic" in self.kinds:
            start = f'{{"categories": {json.dumps(self._categories())}, "annotations": ['
            self._panoptic = JsonList(self.folder / "panoptic.json", start, "]")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._panoptic is not None:
            self._panoptic.end = f'], "images": {json.dumps(self._images)}}}'
        for stream in (self._coco, self._panoptic):
            if stream is not None:
                stream.close(complete=error is None)

    def write(
        self,
        predictions: Mapping[Task, Prediction],
        *,
        name: str,
        image_id: int | str,
        file_name: str,
        overlay_task: Task,
    ) -> None:
        """Write one image.

        Args:
            predictions: By task; those that the kinds of files hold.
            name: Of the PNGs, without suffix; distinct for every image.
            image_id: As in the JSON of the data set, where there is one.
            file_name: Of the image.
            overlay_task: Which of the predictions is drawn.
        """
        if "overlay" in self.kinds:
            save_png(self.folder / "overlay" / f"{name}.png", predictions[overlay_task].draw())
        if "masks" in self.kinds:
            values = predictions["semantic"].label_map
            depth = np.uint8 if len(self.classes) <= 256 else np.uint16
            picture = Image.fromarray(values.astype(depth))
            save_png(self.folder / "semantic" / f"{name}.png", picture)
        if self._coco is not None:
            for entry in self._coco_entries(predictions["instance"], image_id, file_name):
                self._coco.append(entry)
        if self._panoptic is not None:
            prediction = predictions["panoptic"]
            picture = Image.fromarray(ids_to_rgb(prediction.segment_map))
            save_png(self.folder / "panoptic" / f"{name}.png", picture)
            self._panoptic.append(
                {
                    "image_id": image_id,
                    "file_name": f"{name}.png",
                    "segments_info": [self._segment_info(s) for s in prediction.segments],
                }
            )
            height, width = prediction.image.shape[:2]
            size = {"height": height, "width": width}
            self._images.append({"id": image_id, "file_name": file_name, **size})

    def _coco_entries(
        self, prediction: Prediction, image_id: int | str, file_name: str
    ) -> Iterator[dict]:
        for segment, rle in zip(prediction.segments, prediction.rles, strict=True):
            yield {
                "image_id": image_id,
                "file_name": file_name,
                "category_id": self.classes.category_ids[segment.class_id],
                "bbox": list(segment.box),
                "score": segment.score,
                "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode()},
            }

    def _segment_info(self, segment: Segment) -> dict:
        return {
            "id": segment.id,
            "category_id": self.classes.category_ids[segment.class_id],
            "area": segment.area,
            "bbox": list(segment.box),
            "iscrowd": 0,
            "score": segment.score,
        }

    def _categories(self) -> list[dict]:
        classes = self.classes
        rows = zip(classes.category_ids, classes.names, classes.is_thing, strict=True)
        return [{"id": id_, "name": name, "isthing": int(thing)} for id_, name, thing in rows]


class JsonList:
    """A JSON file with one long list, written entry by entry."""

    def __init__(self, path: Path, start: str, end: str) -> None:
        self.path, self.end = path, end
        self._file = unfinished_path(path).open("w", encoding="utf-8")
        self._file.write(start)
        self._separator = "\n"

    def append(self, entry: Any) -> None:
        self._file.write(self._separator + json.dumps(entry))
        self._separator = ",\n"

    def close(self, *, complete: bool) -> None:
        """Give the file its name, or remove it when it is not complete."""
        self._file.write("\n" + self.end)
        self._file.close()
        if complete:
            unfinished_path(self.path).replace(self.path)
        else:
            unfinished_path(self.path).unlink()


def save_png(path: Path, picture: Image.Image) -> None:
    with replacing(path) as unfinished:
        picture.save(unfinished, "PNG")
