import pytest

from mask2former.config_training import Schedule
from mask2former.training.schedule import learning_rate_factor


def test_poly_falls_to_zero() -> None:
    schedule = Schedule(kind="poly")
    factors = [learning_rate_factor(schedule, step, 100) for step in (0, 50, 100)]
    assert factors == pytest.approx([1, 0.5**0.9, 0])


def test_steps_fall_at_the_published_iterations() -> None:
    schedule = Schedule(kind="step", milestones=(327_778 / 368_750, 355_092 / 368_750))
    steps = (0, 327_777, 327_778, 355_091, 355_092, 368_749)
    factors = [learning_rate_factor(schedule, step, 368_750) for step in steps]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_warmup_rises_linearly_and_is_off_as_published() -> None:
    assert learning_rate_factor(Schedule(kind="step", milestones=(0.9,)), 0, 10) == 1
    schedule = Schedule(kind="step", milestones=(0.9,), warmup_steps=4)
    factors = [learning_rate_factor(schedule, step, 10) for step in range(5)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1])
