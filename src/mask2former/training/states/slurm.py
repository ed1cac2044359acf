"""A job of SLURM that goes back into its queue."""

import logging
import os
import subprocess
from collections.abc import Mapping

logger = logging.getLogger(__name__)
TIME_TO_ANSWER = 60.0
"""Seconds for the scheduler."""


def requeue_job(environment: Mapping[str, str] = os.environ) -> bool:
    """Ask SLURM to run this job again from its beginning; one of its processes calls it.

    Args:
        environment: Variables by name.

    Returns:
        Whether SLURM agreed. A warning says why not; that there is no job is no reason for one.

    Source:
        The manual of scontrol ("requeue"): SLURM_JOB_ID is that of one element of an array.
    """
    job = environment.get("SLURM_JOB_ID")
    if not job:
        return False
    try:
        answer = subprocess.run(
            ["scontrol", "requeue", job],
            capture_output=True,
            text=True,
            timeout=TIME_TO_ANSWER,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _tell(job, str(error))
    if answer.returncode:
        return _tell(job, answer.stderr.strip() or f"exit code {answer.returncode}")
    logger.info("job %s is queued again", job)
    return True


def was_requeued(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether SLURM has run this job before, so that the same command is to resume.

    Args:
        environment: Variables by name.
    """
    return environment.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def _tell(job: str, reason: str) -> bool:
    logger.warning(
        "job %s cannot be queued again (%s); the state is saved: submit it once more with --resume",
        job, reason,
    )  # fmt: skip
    return False
