"""The entries of a YouTube-VIS file: videos, and the tracks of objects through them."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mask2former.data.formats.coco_instance import shorten
from mask2former.data.formats.coco_json import whole_number
from mask2former.data.formats.coco_masks import (
    PackedObject,
    known_area,
    known_box,
    parse_segmentation,
)
from mask2former.data.problems import FaultError, Problems
from mask2former.types import Classes

FrameId: TypeAlias = str
"""`{video id}/{position}`"""


@dataclass(frozen=True)
class Video:
    """An entry of "videos"."""

    id: int | str
    height: int
    width: int
    file_names: tuple[str, ...]

    def frame_id(self, position: int) -> FrameId:
        return f"{self.id}/{position}"


def videos_by_id(content: dict, path: Path, problems: Problems) -> dict[int | str, Video]:
    """The video entries that are complete; the others are told.

    Raises:
        ValueError: None is left.
    """
    entries = content.get("videos")
    if not isinstance(entries, list):
        raise ValueError(
            f"{path} has no list 'videos'; a video annotation file has the lists 'videos', "
            f"'annotations' and 'categories'"
        )
    videos: dict[int | str, Video] = {}
    for entry in entries:
        try:
            video = _read_video(entry)
            if video.id in videos:
                raise FaultError("occurs twice; give each video its own id", "duplicate id")
        except FaultError as fault:
            video_id = entry.get("id") if isinstance(entry, dict) else entry
            problems.error(fault.kind, f"{path}: video {video_id} {fault}", file=path)
        else:
            videos[video.id] = video
    if not videos:
        raise ValueError(
            f"{path} lists no videos; an empty split can be neither trained nor scored"
        )
    return videos


def _read_video(entry: Any) -> Video:
    """Check one entry.

    Raises:
        FaultError: It is incomplete.
    """
    if not isinstance(entry, dict):
        raise FaultError("is no JSON object; take it out", "unreadable annotation")
    for key in ("id", "file_names", "height", "width"):
        if key not in entry:
            raise FaultError(f"has no {key!r}; add it", "unreadable annotation")
    names, video_id = entry["file_names"], entry["id"]
    if not isinstance(video_id, int | str):
        raise FaultError("has an id that is neither a number nor a text", "unreadable annotation")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise FaultError(
            "has no list of file_names, one a frame; write one", "unreadable annotation"
        )
    height, width = whole_number(entry["height"]), whole_number(entry["width"])
    if height is None or width is None:
        raise FaultError(
            f"has the size (h, w) = ({entry['height']!r}, {entry['width']!r}), which are no "
            f"numbers of pixels; correct it",
            "unreadable annotation",
        )
    if entry.get("length", len(names)) != len(names):
        raise FaultError(
            f"has the length {entry['length']} but {len(names)} file_names; make the two agree",
            "size mismatch",
        )
    return Video(video_id, height, width, tuple(names))


def read_tracks(
    annotations: list[Any],
    videos: dict[int | str, Video],
    classes: Classes,
    path: Path,
    problems: Problems,
) -> dict[FrameId, list[PackedObject]]:
    """The objects of each frame in file order; those that are wrong are told and left out."""
    class_ids = classes.class_id_by_category()
    objects: dict[FrameId, list[PackedObject]] = defaultdict(list)
    tracks: set[int] = set()
    for annotation in annotations:
        name = annotation.get("id") if isinstance(annotation, dict) else annotation
        try:
            video, class_id = _check_track(annotation, videos, class_ids)
            if annotation["id"] in tracks:
                raise FaultError("occurs twice; give each track its own id", "duplicate id")
        except FaultError as fault:
            problems.error(fault.kind, f"{path}: annotation {name} {fault}", file=path)
            continue
        tracks.add(annotation["id"])
        for frame_id, item in _read_track(annotation, video, class_id, path, problems):
            objects[frame_id].append(item)
    return objects


def _read_track(
    annotation: dict, video: Video, class_id: int, path: Path, problems: Problems
) -> Iterator[tuple[FrameId, PackedObject]]:
    """The object on each frame that has a right mask of it; wrong ones are told."""
    track_id, crowd = annotation["id"], bool(annotation.get("iscrowd", 0))
    num_frames = len(video.file_names)
    areas = annotation.get("areas") or [None] * num_frames
    boxes = annotation.get("bboxes")
    if not isinstance(boxes, list) or len(boxes) != num_frames:
        boxes = [None] * num_frames
    for position, segmentation in enumerate(annotation["segmentations"]):
        frame_id = video.frame_id(position)
        where = f"{path}: annotation {track_id}, frame {position},"
        if not segmentation:
            continue
        try:
            mask, num_dropped = parse_segmentation(segmentation, video.height, video.width)
        except FaultError as fault:
            problems.error(fault.kind, f"{where} {fault}", file=path, image_id=frame_id)
            continue
        if num_dropped:
            problems.warn(
                "degenerate polygon",
                f"{where} has {num_dropped} polygons with fewer than 3 points, which are dropped; "
                f"redraw them or take them out",
                file=path,
                image_id=frame_id,
            )
        if mask:
            area, box = known_area(areas[position]), known_box(boxes[position])
            yield frame_id, (class_id, mask, crowd, area, track_id, box)


def _check_track(
    annotation: Any, videos: dict[int | str, Video], class_ids: dict[int, int]
) -> tuple[Video, int]:
    """The video and class id of a track.

    Raises:
        FaultError: It is wrong as a whole.
    """
    if not isinstance(annotation, dict) or type(annotation.get("id")) is not int:
        raise FaultError("has no whole number as 'id'; number the tracks", "unreadable annotation")
    video_id = annotation.get("video_id")
    video = videos.get(video_id) if isinstance(video_id, int | str) else None
    if video is None:
        raise FaultError(
            f"is for video id {video_id}, which 'videos' does not list; add the video or take the "
            f"annotation out",
            "annotation without image",
        )
    category_id = annotation.get("category_id")
    class_id = class_ids.get(category_id) if isinstance(category_id, int) else None
    if class_id is None:
        raise FaultError(
            f"has category id {category_id}, but the categories are {shorten(tuple(class_ids))}; "
            f"correct it or add the category",
            "unknown class",
        )
    for key in ("segmentations", "areas"):
        entries = annotation.get(key)
        if key == "areas" and entries is None:
            continue
        if not isinstance(entries, list):
            raise FaultError(
                f"has no list {key!r}, one entry or null a frame; write one", "no mask"
            )
        if len(entries) != len(video.file_names):
            raise FaultError(
                f"has {len(entries)} {key} but video {video_id} has {len(video.file_names)} "
                f"frames; give one entry or null a frame",
                "size mismatch",
            )
    return video, class_id
