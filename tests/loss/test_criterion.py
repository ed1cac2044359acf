import math

import pytest
import torch
import torch.nn.functional as F

from mask2former.loss.criterion import Criterion, LossTerms, class_loss_sums, dice_loss, mask_loss
from mask2former.loss.matching import CostWeights, Match
from mask2former.loss.points import choose_points, sample_maps
from mask2former.masks.packed import pack_masks
from mask2former.types import MaskPrediction, Target


def random_prediction(b: int = 2, *, seed: int, requires_grad: bool = False) -> MaskPrediction:
    g = torch.Generator().manual_seed(seed)
    return MaskPrediction(
        *(
            torch.randn(shape, generator=g).requires_grad_(requires_grad)
            for shape in ((3, b, 5, 7), (3, b, 5, 4), (b, 4, 6, 8))
        )
    )


def random_target(num_masks: int, size: tuple[int, int], seed: int) -> Target:
    g = torch.Generator().manual_seed(seed)
    masks = torch.rand(num_masks, *size, generator=g) > 0.5
    return Target(torch.randint(6, (num_masks,), generator=g), pack_masks(masks.numpy()))


def test_dice_loss_counts_the_shared_pixel() -> None:
    # 2x2 image: the prediction fills the left column, the target the top row.
    mask_logits = torch.tensor([[50.0, -50.0, 50.0, -50.0]])
    target_masks = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    # one shared pixel of two each: 1 - (2 * 1 + 1) / (2 + 2 + 1)
    torch.testing.assert_close(dice_loss(mask_logits, target_masks), torch.tensor([0.4]))


def test_mask_loss_is_the_mean_over_points() -> None:
    # A logit of 0 costs log 2 whatever the target; a sure and right one nothing.
    losses = mask_loss(
        torch.tensor([[0.0, 0.0], [0.0, 50.0]]), torch.tensor([[0.0, 1.0], [0.3, 1.0]])
    )
    torch.testing.assert_close(losses, torch.tensor([math.log(2), math.log(2) / 2]))


def test_class_loss_is_a_weighted_mean_over_the_batch() -> None:
    # One layer, two images of two queries, two classes; all logits equal: each query costs log 3.
    logits = torch.zeros(1, 2, 2, 3)
    logits[0, 1, 0, 2] = math.log(2)  # this one says "no object" with probability 1/2
    targets = [Target(torch.tensor([1]), torch.zeros(4, 4, 1, dtype=torch.uint8))] * 2
    # The first image's query 1 and the second's query 1 are matched.
    matches = [Match(torch.tensor([[1]]), torch.tensor([[0]]))] * 2
    # Weights: 0.1, 1, 0.1, 1; costs log 3, log 3, log 2, log 3.
    expected = (2.1 * math.log(3) + 0.1 * math.log(2)) / 2.2
    sums = class_loss_sums(logits, targets, matches, no_object_weight=0.1)
    weight = Criterion(no_object_weight=0.1).class_weight_of(targets, num_queries=2)
    assert weight == pytest.approx(2.2)
    torch.testing.assert_close(sums / weight, torch.tensor([expected]))


def test_points_are_the_least_certain_candidates_then_random_ones() -> None:
    g = torch.Generator().manual_seed(0)
    mask_logits = torch.randn(3, 6, 8, generator=g)
    drawn: list[torch.Tensor] = []

    def draw(*shape: int, device: torch.device) -> torch.Tensor:
        drawn.append(torch.rand(*shape, generator=g))
        return drawn[-1]

    points = choose_points(mask_logits, 8, oversample_ratio=3.0, importance_ratio=0.75, draw=draw)
    candidates, anywhere = drawn
    assert candidates.shape == (3, 24, 2)
    assert torch.equal(points[:, 6:], anywhere)
    for row in range(3):
        grid = (2 * candidates[row] - 1)[None, None]
        certainty = F.grid_sample(mask_logits[row, None, None], grid, align_corners=False).abs()
        least = candidates[row][certainty.flatten().argsort()[:6]]
        assert {tuple(p) for p in points[row, :6].tolist()} == {tuple(p) for p in least.tolist()}


def test_losses_of_all_layers_equal_those_of_each_layer_and_image_alone() -> None:
    prediction = random_prediction(seed=1)
    targets = [random_target(3, (20, 30), seed=2), random_target(2, (24, 17), seed=3)]
    padded = (24, 32)

    def draw(*shape: int, device: torch.device) -> torch.Tensor:
        g = torch.Generator().manual_seed(shape[-2])
        return torch.rand(shape[-2:], generator=g).expand(shape)

    def criterion() -> Criterion:
        return Criterion(num_points=40, draw=draw)

    together = criterion()(prediction, targets, padded, num_masks=5)
    mask, dice = torch.zeros(3), torch.zeros(3)
    for layer in range(3):
        for image in range(2):
            alone = MaskPrediction(
                prediction.class_logits[layer, None, image, None],
                prediction.mask_embeddings[layer, None, image, None],
                prediction.mask_features[image, None],
            )
            terms = criterion()(alone, [targets[image]], padded, num_masks=5)
            mask[layer] += terms.mask[0]
            dice[layer] += terms.dice[0]
    torch.testing.assert_close(together.mask, mask)
    torch.testing.assert_close(together.dice, dice)


def test_total_weighs_terms_and_adds_layers() -> None:
    terms = LossTerms(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]), torch.tensor([5.0, 6.0]))
    total = Criterion(CostWeights(2.0, 5.0, 10.0)).total(terms)
    # 2 * 3 + 5 * 7 + 10 * 11
    assert total.item() == 151


def test_padding_is_background_of_every_mask() -> None:
    prediction = random_prediction(b=1, seed=4)
    inside = random_target(2, (18, 20), seed=5)
    padded_masks = torch.zeros(24, 32, 1, dtype=torch.uint8)
    padded_masks[:18, :20] = inside.masks
    losses = []
    for target in (inside, Target(inside.labels, padded_masks)):
        torch.manual_seed(0)
        losses.append(Criterion(num_points=50)(prediction, [target], (24, 32), num_masks=2))
    for cropped, padded in zip(*losses, strict=True):
        torch.testing.assert_close(cropped, padded)


def test_images_without_objects_train_no_object_and_no_mask() -> None:
    prediction = random_prediction(seed=6, requires_grad=True)
    empty = Target(torch.zeros(0, dtype=torch.long), torch.zeros(24, 32, 0, dtype=torch.uint8))
    criterion = Criterion(num_points=9)
    terms = criterion(prediction, [empty, empty], (24, 32), num_masks=1)
    assert torch.equal(terms.mask, torch.zeros(3))
    assert torch.equal(terms.dice, torch.zeros(3))
    expected = -prediction.class_logits.log_softmax(-1)[..., -1].flatten(1).mean(1)
    torch.testing.assert_close(terms.classification, expected)
    criterion.total(terms).backward()
    # Every part takes part in the graph, so that all ranks of a distributed run agree.
    assert all(tensor.grad is not None for tensor in prediction)
    assert not prediction.mask_features.grad.any()


def test_more_targets_than_queries_score_the_matched_ones_only() -> None:
    prediction = random_prediction(b=1, seed=7)
    target = random_target(11, (24, 32), seed=8)
    terms = Criterion(num_points=9)(prediction, [target], (24, 32), num_masks=11)
    # Five pairs of eleven targets; a dice loss is at most 1.
    assert (terms.dice <= 5 / 11).all()
    assert all(term.isfinite().all() for term in terms)


def test_half_precision_predictions_are_scored_in_float32() -> None:
    prediction = MaskPrediction(*(t.bfloat16() for t in random_prediction(b=1, seed=9)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = Criterion(num_points=9)(
            prediction, [random_target(2, (24, 32), seed=10)], (24, 32), num_masks=2
        )
    assert {term.dtype for term in terms} == {torch.float32}


@pytest.mark.parametrize("size", [(1, 1), (3, 2)])
def test_maps_are_sampled_between_pixel_centres_with_zeros_outside(size) -> None:
    maps = torch.ones(1, 1, *size)
    # A corner of the border pixel: a quarter of the pixel, the rest lies outside.
    assert sample_maps(maps, torch.zeros(1, 1, 2)).item() == 0.25
