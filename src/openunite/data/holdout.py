"""Hold out items by content, refuse too many broken ones, and fingerprint the rest.

If a source has no test split, the items with the smallest sha256 of their content are held out:
the choice depends neither on names nor on the order or the machine, and identical items end up on
the same side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 5  # bad items that an error message lists


@dataclass(frozen=True)
class Skipped:
    """An item that cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Holdout:
    """Size of the test split of a source that has none: round(`share` * N), 1 to `maximum`."""

    share: float = 0.05
    maximum: int = 1000

    def __post_init__(self) -> None:
        if not 0.0 <= self.share < 1.0:
            raise ValueError(f"holdout_share must lie in [0, 1), got {self.share}")
        if self.maximum < 1:
            raise ValueError(f"holdout_max must be at least 1, got {self.maximum}")


def choose_held_out(digests: Sequence[str], holdout: Holdout) -> NDArray[np.bool_]:
    """Mark the items (N,) with the smallest digests.

    Identical items stay together: a group that no longer fits is passed over. If no group fits,
    the smallest one is held out although it exceeds the limit.
    """
    room = min(max(1, round(holdout.share * len(digests))), holdout.maximum)
    unique, group, sizes = np.unique(digests, return_inverse=True, return_counts=True)
    chosen = np.zeros(len(unique), dtype=bool)
    for rank, size in enumerate(sizes.tolist()):  # np.unique sorts by digest
        if size <= room:
            chosen[rank] = True
            room -= size
        if room == 0:
            break
    if not chosen.any():
        chosen[sizes.argmin()] = True
    return chosen[group]


def refuse_many(
    name: str,
    bad: Sequence[Skipped],
    total: int,
    max_bad_share: float,
    what: str,
    remedy: str = "",
) -> None:
    """Raise ValueError if more than a fraction `max_bad_share` of the `total` items is bad.

    `name` (the source), `what` (the items) and `remedy` (a further advice) are for the message.
    """
    check_limit(max_bad_share)
    fraction = len(bad) / max(1, total)  # quotients are compared: 0.29 * 100 is less than 29
    if fraction > max_bad_share:
        raise ValueError(
            f"{len(bad)} of {total} {what} in {name} ({fraction:.2%}) cannot be used, "
            f"more than max_bad_share = {max_bad_share:g} allows: {list_bad(bad)}; remove them, "
            f"{remedy and remedy + ', '}or set max_bad_share to "
            f"{np.ceil(fraction * 1e4) / 1e4:g} or more (`--max-bad-share`)"
        )


def list_bad(bad: Sequence[Skipped]) -> str:
    """The first of the bad items with their reasons, for messages."""
    shown = ", ".join(f"{item.name} ({item.reason})" for item in bad[:_SHOWN])
    return shown + ", ..." * (len(bad) > _SHOWN)


def check_limit(max_bad_share: float) -> None:
    """Raise ValueError if a fraction of bad items does not lie in [0, 1]."""
    if not 0.0 <= max_bad_share <= 1.0:
        raise ValueError(f"max_bad_share must lie in [0, 1], got {max_bad_share}")


def check_sides(name: str, what: str, train: int, test: int) -> None:
    """Raise ValueError if the source `name` has no item (`what`) to train on or none to test on."""
    if not train or not test:
        raise ValueError(
            f"{name} has {train} usable {what} to train on and {test} to test on, expected at "
            f"least 1 of each; add {what}, and not copies of the same one"
        )


def fingerprint(classes: Sequence[Any], digests: Sequence[str], *parts: bytes) -> str:
    """A sha256 over the classes or elements, the digests of the usable items, and other parts."""
    content = bytes.fromhex("".join(digests))
    return sha256(b"".join([repr(tuple(classes)).encode(), content, *parts])).hexdigest()


def positions(indices: "Sequence[int] | Tensor", count: int) -> NDArray[np.int64]:
    """Positions (B,) in a set of `count` items, counted from 0; IndexError for one outside."""
    given = np.asarray(indices, dtype=np.int64).reshape(-1)
    at = np.where(given < 0, given + count, given)
    if ((at < 0) | (at >= count)).any():
        raise IndexError(f"expected positions below {count}, got {given.tolist()[:8]}")
    return at
