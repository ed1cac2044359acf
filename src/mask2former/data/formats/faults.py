"""What is wrong with one item of an annotation file, before it is known where the item stands."""

from pathlib import Path
from typing import NamedTuple

from mask2former.data.problems import Kind, Problems


class Fault(NamedTuple):
    """Why an item is left out."""

    kind: Kind
    message: str
    """Goes on after the name of the item, and says what to do."""
    is_error: bool


def tell_fault(fault: Fault, where: str, path: Path, image_id: str, problems: Problems) -> None:
    """Tell of a fault.

    Args:
        fault: Of an item.
        where: The file and the item, as the message begins.
        path: The file to mend.
        image_id: Of the image concerned.
        problems: Is told.
    """
    tell = problems.error if fault.is_error else problems.warn
    tell(fault.kind, f"{where} {fault.message}", file=path, image_id=image_id)
