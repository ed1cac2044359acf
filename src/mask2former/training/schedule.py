"""How the learning rate changes over a run."""

from mask2former.config_training import Schedule


def learning_rate_factor(schedule: Schedule, step: int, num_steps: int) -> float:
    """What every group's learning rate is multiplied by.

    Args:
        schedule: Its kind and constants.
        step: Steps done, from 0.
        num_steps: Of the whole run.

    Source:
        Mask2Former's release. poly: (1 - t / T)^0.9, which ends at 0. step: x 0.1 from each
        milestone on. Warm-up multiplies either by (t + 1) / steps, and is off as published.
    """
    if schedule.kind == "poly":
        factor = max(0.0, 1 - step / num_steps) ** schedule.power
    else:
        passed = sum(step >= round(milestone * num_steps) for milestone in schedule.milestones)
        factor = 0.1**passed
    if step < schedule.warmup_steps:
        factor *= (step + 1) / schedule.warmup_steps
    return factor
