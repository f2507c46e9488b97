"""Types and RMSD, atom i against atom i."""

import numpy as np
import pytest
from tests.evaluation.molecules.examples import (
    ACETYLENE,
    CHIRAL,
    ETHYLENE,
    HYDROGEN_CYANIDE,
    METHANE,
    SOUND,
    WATER,
    molecule,
    moved,
)

from openunite.data.atoms.structure import Floats, Structure
from openunite.evaluation.pairs import kabsch_rmsd, type_accuracy
from openunite.evaluation.rates import rate


def random_rotation(rng: np.random.Generator) -> Floats:
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(rotation * np.sign(np.linalg.det(rotation)))


def test_types_per_atom_and_per_molecule() -> None:
    wrong = Structure(np.array([8, 1, 6]), WATER.positions)
    accuracy = type_accuracy([METHANE, wrong], [METHANE, WATER], "molecule")
    atoms = accuracy["atom_type_accuracy"]
    assert (atoms.value, atoms.total) == (7 / 8, 8)
    assert accuracy["molecule_type_accuracy"] == rate(1, 2)


def test_rmsd_by_hand() -> None:
    """Both ends of a stick of two atoms are 0.1 A too far out."""
    short = molecule("C C", (0, 0, 0), (1.0, 0, 0))
    long = molecule("C C", (5, 5, 5), (5, 6.2, 5))
    np.testing.assert_allclose(kabsch_rmsd([long], [short]), [0.1], atol=1e-12)


def test_rmsd_ignores_rotation_and_translation() -> None:
    """Also of linear, planar and one-atom molecules, whose best rotation is not unique."""
    rng = np.random.default_rng(0)
    references = [*SOUND.values(), CHIRAL, molecule("C", (1, 2, 3))]
    turned = [
        moved(each, each.positions @ random_rotation(rng) + rng.normal(size=3) * 10)
        for each in references
    ]
    np.testing.assert_allclose(kabsch_rmsd(turned, references), 0.0, atol=1e-12)

    noisy = [moved(each, each.positions + 0.1 * rng.normal(size=(len(each), 3))) for each in turned]
    turned_back = [moved(each, each.positions @ random_rotation(rng)) for each in noisy]
    before, after = kabsch_rmsd(noisy, references), kabsch_rmsd(turned_back, references)
    assert before[:-1].min() > 0.01
    np.testing.assert_allclose(before, after, atol=1e-12)


def test_no_random_rotation_fits_better() -> None:
    rng = np.random.default_rng(1)
    output = moved(CHIRAL, CHIRAL.positions + 0.3 * rng.normal(size=(5, 3)))
    best = kabsch_rmsd([output], [CHIRAL])[0]
    a = output.positions - output.positions.mean(0)
    b = CHIRAL.positions - CHIRAL.positions.mean(0)
    for _ in range(2000):
        tried = a @ random_rotation(rng)
        assert np.sqrt(np.square(tried - b).sum(1).mean()) >= best - 1e-12


def test_a_mirror_image_is_another_molecule_if_chiral() -> None:
    mirror = np.array([-1.0, 1.0, 1.0])
    outputs = [moved(each, each.positions * mirror) for each in (CHIRAL, ETHYLENE, ACETYLENE)]
    rmsd = kabsch_rmsd(outputs, [CHIRAL, ETHYLENE, ACETYLENE])
    assert rmsd[0] > 0.2
    np.testing.assert_allclose(rmsd[1:], 0.0, atol=1e-12)


def test_lost_coordinates_are_infinitely_far_and_spoil_no_neighbor() -> None:
    lost = moved(WATER, np.array([[0, 0, 0], [np.nan, 0, 0], [0, 1, 0]]))
    rmsd = kabsch_rmsd(
        [METHANE, lost, moved(WATER, np.full((3, 3), np.inf))], [METHANE, WATER, WATER]
    )
    np.testing.assert_allclose(rmsd, [0.0, np.inf, np.inf], atol=1e-12)


def test_sets_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="one output per reference, got 1 and 2"):
        kabsch_rmsd([WATER], [WATER, WATER])
    with pytest.raises(ValueError, match=r"pair 1 \(H C N\): expected 3 atoms.*got 5"):
        type_accuracy([WATER, METHANE], [WATER, HYDROGEN_CYANIDE], "molecule")
    empty = Structure(np.zeros(0, dtype=np.int64), np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"expected 0 atoms .* and at least one"):
        kabsch_rmsd([empty], [empty])
