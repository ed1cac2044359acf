"""YouTube-VIS: `{split}.json` and `{split}/JPEGImages/`; without splits `instances.json`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mask2former.data.annotations import Annotations, annotation_size
from mask2former.data.dataset import Dataset
from mask2former.data.formats.format import WHOLE
from mask2former.data.writers.coco_json import category_entries, write_json
from mask2former.data.writers.conversion import Conversion, Item, Layout
from mask2former.data.writers.losses import Losses
from mask2former.data.writers.names import file_names
from mask2former.data.writers.objects import as_objects
from mask2former.data.writers.split_names import found_names
from mask2former.data.writers.telling import tell_ignored, tell_stuff
from mask2former.masks.polygons import mask_to_rle
from mask2former.masks.rle import rle_box
from mask2former.tasks import Task

TASKS: tuple[Task, ...] = ("instance", "panoptic")


@dataclass
class Track:
    """One object of a video; its RLE and area by the frames that it is on."""

    class_id: int
    is_crowd: bool
    masks: dict[int, tuple[dict, float]] = field(default_factory=dict)


@dataclass
class Video:
    """File names by frame, and tracks by their ids."""

    size: tuple[int, int]
    """(height, width)"""
    frames: dict[int, str] = field(default_factory=dict)
    tracks: dict[int, Track] = field(default_factory=dict)


def write(conversion: Conversion) -> None:
    """Write all splits.

    Raises:
        ValueError: The data set is not one of videos, objects have no track ids, frames of a
            video differ in size, or several splits have names that are not found.
    """
    classes = conversion.classes
    tell_stuff(classes, conversion.losses)
    _check_videos(conversion.splits)
    splits = found_names(conversion.splits, conversion.losses)
    layout = Layout(
        names=_frame_names(conversion.splits),
        image_folders={
            split: "JPEGImages" if name == WHOLE else f"{name}/JPEGImages"
            for split, name in splits.items()
        },
    )
    videos: dict[str, dict[str, Video]] = {split: {} for split in conversion.splits}
    for item, (size, objects) in conversion.each(layout, describe_tracks):
        group = item.record.group
        assert group is not None, "checked before"
        video = videos[item.split].setdefault(group, Video(size))
        _add_frame(video, item, size, objects, conversion.losses)
    for split, by_group in videos.items():
        content = {
            "videos": [],
            "annotations": [],
            "categories": category_entries(classes),
        }
        ids = _video_ids(list(by_group))
        track_ids = _track_ids(by_group, conversion.losses)
        for group, video in by_group.items():
            content["videos"].append(_video_entry(ids[group], video))
            for track_id, track in sorted(video.tracks.items(), key=lambda pair: pair[0]):
                entry = _track_entry(track, video, classes.category_ids[track.class_id])
                numbers = {"id": track_ids[group, track_id], "video_id": ids[group]}
                content["annotations"].append({**numbers, **entry})
        name = "instances" if splits[split] == WHOLE else splits[split]
        write_json(conversion.folder / f"{name}.json", content)


def describe_tracks(
    item: Item, annotations: Annotations, losses: Losses
) -> tuple[tuple[int, int], list[tuple[int, int, bool, dict, float]]]:
    """The size of a frame, and (track id, class id, is crowd, RLE, area) of its objects.

    Raises:
        ValueError: An object has no track id.
    """
    read = as_objects(annotations, losses)
    tell_ignored(read, losses)
    objects = []
    for one in read.items:
        if one.track_id is None:
            raise ValueError(
                f"an object of {item.record.image} has no track id; youtube-vis follows objects "
                f"over frames, so give a data set that does, or convert to coco-instance"
            )
        is_polygons = int(not isinstance(one.mask, dict))
        losses.add("vertices", "polygons are run lengths of the same masks", is_polygons)
        rle = mask_to_rle(one.mask, *annotation_size(annotations))
        objects.append((one.track_id, one.class_id, one.is_crowd, rle, one.area))
    return annotation_size(annotations), objects


def _add_frame(
    video: Video, item: Item, size: tuple[int, int], objects: list, losses: Losses
) -> None:
    if size != video.size:
        raise ValueError(
            f"frame {item.record.image} has size (h, w) = {size} but the frames before it "
            f"{video.size}; all frames of a video have one size here: resize or split the video"
        )
    frame = item.record.frame
    assert frame is not None, "checked before"
    video.frames[frame] = item.file_name
    for track_id, class_id, is_crowd, rle, area in objects:
        track = video.tracks.setdefault(track_id, Track(class_id, is_crowd))
        changes = track.class_id != class_id or track.is_crowd != is_crowd
        losses.add("objects", "masks get the class of their track's first frame", int(changes))
        track.masks[frame] = (rle, area)


def _video_entry(video_id: int, video: Video) -> dict:
    height, width = video.size
    return {
        "id": video_id,
        "width": width,
        "height": height,
        "length": len(video.frames),
        "file_names": [video.frames[frame] for frame in sorted(video.frames)],
    }


def _track_entry(track: Track, video: Video, category_id: int) -> dict:
    height, width = video.size
    masks = [track.masks.get(frame) for frame in sorted(video.frames)]
    return {
        "category_id": category_id,
        "iscrowd": int(track.is_crowd),
        "width": width,
        "height": height,
        "length": len(masks),
        "segmentations": [
            mask and {"size": [height, width], "counts": mask[0]["counts"].decode("ascii")}
            for mask in masks
        ],
        "bboxes": [mask and list(rle_box(mask[0])) for mask in masks],
        "areas": [
            mask and (int(mask[1]) if float(mask[1]).is_integer() else mask[1]) for mask in masks
        ],
    }


def _check_videos(splits: Mapping[str, Dataset]) -> None:
    """Check that every image is a frame.

    Raises:
        ValueError: One is not.
    """
    for dataset in splits.values():
        still = next((r for r in dataset.records if r.group is None or r.frame is None), None)
        if still is not None:
            raise ValueError(
                f"{still.image} is no frame of a video, and youtube-vis holds videos alone; give "
                f"a data set of videos ({dataset.format} has still images), or convert to "
                f"coco-instance"
            )


def _frame_names(splits: Mapping[str, Dataset]) -> dict[str, list[str]]:
    """The folders of the videos as they are, if each video has its own; else by their groups."""
    nested = file_names(splits, "nested")
    for split, dataset in splits.items():
        places: defaultdict[str | None, set[str]] = defaultdict(set)
        for record, name in zip(dataset.records, nested[split], strict=True):
            places[record.group].add(PurePosixPath(name).parent.as_posix())
        folders = [folder for some in places.values() for folder in some]
        if "." in folders or len(set(folders)) < len(folders) or len(folders) > len(places):
            return file_names(splits, "by video")
    return nested


def _video_ids(groups: Sequence[str]) -> dict[str, int]:
    """The groups themselves if all are numbers, else counted from 1."""
    if all(group.isdecimal() for group in groups):
        return {group: int(group) for group in groups}
    return {group: i for i, group in enumerate(groups, start=1)}


def _track_ids(videos: Mapping[str, Video], losses: Losses) -> dict[tuple[str, int], int]:
    """As they are if no two tracks of the split share one, else counted from 1."""
    tracks = [(group, i) for group, video in videos.items() for i in sorted(video.tracks)]
    if len({track_id for _, track_id in tracks}) == len(tracks):
        return {track: track[1] for track in tracks}
    losses.add("track ids", "tracks are numbered anew, through all videos", len(tracks))
    return {track: i for i, track in enumerate(tracks, start=1)}
