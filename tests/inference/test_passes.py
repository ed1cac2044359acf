"""Several passes brought together, by hand and against plain implementations."""

from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask
from torch.testing import assert_close

from mask2former.inference.passes import ImagePasses, Pass, agree, overlaps, pair, read_at
from mask2former.inference.resize import Frame

SQUARE = Frame((32, 32), (32, 32), (32, 32))


def logits_of(probs):
    """Class logits whose softmax gives these rows."""
    return torch.tensor(probs).log()


def halves(height=8, width=8):
    """Mask logits of the left and the right half."""
    left = torch.full((height, width), -6.0)
    left[:, : width // 2] = 6
    return torch.stack([left, -left])


def random_pass(frame, *, queries=7, classes=3, seed=0, flipped=False):
    generator = torch.Generator().manual_seed(seed)
    h, w = frame.padded[0] // 4, frame.padded[1] // 4
    coarse = 6 * torch.randn(1, queries, 3, 4, generator=generator)
    masks = F.interpolate(coarse, size=(h, w), mode="bilinear")[0]
    return Pass(3 * torch.randn(queries, classes + 1, generator=generator), masks, frame, flipped)


def ramps(frame, *, flipped=False):
    """Mask logits that are linear in the place in the image, which bilinear reading keeps."""
    h, w = frame.padded[0] // 4, frame.padded[1] // 4
    y = ((torch.arange(h) + 0.5) * 4 / frame.resized[0])[:, None].expand(h, w)
    x = ((torch.arange(w) + 0.5) * 4 / frame.resized[1])[None].expand(h, w)
    x = 1 - x if flipped else x
    return torch.stack([x, y, 3 * x - 2 * y])


def test_one_pass_comes_back_as_it_is() -> None:
    one = random_pass(Frame((64, 96), (50, 90), (7, 11)))
    assert agree([one]) is one
    assert ImagePasses((one,)).agreed is one


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("other", [((64, 64), (39, 61)), ((128, 192), (126, 190))])
def test_a_point_keeps_its_place_in_the_image(other, flipped) -> None:
    first, second = Frame((96, 128), (80, 121), (61, 83)), Frame(*other, (61, 83))
    read = read_at(
        Pass(torch.zeros(3, 2), ramps(second, flipped=flipped), second, flipped),
        Pass(torch.zeros(3, 2), ramps(first), first),
    )
    # Not at the border, where cells of the smaller image end before those of the larger one.
    inner = (slice(None), slice(2, 18), slice(2, 27))
    # of values up to 3, added up in single precision
    assert_close(read[inner], ramps(first)[inner], rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_reading_equals_grid_sample(seed) -> None:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(2):
        padded = (32 * int(rng.integers(1, 5)), 32 * int(rng.integers(1, 5)))
        resized = (int(rng.integers(1, padded[0] + 1)), int(rng.integers(1, padded[1] + 1)))
        frames.append(Frame(padded, resized, (9, 9)))
    first = random_pass(frames[0], seed=seed)
    other = random_pass(frames[1], seed=seed + 1, flipped=bool(rng.integers(2)))
    h, w = first.mask_logits.shape[1:]
    y = (torch.arange(h, dtype=torch.float64) + 0.5) * 4 / frames[0].resized[0]
    x = (torch.arange(w, dtype=torch.float64) + 0.5) * 4 / frames[0].resized[1]
    x = 1 - x if other.flipped else x
    y = 2 * y * frames[1].resized[0] / frames[1].padded[0] - 1
    x = 2 * x * frames[1].resized[1] / frames[1].padded[1] - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
    expected = F.grid_sample(
        other.mask_logits[None].double(), grid, padding_mode="border", align_corners=False
    )[0]
    # weights are rounded to single precision
    assert_close(read_at(other, first).double(), expected, rtol=1e-5, atol=1e-4)


def test_overlap_is_iou_where_masks_are_sure() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = (rng.random((count, 12, 17)) < 0.4 for count in (5, 6))
    encoded = [
        [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
        for masks in (ours, theirs)
    ]
    expected = coco_mask.iou(*encoded, [0] * 6)
    found = overlaps(*(torch.tensor(masks).float().flatten(1) for masks in (ours, theirs)))
    assert_close(found.double(), torch.tensor(expected), rtol=1e-6, atol=1e-7)


def test_a_mask_overlaps_itself_fully_however_unsure_and_an_empty_one_nothing() -> None:
    masks = torch.tensor([[0.3, 0.6, 0.1], [0.0, 0.0, 0.0]])
    assert_close(overlaps(masks, masks), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))


def test_pairs_are_those_of_the_highest_sum() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        size = int(rng.integers(1, 5))
        overlap, agreement = (torch.tensor(rng.random((size, size))).float() for _ in range(2))
        gain = torch.where(overlap >= 0.5, overlap * agreement, 0).tolist()
        best = max(
            permutations(range(size)),
            key=lambda ids: sum(row[j] for row, j in zip(gain, ids, strict=True)),
        )
        expected = [(i, j) for i, j in enumerate(best) if gain[i][j] > 0]
        ours, theirs = pair(overlap, agreement)
        assert list(zip(ours.tolist(), theirs.tolist(), strict=True)) == expected


def test_pairs_that_do_not_overlap_enough_do_not_push_others_away() -> None:
    overlap = torch.tensor([[0.6, 0.49], [0.49, 0.0]])
    # 0.49 + 0.49 would be more than 0.6 + 0, but neither is a pair
    ours, theirs = pair(overlap, torch.ones(2, 2))
    assert (ours.tolist(), theirs.tolist()) == ([0], [0])


def test_what_is_not_a_number_has_no_partner() -> None:
    nan = float("nan")
    overlap = torch.tensor([[nan, 0.9], [0.8, nan]])
    ours, theirs = pair(overlap, torch.tensor([[1.0, nan], [1.0, 1.0]]))
    assert (ours.tolist(), theirs.tolist()) == ([1], [0])


def test_partners_are_averaged_whatever_their_order() -> None:
    first = Pass(logits_of([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]), halves(), SQUARE)
    unsure = torch.tensor([-3.0, 2.0])[:, None, None] * halves()[0].sign()
    other = Pass(logits_of([[0.4, 0.5, 0.1], [0.6, 0.2, 0.2]]), unsure, SQUARE)
    agreed = agree([first, other])
    # query 1 of the other is the left half, as query 0 of the first
    expected = torch.tensor([[0.7, 0.15, 0.15], [0.3, 0.6, 0.1]])
    assert_close(agreed.class_logits.softmax(dim=-1), expected)
    # left half: (sigmoid(6) + sigmoid(2)) / 2 = (0.997527 + 0.880797) / 2
    probs = agreed.mask_logits.sigmoid()
    assert_close(probs[0, 0, 0], torch.tensor(0.939162), rtol=0, atol=1e-5)
    # and of the right half (sigmoid(6) + sigmoid(3)) / 2 = (0.997527 + 0.952574) / 2
    assert_close(probs[1, 0, 7], torch.tensor(0.975051), rtol=0, atol=1e-5)
    assert agreed.frame == SQUARE
    assert not agreed.flipped


def test_a_mirrored_pass_is_turned_back() -> None:
    first = Pass(logits_of([[0.8, 0.2], [0.6, 0.4]]), halves(), SQUARE)
    mirrored = Pass(logits_of([[0.7, 0.3], [0.9, 0.1]]), halves(), SQUARE, flipped=True)
    agreed = agree([first, mirrored])
    # the left half of the mirrored image is the right half
    expected = torch.tensor([[0.85, 0.15], [0.65, 0.35]])
    assert_close(agreed.class_logits.softmax(dim=-1), expected)
    assert_close(agreed.mask_logits, halves(), rtol=0, atol=1e-3)


def test_a_query_without_partners_keeps_its_own_to_the_bit() -> None:
    first = random_pass(SQUARE, queries=2)._replace(mask_logits=halves() * 1.234)
    top = torch.full((8, 8), -6.0)
    top[:4] = 6
    other = Pass(first.class_logits.flip(0), torch.stack([top, first.mask_logits[1]]), SQUARE)
    agreed = agree([first, other])
    # the top half shares a third of its union with either half
    assert torch.equal(agreed.class_logits[0], first.class_logits[0])
    assert torch.equal(agreed.mask_logits[0], first.mask_logits[0])
    assert not torch.equal(agreed.class_logits[1], first.class_logits[1])


def test_masks_are_averaged_at_the_cells_of_the_largest_pass() -> None:
    small, large = Frame((32, 64), (32, 60), (9, 9)), Frame((64, 96), (60, 90), (9, 9))
    first = Pass(logits_of([[0.8, 0.2], [0.3, 0.7]]), 9 * ramps(small)[:2] - 4, small)
    # the second query of the other is nowhere
    masks = torch.stack([9 * ramps(large, flipped=True)[0] - 4, torch.full((16, 24), -50.0)])
    other = Pass(logits_of([[0.6, 0.4], [0.3, 0.7]]), masks, large, flipped=True)
    agreed = agree([first, other])
    assert agreed.frame == large
    assert not agreed.flipped
    assert_close(agreed.class_logits[0].softmax(dim=-1), torch.tensor([0.7, 0.3]))
    assert torch.equal(agreed.class_logits[1], first.class_logits[1])
    inner = (slice(None), slice(2, 13), slice(2, 20))
    expected = (9 * ramps(large)[:2] - 4).sigmoid()
    assert_close(agreed.mask_logits.sigmoid()[inner], expected[inner], rtol=0, atol=1e-5)


def test_of_queries_with_one_mask_those_that_show_it_meet() -> None:
    same = halves()[:1].repeat(2, 1, 1)
    first = Pass(logits_of([[0.9, 0.1], [0.02, 0.98]]), same, SQUARE)
    other = Pass(logits_of([[0.04, 0.96], [0.7, 0.3]]), same, SQUARE)
    agreed = agree([first, other]).class_logits.softmax(dim=-1)
    assert_close(agreed, torch.tensor([[0.8, 0.2], [0.03, 0.97]]))


def test_padding_is_not_compared() -> None:
    frame = Frame((32, 64), (32, 32), (32, 32))
    ours, theirs = halves(8, 16), halves(8, 16)
    ours[0, :, :8] = theirs[0, :, :8] = 6
    ours[0, :, 8:], theirs[0, :, 8:] = 6, -6
    first = Pass(logits_of([[0.8, 0.2]]), ours[:1], frame)
    other = Pass(logits_of([[0.6, 0.4]]), theirs[:1], frame)
    agreed = agree([first, other]).class_logits.softmax(dim=-1)
    assert_close(agreed, torch.tensor([[0.7, 0.3]]))


@pytest.mark.parametrize("frame", [SQUARE, Frame((32, 64), (1, 64), (1, 99))], ids=str)
def test_empty_and_saturated_masks_and_classes_stay_finite(frame) -> None:
    h, w = frame.padded[0] // 4, frame.padded[1] // 4
    masks = torch.tensor([-500.0, 500.0, 0.0])[:, None, None].expand(3, h, w)
    class_logits = torch.tensor([[500.0, -500.0], [-500.0, 500.0], [0.0, 0.0]])
    one = Pass(class_logits, masks, frame)
    agreed = agree([one, one._replace(flipped=True), one])
    assert agreed.class_logits.isfinite().all()
    assert agreed.mask_logits.isfinite().all()
    assert torch.equal(agreed.mask_logits[0], masks[0])  # the empty mask had no partner
    assert_close(agreed.class_logits.softmax(dim=-1), class_logits.softmax(dim=-1))
    assert_close(agreed.mask_logits.sigmoid(), masks.sigmoid(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_answer_several_times_is_that_answer(seed) -> None:
    first = random_pass(Frame((64, 96), (50, 90), (7, 11)), seed=seed)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    again = Pass(first.class_logits[order], first.mask_logits[order], first.frame)
    agreed = agree([first, again, first])
    assert_close(
        agreed.class_logits.softmax(dim=-1),
        first.class_logits.softmax(dim=-1),
        rtol=1e-4,
        atol=1e-6,
    )
    # probabilities near 1 have seven digits
    assert_close(agreed.mask_logits.sigmoid(), first.mask_logits.sigmoid(), rtol=0, atol=1e-6)
