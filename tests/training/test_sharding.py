"""Two processes share models; what they find is compared with one process that has the whole."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.utils import clip_grad_norm_
from torch.testing import assert_close

from mask2former import config
from mask2former.config_training import Training
from mask2former.distributed import is_main, joined, rank
from mask2former.launch import end_with_launcher, run_processes
from mask2former.model.mask2former import Mask2Former
from mask2former.model.swin import SwinTransformer
from mask2former.training.averaging import AveragedWeights
from mask2former.training.data_parallel import shard_state
from mask2former.training.freezing import freeze_stages
from mask2former.training.recomputing import recompute_activations, residual_blocks
from mask2former.training.sharding import (
    check_shardable,
    clip_gradients,
    gather_whole,
    own_share,
    shard,
    sharded_blocks,
    whole_model,
)
from mask2former.weights.build import build_model

NUM_CLASSES = 4
# positions and tokens of ViTs have one row, which two processes cannot share out
CASES = ("resnet10t", "small_swin", "vit_tiny_patch16_224", "tied", "recomputed")
MAX_NORM = 0.01
# the first test waits for all that two processes find
pytestmark = pytest.mark.timeout(300)


def sizes(name: str) -> config.Model:
    backbone = {"name": name, "pretrained": False, "norm": "frozen", "freeze": 0}
    return config.Model(
        backbone=config.Backbone(**backbone),
        num_queries=5,
        hidden_dim=64,
        num_heads=4,
        encoder_layers=1,
        encoder_feedforward_dim=16,
        decoder_layers=2,
        decoder_feedforward_dim=16,
    )


def make_model(case: str) -> Mask2Former:
    torch.manual_seed(0)
    if case == "small_swin":
        return small_swin().train()
    name = "resnet10t" if case in ("tied", "recomputed") else case
    model = build_model(sizes(name), NUM_CLASSES)
    first, second = model.transformer_decoder.layers
    if case == "tied":
        second.self_attention.query.weight = first.self_attention.query.weight
    if case == "recomputed":
        recompute_activations(model)
    if case == "resnet10t":
        freeze_stages(model.backbone, 2)
    return model.train()


def small_swin() -> Mask2Former:
    backbone = SwinTransformer(
        16, depths=(1, 2, 2, 1), num_heads=(1, 2, 2, 4), window=4, drop_path=0.0
    )
    few = {"num_queries": 5, "hidden_dim": 64, "num_heads": 4, "encoder_layers": 1}
    return Mask2Former(backbone, NUM_CLASSES, decoder_layers=2, **few)


def images_of(process: int) -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(process))


def loss_of(model: Mask2Former, images: Tensor) -> Tensor:
    prediction = model(images)
    return prediction.class_logits.square().mean() + prediction.mask_logits().square().mean()


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    # what is not divided is given as it is, and would change
    return {name: tensor.clone() for name, tensor in gather_whole(model.state_dict()).items()}


def share_model(case: str) -> dict[str, object]:
    """What two processes find that share a model."""
    model = make_model(case)
    num_blocks = len(sharded_blocks(model))
    shard(model, "cpu")
    start = whole_state(model)
    loss_of(model, images_of(rank())).backward()
    gradients = gather_whole(gradients_of(model))
    norm = clip_gradients(model.parameters(), MAX_NORM)
    clipped = gather_whole(gradients_of(model))
    averaged = AveragedWeights(model, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.step()
    averaged.update()
    kept = sum(own_share(p.detach()).numel() for p in model.parameters())
    shared = {
        "num_blocks": num_blocks, "names": [*model.state_dict()], "kept": kept, "start": start,
        "gradients": gradients, "norm": norm, "clipped": clipped, "end": whole_state(model),
        "averages": averaged.state_dict(),
    }  # fmt: skip
    with averaged.swapped_in():
        shared["swapped"] = whole_state(model)
    again = AveragedWeights(model, 0.5)
    again.load_state_dict(some_averages(model))
    shared["loaded"] = again.state_dict()
    return shared


def some_averages(model: nn.Module) -> dict[str, object]:
    generator = torch.Generator().manual_seed(7)
    learning = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
    averages = {name: torch.rand(shape, generator=generator) for name, shape in learning.items()}
    return {"num_updates": 3, "averages": averages}


def reference(case: str) -> tuple[Mask2Former, Tensor, dict[str, Tensor]]:
    """One process: the mean over the images of both, clipped; the norm and gradients before."""
    model = make_model(case)
    for process in (0, 1):
        (loss_of(model, images_of(process)) / 2).backward()
    gradients = {name: gradient.clone() for name, gradient in gradients_of(model).items()}
    norm = clip_grad_norm_(model.parameters(), MAX_NORM)
    return model, norm, gradients


def stepped_adam() -> torch.optim.AdamW:
    model, _, _ = reference("vit_tiny_patch16_224")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    optimizer.step()
    return optimizer


def score_unequally() -> list[Tensor]:
    """Rank 0 predicts three times and rank 1 never, between two steps of both."""
    model = make_model("resnet10t")
    shard(model, "cpu")
    loss_of(model, images_of(0)).backward()
    whole = whole_model(model, sizes("resnet10t"), NUM_CLASSES).eval()
    with torch.no_grad():
        found = [whole(images_of(n)).class_logits for n in range(3)] if is_main() else []
    loss_of(model, images_of(0)).backward()
    return found


def overflow_on_rank_1() -> dict[str, object]:
    """A gradient of half precision is infinite in the share of one process."""
    model = make_model("resnet10t")
    shard(model, "cpu")
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(loss_of(model, images_of(0))).backward()
    start = whole_state(model)
    if not is_main():
        gradient = model.transformer_decoder.classifier.weight.grad
        assert gradient is not None
        own_share(gradient)[0, 0] = torch.inf
    scaler.step(optimizer)
    scaler.update()
    return {"start": start, "end": whole_state(model), "scale": scaler.get_scale()}


def hand_over_optimizer() -> dict[str, object]:
    """The whole state of one process's optimizer, taken over and given back by two."""
    model = make_model("vit_tiny_patch16_224")
    optimizer = stepped_adam()
    shard(model, "cpu")
    sharded = torch.optim.AdamW(model.parameters(), lr=1e-3)
    sharded.load_state_dict(shard_state(sharded, optimizer.state_dict()))
    state = sharded.state_dict()["state"]
    kept = sum(own_share(values["exp_avg"]).numel() for values in state.values())
    return {"state": {n: gather_whole(values) for n, values in state.items()}, "kept": kept}


def run_rank(folder: Path) -> None:
    found: dict[str, object] = {case: share_model(case) for case in CASES}
    found["unequally"] = score_unequally()
    found["overflow"] = overflow_on_rank_1()
    found["optimizer"] = hand_over_optimizer()
    torch.save(found, folder / f"rank{rank()}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    assert run_processes(2, [str(folder)], [__file__]) == 0
    return [torch.load(folder / f"rank{n}.pt") for n in (0, 1)]


@pytest.mark.runs
@pytest.mark.parametrize("case", CASES)
def test_gradients_and_their_norm_are_those_of_one_process(ranks: list[dict], case: str) -> None:
    model, norm, gradients = reference(case)
    assert ranks[0][case]["gradients"].keys() == gradients.keys()
    # rounding of float32 through a random network
    assert_close(ranks[0][case]["gradients"], gradients, rtol=1e-3, atol=1e-6)
    assert_close(ranks[0][case]["norm"], norm, rtol=1e-5, atol=0)
    assert torch.equal(ranks[0][case]["norm"], ranks[1][case]["norm"])
    assert_close(ranks[0][case]["clipped"], gradients_of(model), rtol=1e-3, atol=1e-6)


@pytest.mark.runs
@pytest.mark.parametrize("case", CASES)
def test_names_stay_and_each_process_keeps_half(ranks: list[dict], case: str) -> None:
    model = make_model(case)
    whole = model.state_dict()
    assert ranks[0][case]["names"] == [*whole]
    assert_close(ranks[0][case]["start"], dict(whole), rtol=0, atol=0)
    kept = [found[case]["kept"] for found in ranks]
    assert sum(kept) == sum(p.numel() for p in model.parameters())
    # whatever has one row, or an odd number of them, is in the first one's share
    assert kept[1] > 0.45 * sum(kept)


@pytest.mark.runs
@pytest.mark.parametrize("case", CASES)
def test_averages_are_those_of_one_process(ranks: list[dict], case: str) -> None:
    model, _, _ = reference(case)
    averaged = AveragedWeights(model, 0.5)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    averaged.update()
    found = ranks[0][case]
    assert_close(found["averages"], averaged.state_dict(), rtol=1e-4, atol=1e-6)
    with averaged.swapped_in():
        assert_close(found["swapped"], dict(model.state_dict()), rtol=1e-4, atol=1e-6)
    assert_close(found["end"], dict(model.state_dict()), rtol=1e-4, atol=1e-6)
    assert_close(found["loaded"], some_averages(model), rtol=0, atol=0)


@pytest.mark.runs
def test_processes_may_predict_as_often_as_they_like(ranks: list[dict]) -> None:
    model = make_model("resnet10t").eval()
    with torch.no_grad():
        expected = [model(images_of(number)).class_logits for number in range(3)]
    assert_close(ranks[0]["unequally"], expected, rtol=0, atol=0)


@pytest.mark.runs
def test_an_overflow_in_one_share_skips_the_step_of_all(ranks: list[dict]) -> None:
    overflow = ranks[0]["overflow"]
    assert_close(overflow["end"], overflow["start"], rtol=0, atol=0)
    assert [found["overflow"]["scale"] for found in ranks] == [4.0, 4.0]


@pytest.mark.runs
def test_the_state_of_an_optimizer_is_shared_out_and_put_together(ranks: list[dict]) -> None:
    optimizer = stepped_adam()
    state = optimizer.state_dict()["state"]
    assert_close(ranks[0]["optimizer"]["state"], state, rtol=0, atol=0)
    size = sum(values["exp_avg"].numel() for values in state.values())
    assert sum(found["optimizer"]["kept"] for found in ranks) == size


def test_blocks_that_share_a_parameter_go_with_the_model() -> None:
    tied = make_model("tied")
    first, second = tied.transformer_decoder.layers
    assert [b for b in residual_blocks(tied) if b not in sharded_blocks(tied)] == [first, second]
    model = make_model("resnet10t")
    # frozen blocks, which nothing is computed again for, take memory too
    assert sharded_blocks(model) == residual_blocks(model)


def test_gradients_of_one_process_are_clipped_as_torch_does() -> None:
    model = nn.Linear(3, 2)
    model(torch.rand(4, 3)).square().sum().backward()
    other = copy.deepcopy(model)
    for own, others in zip(model.parameters(), other.parameters(), strict=True):
        assert own.grad is not None
        others.grad = own.grad.clone()
    assert torch.equal(
        clip_gradients(model.parameters(), 0.1), clip_grad_norm_(other.parameters(), 0.1)
    )
    assert_close(gradients_of(model), gradients_of(other), rtol=0, atol=0)


def test_a_model_that_is_whole_is_scored_itself() -> None:
    model = make_model("resnet10t")
    assert not isinstance(model, FSDPModule)
    assert whole_model(model, sizes("resnet10t"), NUM_CLASSES) is model


@pytest.mark.parametrize("option", ["compile", "channels_last"])
def test_what_does_not_go_together_is_refused(option: str) -> None:
    training = Training(steps=1, strategy="fsdp", **{option: True})
    message = rf"training.strategy is fsdp and training.{option} is true, .*leave training.{option}"
    with pytest.raises(ValueError, match=message):
        check_shardable(training)
    check_shardable(Training(steps=1, strategy="fsdp", checkpoint_activations=True))


def test_a_parameter_that_is_a_single_number_is_refused() -> None:
    model = make_model("resnet10t")
    model.backbone.register_parameter("gain", nn.Parameter(torch.tensor(1.0)))
    with pytest.raises(ValueError, match=r"backbone.gain is a single number, .*strategy=ddp or an"):
        shard(model, "cpu")


if __name__ == "__main__":
    end_with_launcher()
    with joined():
        run_rank(Path(sys.argv[1]))
