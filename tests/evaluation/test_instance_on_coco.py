"""AP of real annotations: our reader and metrics against pycocotools on the file itself."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mask2former.data.derive import for_task, instance_rles
from mask2former.data.open import open_dataset
from mask2former.evaluation.instance import InstanceMetrics
from mask2former.masks.rle import decode_rle, encode_mask, rle_area, rle_box
from mask2former.types import InstanceResult, Segment

SAMPLE = Path(__file__).parents[2] / ".." / "shared" / "data" / "coco_instances"

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        not SAMPLE.is_dir(), reason="the real sample data are not beside this checkout"
    ),
]


def shifted(truth, generator, height, width):
    """Each object twice, moved by a few pixels."""
    rles = [
        encode_mask(np.roll(decode_rle(item.rle), generator.integers(-4, 5, 2), (0, 1)))
        for item in truth
        for _ in range(2)
    ]
    scores = generator.random(len(rles)).tolist()
    segments = [
        Segment(i, truth[i // 2].class_id, scores[i], rle_area(rle), rle_box(rle))
        for i, rle in enumerate(rles)
    ]
    return InstanceResult(height, width, rles, segments)


def test_objects_areas_and_boxes_of_the_file_give_the_reference_numbers() -> None:
    things = for_task(open_dataset(SAMPLE, "val"), "instance")
    generator = np.random.default_rng(0)
    metrics = InstanceMetrics(things.classes)
    found = {"segm": [], "bbox": []}
    for record, annotations in zip(
        things.records, map(things.annotations, range(len(things))), strict=True
    ):
        truth = instance_rles(annotations)
        result = shifted(truth, generator, record.height, record.width)
        metrics.update(record.image_id, result, truth)
        for segment, rle in zip(result.segments, result.rles, strict=True):
            entry = {"image_id": record.image_id, "score": segment.score}
            entry["category_id"] = things.classes.category_ids[segment.class_id]
            found["segm"].append(entry | {"segmentation": rle})
            found["bbox"].append(entry | {"bbox": list(segment.box)})
    values, _ = metrics.compute()
    for kind, names in (
        ("segm", ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")),
        ("bbox", ("boxAP",)),
    ):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(SAMPLE / "annotations" / "instances_val2017.json"))
            evaluation = COCOeval(coco, coco.loadRes(found[kind]), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        for name, value in zip(names, evaluation.stats, strict=False):
            assert values[name] == 100 * value > 0
