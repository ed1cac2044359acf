import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mask2former.training.averaging import AveragedWeights


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))


def step(model: nn.Module, seed: int) -> None:
    """Something that changes weights as an optimizer does, and statistics."""
    g = torch.Generator().manual_seed(seed)
    model(torch.randn(4, 3, generator=g))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=g), alpha=0.1)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def test_averages_follow_the_rule_with_its_warm_up() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(10.0)
        averaged = AveragedWeights(model, 0.15)
        for value in (20.0, 0.0, 0.0):
            model.weight.fill_(value)
            averaged.update()
    # Decays are 1/10, then 2/11 and 3/12, both more than 0.15.
    # 0.1 * 10 + 0.9 * 20 = 19, then twice times 0.15
    (average,) = averaged.state_dict()["averages"].values()
    torch.testing.assert_close(average, torch.tensor([[19 * 0.15**2]]))


def test_averages_are_those_of_torch_once_the_warm_up_is_over() -> None:
    model = small_model()
    averaged = AveragedWeights(model, 0.9)
    # (1 + 80) / (10 + 80) = 0.9
    averaged.load_state_dict({**averaged.state_dict(), "num_updates": 80})
    peer = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    peer.update_parameters(model)  # its first update copies
    for seed in range(20):
        step(model, seed)
        averaged.update()
        peer.update_parameters(model)
    with averaged.swapped_in():
        for found, expected in zip(model.parameters(), peer.module.parameters(), strict=True):
            torch.testing.assert_close(found, expected)


def test_a_model_has_the_averages_within_the_block_only() -> None:
    model = small_model()
    averaged = AveragedWeights(model, 0.5)
    step(model, 1)
    averaged.update()
    own, places = weights(model), [p.data_ptr() for p in model.parameters()]
    averages = [average.clone() for average in averaged.state_dict()["averages"].values()]
    statistics = model[1].running_mean.clone()
    with averaged.swapped_in():
        assert all(map(torch.equal, model.parameters(), averages))
        assert not torch.equal(model[0].weight, own[0])
    assert all(map(torch.equal, model.parameters(), own))
    assert all(map(torch.equal, averaged.state_dict()["averages"].values(), averages))
    assert [p.data_ptr() for p in model.parameters()] == places
    assert torch.equal(model[1].running_mean, statistics)


def test_a_model_has_its_own_weights_after_an_error() -> None:
    model = small_model()
    averaged = AveragedWeights(model, 0.5)
    step(model, 1)
    own = weights(model)
    with pytest.raises(KeyError), averaged.swapped_in():
        raise KeyError
    assert all(map(torch.equal, model.parameters(), own))


def test_a_resumed_average_goes_on_bit_for_bit(tmp_path) -> None:
    model = small_model()
    averaged = AveragedWeights(model, 0.99)
    for seed in range(3):
        step(model, seed)
        averaged.update()
    torch.save((model.state_dict(), averaged.state_dict()), tmp_path / "state.pt")
    state, averages = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed_model = small_model()
    resumed_model.load_state_dict(state)
    resumed = AveragedWeights(resumed_model, 0.99)
    resumed.load_state_dict(averages)
    for seed in range(3, 6):
        for one, its_average in ((model, averaged), (resumed_model, resumed)):
            step(one, seed)
            its_average.update()
    first, second = averaged.state_dict(), resumed.state_dict()
    assert first["num_updates"] == second["num_updates"] == 6
    assert first["averages"].keys() == second["averages"].keys()
    assert all(map(torch.equal, first["averages"].values(), second["averages"].values()))


def test_frozen_parameters_take_no_memory() -> None:
    model = small_model()
    model[0].requires_grad_(False)
    averaged = AveragedWeights(model, 0.9)
    assert [*averaged.state_dict()["averages"]] == ["1.weight", "1.bias", "2.weight", "2.bias"]


def test_channels_last_weights_are_averaged_too() -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(3, 4, 3)
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    averages = []
    for one in (model, other):
        averaged = AveragedWeights(one, 0.9)
        with torch.no_grad():
            one.weight.mul_(2)
        averaged.update()
        averages.append(averaged.state_dict()["averages"]["weight"])
    assert torch.equal(*averages)


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_a_decay_that_never_learns_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"ema_decay = .*; it must be at least 0 and below 1"):
        AveragedWeights(small_model(), decay)


def test_averages_in_the_model_are_neither_updated_nor_saved() -> None:
    averaged = AveragedWeights(small_model(), 0.9)
    with averaged.swapped_in():
        with pytest.raises(RuntimeError, match=r"update was called within swapped_in\(\)"):
            averaged.update()
        with pytest.raises(RuntimeError, match="state_dict was called"):
            averaged.state_dict()
        with pytest.raises(RuntimeError, match="swapped_in was called"), averaged.swapped_in():
            pass


def test_a_state_of_other_parameters_is_refused() -> None:
    averaged = AveragedWeights(small_model(), 0.9)
    frozen = small_model()
    frozen[0].requires_grad_(False)
    with pytest.raises(ValueError, match=r"2 parameters have an average only.*such as 0\.bias"):
        averaged.load_state_dict(AveragedWeights(frozen, 0.9).state_dict())
