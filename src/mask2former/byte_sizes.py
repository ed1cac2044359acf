"""Sizes of memory as people write them."""

import re

UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip


LEAST_BARE = 2**20
"""Bytes that may be written without a unit."""


def parse_size(text: str) -> int:
    """Bytes of a size such as "6GiB", "6 GB", "6000MiB", "1.5g" or "6442450944".

    A unit with an i counts in powers of 1024, one without in powers of 1000; a letter alone, as
    other programs take it, means the former.

    Raises:
        ValueError: It is no such size, less than one byte, or so small without a unit that one was
            meant.
    """
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*", text)
    if found is not None:
        number, unit = found[1], found[2].upper()
        unit = f"{unit}IB" if unit in ("K", "M", "G", "T") else unit
        if unit in UNITS and float(number) * UNITS[unit] >= (1 if unit else LEAST_BARE):
            # whole bytes are exact, however many
            return (
                int(number) * UNITS[unit]
                if number.isdecimal()
                else int(float(number) * UNITS[unit])
            )
    raise ValueError(f"{text!r} is no size of memory; write for example 6GiB, 6000MB or 6442450944")


def format_size(number: int | float) -> str:
    """GiB with two digits, or MiB where that is less than one."""
    if abs(number) < 2**30:
        return f"{number / 2**20:.0f} MiB"
    return f"{number / 2**30:.2f} GiB"
