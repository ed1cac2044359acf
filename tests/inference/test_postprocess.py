"""The results against a plain transcription of the published order of operations."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask
from torch.testing import assert_close

from mask2former.inference import score_bands
from mask2former.inference.passes import Pass
from mask2former.inference.postprocess import instances, panoptic, semantic
from mask2former.inference.resize import Frame

FRAMES = [
    Frame((96, 128), (90, 121), (61, 83)),
    Frame((64, 96), (64, 96), (64, 96)),
    Frame((96, 64), (95, 64), (211, 142)),
    Frame((32, 64), (1, 37), (1, 101)),
    Frame((64, 64), (40, 40), (1, 1)),
]
IS_THING = (True, False, True, False, False)


def smooth_prediction(frame, *, queries=23, classes=5, seed=0):
    """About half of the queries are sure of a class; masks are blobs with noise."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = 0.5 * torch.randn(queries, classes + 1, generator=generator)
    class_logits[:, -1] += 4
    sure = torch.randperm(queries, generator=generator)[: queries // 2]
    labels = torch.randint(0, classes, (len(sure),), generator=generator)
    class_logits[sure, labels] += 8
    h, w = frame.padded[0] // 4, frame.padded[1] // 4
    coarse = 4 * torch.randn(queries, 1, 4, 5, generator=generator) - 1
    masks = F.interpolate(coarse, size=(h, w), mode="bicubic")[:, 0]
    return class_logits, masks + 0.3 * torch.randn(queries, h, w, generator=generator)


def published_masks(mask_logits, frame):
    """All masks to the padded size, cut, to the original size."""
    padded = F.interpolate(mask_logits[None], size=frame.padded, mode="bilinear")[0]
    cut = padded[:, : frame.resized[0], : frame.resized[1]]
    return F.interpolate(cut[None], size=frame.original, mode="bilinear")[0]


def published_scores(class_logits, mask_logits, frame, before):
    """Of every class at every pixel of the original size."""
    probs = class_logits.softmax(dim=-1)[:, :-1]
    if before:
        masks = published_masks(mask_logits, frame).sigmoid()
        return torch.einsum("qc,qhw->chw", probs, masks)
    padded = F.interpolate(mask_logits[None], size=frame.padded, mode="bilinear")[0].sigmoid()
    scores = torch.einsum("qc,qhw->chw", probs, padded)
    cut = scores[:, : frame.resized[0], : frame.resized[1]]
    return F.interpolate(cut[None], size=frame.original, mode="bilinear")[0]


def published_panoptic(class_logits, masks, score_threshold=0.8, overlap_threshold=0.8):
    """From masks at the original size: the id map, and (id, class) of each segment."""
    scores, labels = class_logits.softmax(dim=-1).max(dim=-1)
    keep = (labels != class_logits.shape[1] - 1) & (scores > score_threshold)
    scores, labels, masks = scores[keep], labels[keep], masks.sigmoid()[keep]
    segment_map, found, stuff = torch.zeros(masks.shape[1:], dtype=torch.int64), [], {}
    if len(labels) == 0:
        return segment_map, found
    winner = (scores[:, None, None] * masks).argmax(dim=0)
    for k, label in enumerate(labels.tolist()):
        won, claimed = (winner == k).sum().item(), (masks[k] >= 0.5).sum().item()
        written = (winner == k) & (masks[k] >= 0.5)
        if won == 0 or claimed == 0 or written.sum() == 0 or won / claimed < overlap_threshold:
            continue
        if not IS_THING[label]:
            if label in stuff:
                segment_map[written] = stuff[label]
                continue
            stuff[label] = len(found) + 1
        found.append((len(found) + 1, label))
        segment_map[written] = len(found)
    return segment_map, found


def published_instances(class_logits, masks, count, is_thing=None):
    num_classes = class_logits.shape[1] - 1
    scores, pairs = class_logits.softmax(dim=-1)[:, :-1].flatten().topk(count, sorted=False)
    labels, masks = pairs % num_classes, masks[pairs // num_classes]
    if is_thing is not None:
        keep = torch.tensor(is_thing)[labels]
        scores, labels, masks = scores[keep], labels[keep], masks[keep]
    binary = (masks > 0).float()
    inside = (masks.sigmoid().flatten(1) * binary.flatten(1)).sum(1)
    return scores * inside / (binary.flatten(1).sum(1) + 1e-6), labels, binary.bool()


def logits_of(probs):
    """Class logits whose softmax gives these rows."""
    return torch.tensor(probs).log()


def still(masks):
    """Mask logits of the original size and a frame that resizes nothing."""
    masks = torch.as_tensor(masks, dtype=torch.float32)
    size = tuple(masks.shape[1:])
    return masks, Frame(size, size, size)


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_semantic_equals_the_published_order(frame, monkeypatch) -> None:
    monkeypatch.setattr(score_bands, "BAND_ELEMENTS", 20_000)  # several bands at these sizes
    prediction = smooth_prediction(frame)
    for resized, before in (("masks", True), ("scores", False)):
        result = semantic([Pass(*prediction, frame)], resized=resized).label_map
        assert torch.equal(result, published_scores(*prediction, frame, before).argmax(dim=0))


@pytest.mark.parametrize("original", [(61, 83), (211, 40), (1, 1), (128, 128)])
@pytest.mark.parametrize("before", [True, False])
def test_semantic_of_several_passes_equals_the_published_order(
    original, before, monkeypatch
) -> None:
    monkeypatch.setattr(score_bands, "BAND_ELEMENTS", 20_000)
    sizes = [((32, 64), (30, 41)), ((64, 64), (59, 64)), ((96, 128), (90, 121))]
    passes = [
        Pass(*smooth_prediction(frame, seed=i), frame, flipped)
        for i, frame in enumerate(Frame(*size, original) for size in sizes)
        for flipped in (False, True)
    ]
    total = None
    for one in passes:
        scores = published_scores(one.class_logits, one.mask_logits, one.frame, before)
        scores = scores.flip(dims=[2]) if one.flipped else scores
        total = scores if total is None else total + scores
    expected = (total / len(passes)).argmax(dim=0)
    result = semantic(passes, resized="masks" if before else "scores").label_map
    assert torch.equal(result, expected)


def test_a_mirrored_pass_says_the_same_as_a_plain_one_of_a_symmetric_frame() -> None:
    frame = Frame((64, 96), (64, 96), (61, 83))  # no padding, so that mirroring is exact
    class_logits, mask_logits = smooth_prediction(frame)
    plain = Pass(class_logits, mask_logits, frame)
    mirrored = Pass(class_logits, mask_logits.flip(2), frame, flipped=True)
    for resized in ("masks", "scores"):
        alone = semantic([plain], resized=resized).label_map
        both = semantic([plain, mirrored], resized=resized).label_map
        # sums are rounded in another order where two classes are equal but for rounding
        assert (alone != both).float().mean() < 1e-3


@pytest.mark.parametrize("frame", FRAMES, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("thresholds", [(0.8, 0.8), (0.0, 0.5)])
def test_panoptic_equals_the_published_order(frame, seed, thresholds) -> None:
    class_logits, mask_logits = smooth_prediction(frame, seed=seed)
    expected, found = published_panoptic(
        class_logits, published_masks(mask_logits, frame), *thresholds
    )
    result = panoptic(
        class_logits,
        mask_logits,
        frame,
        is_thing=IS_THING,
        score_threshold=thresholds[0],
        overlap_threshold=thresholds[1],
    )
    assert torch.equal(result.segment_map, expected)
    assert [(s.id, s.class_id) for s in result.segments] == found
    for segment in result.segments:
        rows, columns = (result.segment_map == segment.id).nonzero().T
        assert segment.area == len(rows)
        x, y = columns.min().item(), rows.min().item()
        assert segment.box == (x, y, columns.max().item() + 1 - x, rows.max().item() + 1 - y)


@pytest.mark.parametrize("frame", FRAMES, ids=str)
@pytest.mark.parametrize("is_thing", [None, IS_THING])
def test_instances_equal_the_published_order(frame, is_thing) -> None:
    class_logits, mask_logits = smooth_prediction(frame)
    scores, labels, masks = published_instances(
        class_logits, published_masks(mask_logits, frame), 40, is_thing
    )
    order = scores.argsort(descending=True, stable=True)
    result = instances(class_logits, mask_logits, frame, max_instances=40, is_thing=is_thing)
    assert [s.class_id for s in result.segments] == labels[order].tolist()
    # sums over the pixels of a mask are made in another order
    assert_close(torch.tensor([s.score for s in result.segments]), scores[order], rtol=1e-5, atol=0)
    decoded = coco_mask.decode(result.rles).transpose(2, 0, 1)
    assert np.array_equal(decoded, masks[order].numpy())
    assert [s.area for s in result.segments] == decoded.sum((1, 2)).tolist()
    assert [s.id for s in result.segments] == list(range(len(result.rles)))


def test_bands_of_rows_do_not_change_the_semantic_result(monkeypatch) -> None:
    frame = Frame((96, 128), (90, 121), (173, 230))
    prediction = smooth_prediction(frame)
    whole = [semantic([Pass(*prediction, frame)], resized=r).label_map for r in ("masks", "scores")]
    monkeypatch.setattr(score_bands, "BAND_ELEMENTS", 1)  # one row at a time
    rows = [semantic([Pass(*prediction, frame)], resized=r).label_map for r in ("masks", "scores")]
    assert torch.equal(whole[0], rows[0])
    assert torch.equal(whole[1], rows[1])


def test_the_two_semantic_orders_differ() -> None:
    frame = Frame((96, 128), (90, 121), (61, 83))
    prediction = smooth_prediction(frame, seed=3)
    masks, scores = (semantic([Pass(*prediction, frame)], resized=r) for r in ("masks", "scores"))
    assert not torch.equal(masks.label_map, scores.label_map)


def test_the_first_query_and_the_first_class_win_ties() -> None:
    masks, frame = still([[[5.0, 5.0, -5.0]], [[5.0, 5.0, 5.0]], [[5.0, 5.0, 5.0]]])
    class_logits = logits_of([[0.9, 0.05, 0.05]] * 3)
    # the first query wins 2 of 2 pixels, the second the third pixel: 1 / 3 is dropped
    result = panoptic(class_logits, masks, frame, is_thing=(True, True))
    assert result.segment_map.tolist() == [[1, 1, 0]]
    even = logits_of([[0.45, 0.45, 0.1]] * 3)
    for resized in ("masks", "scores"):
        assert semantic([Pass(even, masks, frame)], resized=resized).label_map.tolist() == [
            [0, 0, 0]
        ]


def test_stuff_of_one_class_is_one_segment_and_things_are_not() -> None:
    masks, frame = still(
        [[[5.0, -5.0, -5.0]], [[-5.0, 5.0, -5.0]], [[-5.0, -5.0, 5.0]]],
    )
    class_logits = logits_of([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.93, 0.04, 0.03]])
    stuff = panoptic(class_logits, masks, frame, is_thing=(False, True))
    assert stuff.segment_map.tolist() == [[1, 2, 1]]
    assert [(s.id, s.class_id, s.area, s.box) for s in stuff.segments] == [
        (1, 0, 2, (0, 0, 3, 1)),
        (2, 1, 1, (1, 0, 1, 1)),
    ]
    assert stuff.segments[0].score == pytest.approx(0.9, abs=1e-6)  # of its first query
    things = panoptic(class_logits, masks, frame, is_thing=(True, True))
    assert things.segment_map.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(("lost", "kept"), [(1, True), (2, False)])
def test_a_query_is_dropped_below_an_overlap_of_exactly_0_8(lost, kept) -> None:
    # the second query claims 5 pixels and loses 1 (4 / 5 = 0.8) or 2 (3 / 5) to the first
    first = [6.0] * lost + [-6.0] * (6 - lost)
    masks, frame = still([[first], [[5.0] * 5 + [-6.0]]])
    class_logits = logits_of([[0.98, 0.02], [0.9, 0.1]])
    # pixel 6 is claimed by nobody; the first query wins it, as sigmoid(-6) x 0.98 is higher
    result = panoptic(class_logits, masks, frame, is_thing=(True,))
    second = 2 if kept else 0
    assert result.segment_map.tolist() == [[1] * lost + [second] * (5 - lost) + [0]]


def test_pixels_won_below_one_half_count_for_the_overlap_but_are_not_written() -> None:
    # The second query claims pixels 0, 1 and wins 1, 2: won / claimed = 1, although it only
    # writes pixel 1; counted with what it writes it would be 1 / 2 and dropped.
    masks, frame = still([[[6.0, -6.0, -6.0]], [[5.0, 5.0, -1.0]]])
    class_logits = logits_of([[0.98, 0.02], [0.9, 0.1]])
    result = panoptic(class_logits, masks, frame, is_thing=(True,))
    assert result.segment_map.tolist() == [[1, 2, 0]]
    assert [s.area for s in result.segments] == [1, 1]


def test_no_confident_query_gives_an_empty_panoptic_result() -> None:
    masks, frame = still(torch.ones(2, 3, 5))
    # one is "no object", one is not sure enough
    result = panoptic(logits_of([[0.05, 0.95], [0.8, 0.2]]), masks, frame, is_thing=(True,))
    assert result.segments == []
    assert torch.equal(result.segment_map, torch.zeros(3, 5).long())


def test_one_query_and_one_class_give_one_instance() -> None:
    masks, frame = still([[[2.0, -2.0, 2.0], [-2.0, -2.0, 2.0]]])
    result = instances(logits_of([[0.75, 0.25]]), masks, frame, max_instances=100)
    (segment,) = result.segments
    assert (segment.area, segment.box) == (3, (0, 0, 3, 2))
    # 0.75 x sigmoid(2) = 0.75 x 0.880797
    assert segment.score == pytest.approx(0.660598, abs=1e-5)
    assert (result.height, result.width) == (2, 3)
    one = Pass(logits_of([[0.75, 0.25]]), masks, frame)
    label_map = semantic([one], resized="masks").label_map
    assert label_map.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_an_empty_mask_stays_with_score_0() -> None:
    masks, frame = still([[[-1.0, -3.0]], [[1.0, -3.0]]])
    result = instances(logits_of([[0.9, 0.1], [0.2, 0.8]]), masks, frame)
    assert [(s.score > 0, s.area, s.box) for s in result.segments] == [
        (True, 1, (0, 0, 1, 1)),
        (False, 0, (0, 0, 0, 0)),
    ]


def test_things_are_picked_after_the_best_pairs() -> None:
    masks, frame = still(torch.ones(2, 1, 1))
    class_logits = logits_of([[0.1, 0.8, 0.1], [0.2, 0.7, 0.1]])
    # the two best pairs are stuff (class 1), so no thing is left of them
    assert instances(class_logits, masks, frame, max_instances=2, is_thing=(True, False)) == (
        type(instances(class_logits, masks, frame))(1, 1, [], [])
    )


def test_half_precision_predictions_are_computed_in_single() -> None:
    frame = FRAMES[0]
    class_logits, mask_logits = (x.half() for x in smooth_prediction(frame))
    as_float = (class_logits.float(), mask_logits.float())
    for resized in ("masks", "scores"):
        half = semantic([Pass(class_logits, mask_logits, frame)], resized=resized).label_map
        assert torch.equal(half, semantic([Pass(*as_float, frame)], resized=resized).label_map)
    half = panoptic(class_logits, mask_logits, frame, is_thing=IS_THING)
    full = panoptic(*as_float, frame, is_thing=IS_THING)
    assert torch.equal(half.segment_map, full.segment_map)
    assert half.segments == full.segments
    assert instances(class_logits, mask_logits, frame) == instances(*as_float, frame)
