"""The parts that touch a device, on one: run with `pytest -m gpu` where there is a GPU."""

import json
from pathlib import Path

import pytest
import torch

from mask2former.config_io import compose_run
from mask2former.data.synthetic import write_synthetic
from mask2former.inference.segmenter import Segmenter
from mask2former.loss.criterion import Criterion
from mask2former.masks.packed import pack_masks, sample_mask_rows, sample_masks
from mask2former.training.train import train
from mask2former.types import Batch, Target
from mask2former.weights.build import build_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

RUN = compose_run({"preset": "tiny", "task": "panoptic"}, lambda: ("panoptic",))


def to_gpu(targets: list[Target]) -> list[Target]:
    return [Target(*(tensor.cuda() for tensor in target)) for target in targets]


def random_batch() -> Batch:
    g = torch.Generator().manual_seed(0)
    sizes = [(96, 120), (128, 70)]
    images = [torch.randint(256, (3, *size), generator=g, dtype=torch.uint8) for size in sizes]
    targets = [
        Target(
            torch.randint(7, (5,), generator=g),
            pack_masks((torch.rand(5, *size, generator=g) > 0.5).numpy()),
        )
        for size in sizes
    ]
    return Batch(images, targets, [0, 1], [0, 1])


def test_packed_masks_are_sampled_alike() -> None:
    target = random_batch().targets[0]
    points = torch.rand(3, 50, 2)
    (on_gpu,) = to_gpu([target])
    torch.testing.assert_close(
        sample_masks(on_gpu.masks, 5, points[0].cuda(), (128, 128)).cpu(),
        sample_masks(target.masks, 5, points[0], (128, 128)),
    )
    ids = torch.tensor([4, 0, 4])
    torch.testing.assert_close(
        sample_mask_rows(on_gpu.masks, ids.cuda(), points.cuda(), (128, 128)).cpu(),
        sample_mask_rows(target.masks, ids, points, (128, 128)),
    )


def test_losses_and_gradients_equal_those_of_the_cpu() -> None:
    torch.manual_seed(0)
    model = build_model(RUN.model, 7).double().eval()
    batch = random_batch()
    images = torch.rand(2, 3, 128, 128, dtype=torch.float64)
    table = torch.rand(4096, 2, dtype=torch.float64)

    def draw(*shape: int, device: torch.device) -> torch.Tensor:
        return table[: shape[-2]].to(device).expand(shape)

    totals, gradients = [], []
    for device, targets in (("cpu", batch.targets), ("cuda", to_gpu(batch.targets))):
        model.to(device).zero_grad()
        criterion = Criterion(num_points=512, draw=draw)
        terms = criterion(model(images.to(device)), targets, (128, 128), num_masks=10)
        criterion.total(terms).backward()
        totals.append(criterion.total(terms).item())
        gradients.append(model.transformer_decoder.classifier.weight.grad.cpu().clone())
    assert totals[0] == pytest.approx(totals[1], rel=1e-9)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_run_trains_and_predicts(tmp_path: Path, precision: str) -> None:
    data = tmp_path / "data"
    write_synthetic(data, train_images=16, val_images=4, size=(128, 128), seed=0)
    run = compose_run(
        {
            "preset": "tiny",
            "data": {"path": data, "workers": 2},
            "training": {"steps": 60, "eval_every": 60, "log_every": 1, "precision": precision},
        },
        lambda: ("panoptic",),
    )
    train(run, tmp_path / "run", device="cuda", progress=False)
    lines = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    segmenter = Segmenter.load(tmp_path / "run", device="cuda")
    image = next(data.glob("images/val/*.jpg"))
    assert segmenter.predict(image).segment_map.shape == (128, 128)
