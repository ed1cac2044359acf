"""CRC-32C of bytes, many at a time.

A CRC is linear: the sum of what each 16-bit word contributes to its block, and of what each block
contributes to the whole. Words are looked up for all blocks at once, then neighbouring blocks are
joined until one is left.

Source:
    Castagnoli's polynomial, reflected, as in RFC 3720.
"""

from functools import cache

import numpy as np
from jaxtyping import UInt32

POLYNOMIAL = 0x82F63B78
ALL_ONES = 0xFFFFFFFF
BLOCK = 16
"""Bytes; a table for each of its words fits the second cache."""
SHORT = 64
"""Bytes, below which one after the other is faster."""


def crc32c(content: bytes) -> int:
    """The checksum, in 0..2^32 - 1."""
    if len(content) < SHORT:
        return _crc_of_few(content)
    return int(_linear_part(content)) ^ _zeros_after_ones(len(content)) ^ ALL_ONES


def _crc_of_few(content: bytes) -> int:
    table = _byte_list()
    state = ALL_ONES
    for byte in content:
        state = table[(state ^ byte) & 255] ^ (state >> 8)
    return state ^ ALL_ONES


def _linear_part(content: bytes) -> np.uint32:
    """The checksum from state 0, to which zeros in front add nothing."""
    padded = np.zeros(-(-len(content) // BLOCK) * BLOCK, np.uint8)
    padded[-len(content) :] = np.frombuffer(content, np.uint8)
    words = padded.view("<u2").reshape(-1, BLOCK // 2)
    tables = _word_tables()
    states = tables[0].take(words[:, 0])
    for position in range(1, BLOCK // 2):
        states ^= tables[position].take(words[:, position])
    power = BLOCK.bit_length() - 1
    while len(states) > 1:
        if len(states) % 2:
            states = np.concatenate((np.zeros(1, np.uint32), states))
        states = _advance(states[0::2], power) ^ states[1::2]
        power += 1
    return states[0]


def _zeros_after_ones(length: int) -> int:
    """The state that starts as all ones, after as many zero bytes."""
    state = np.array([ALL_ONES], np.uint32)
    for power in range(length.bit_length()):
        if length >> power & 1:
            state = _advance(state, power)
    return int(state[0])


def _advance(states: UInt32[np.ndarray, " n"], power: int) -> UInt32[np.ndarray, " n"]:
    """States after 2^power zero bytes."""
    return _look_up(_zero_tables(power), states)


def _look_up(
    tables: UInt32[np.ndarray, "4 256"], states: UInt32[np.ndarray, "*n"]
) -> UInt32[np.ndarray, "*n"]:
    """A linear map, given by what it makes of each byte of a state."""
    first, second, third, fourth = tables
    return (
        first[states & 255]
        ^ second[states >> 8 & 255]
        ^ third[states >> 16 & 255]
        ^ fourth[states >> 24]
    )


@cache
def _zero_tables(power: int) -> UInt32[np.ndarray, "4 256"]:
    if power:
        half = _zero_tables(power - 1)
        return _look_up(half, half)
    positions = np.arange(0, 32, 8, dtype=np.uint32)[:, None]
    states = np.arange(256, dtype=np.uint32) << positions
    return _byte_table()[states & 255] ^ (states >> 8)


@cache
def _word_tables() -> UInt32[np.ndarray, "words 65536"]:
    """What a word adds to the state after its block, by its place in the block."""
    words = np.arange(1 << 16, dtype=np.uint32)
    byte_table = _byte_table()
    state = byte_table[words & 255]
    state = byte_table[(state ^ words >> 8) & 255] ^ state >> 8
    tables = [state]
    for _ in range(BLOCK // 2 - 1):
        tables.append(_advance(tables[-1], power=1))
    return np.stack(tables[::-1])


@cache
def _byte_table() -> UInt32[np.ndarray, " 256"]:
    state = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        state = np.where(state & 1, state >> 1 ^ np.uint32(POLYNOMIAL), state >> 1)
    return state.astype(np.uint32)


@cache
def _byte_list() -> list[int]:
    return _byte_table().tolist()
