"""Seeds as pure functions of names and numbers, so that no random state ever has to be stored."""

import hashlib

_SEED_BITS = 63  # torch's generators refuse 2**64 and above, NumPy's refuse negative numbers
SEED_RANGE = 1 << _SEED_BITS
"""Seeds lie in [0, SEED_RANGE)."""


def derive_seed(*parts: int | str) -> int:
    """Returns a seed in [0, 2**63) that depends on the parts and on nothing else.

    The value is the same in every process, on every machine and under every Python version, which is why it
    is not `hash()`. Only int and str are allowed: the text form of other numbers (NumPy's above all) differs
    by version.
    """
    assert all(type(part) in (int, str) for part in parts), f"seeds are made of int and str, not {parts!r}"
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> (64 - _SEED_BITS)
