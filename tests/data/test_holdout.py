"""Holding data out by content, and refusing sources that are mostly broken."""

import pytest

from openunite.data.holdout import Holdout, Skipped, choose_held_out, refuse_many


def test_the_smallest_digests_are_held_out():
    assert choose_held_out(["c", "a", "b", "d"], Holdout(0.5, 1000)).tolist() == [
        False,
        True,
        True,
        False,
    ]
    assert choose_held_out(["c", "a", "b", "d"], Holdout(0.5, 1)).tolist() == [
        False,
        True,
        False,
        False,
    ]
    assert choose_held_out(["b", "a"], Holdout(0.0, 1000)).tolist() == [False, True]
    assert choose_held_out(["a", "a", "b"], Holdout(0.0, 9)).tolist() == [False, False, True]
    assert choose_held_out(["a", "a", "a", "b", "b"], Holdout(0.0, 9)).tolist() == [0, 0, 0, 1, 1]
    assert choose_held_out([f"{i:05}" for i in range(50_000)], Holdout(0.05, 1000)).sum() == 1000


def test_options_that_hold_nothing_out_are_refused():
    for share in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="holdout_share must lie in"):
            Holdout(share)
    with pytest.raises(ValueError, match="holdout_max must be at least 1, got 0"):
        Holdout(maximum=0)


def test_too_many_bad_items_are_refused_with_the_share_that_would_admit_them():
    bad = [Skipped(f"{i}.cif", "is empty") for i in range(6)]
    refuse_many("set", bad, 12, 0.5, "crystals")
    with pytest.raises(ValueError, match=r"6 of 12 crystals in set \(50\.00%\).*0\.cif \("):
        refuse_many("set", bad, 12, 0.499, "crystals")
    with pytest.raises(ValueError, match=r"4\.cif .*, \.\.\.; remove them, buy, or set .* 0\.5 or"):
        refuse_many("set", bad, 12, 0.4, "crystals", "buy")
    with pytest.raises(ValueError, match="max_bad_share must lie in"):
        refuse_many("set", [], 12, 1.5, "crystals")
