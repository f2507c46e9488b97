"""`openunite evaluate molecules | crystals`: metrics of structures that any program wrote."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from openunite.commands import Score
from openunite.data.atoms.arrays import TEST, TRAIN, Reading
from openunite.data.atoms.checks import sound_rows
from openunite.data.atoms.lattice import reduce_cells
from openunite.data.atoms.structure import Structure
from openunite.data.crystals.readers import read_crystals
from openunite.data.molecules.dataset import edm_split, is_whole_qm9
from openunite.data.molecules.readers import read_molecules
from openunite.evaluation.crystals.report import crystal_report
from openunite.evaluation.molecules.adit import adit_smiles
from openunite.evaluation.molecules.edm_rdkit import edm_smiles
from openunite.evaluation.molecules.report import PROTOCOLS, molecule_report
from openunite.evaluation.molecules.smiles import smiles_set
from openunite.progress import say
from openunite.texts import printable

Metrics = dict[str, Any]
Structures = list[Structure]
Read = Callable[[str], Reading]
Measure = Callable[[Score, Structures, Structures, Structures | None], Metrics]

_NOTHING = Structure(np.zeros(0, dtype=np.int64), np.zeros((0, 3)))  # an unreadable sample
_NO_CRYSTAL = replace(_NOTHING, cell=np.full((3, 3), np.nan))


def score(command: Score) -> None:
    """Print the metrics of samples beside those of real structures; write JSON if requested."""
    if unknown := sorted(set(command.protocols) - set(PROTOCOLS)):
        known = ", ".join(PROTOCOLS)
        raise ValueError(f"unknown protocol {unknown[0]!r}, expected some of {known}")
    # Samples keep their cells, as when a run evaluates its own.
    readers: dict[str, tuple[Read, Read, Structure, Measure]] = {
        "molecules": (read_molecules, molecules_in_parts, _NOTHING, _molecules),
        "crystals": (read_crystals, reduced_crystals, _NO_CRYSTAL, _crystals),
    }
    read, read_real, nothing, measure = readers[command.kind]
    reading = _read(command.samples, read)
    skipped = len(reading.skipped)
    reference, lost = _real(command.reference, read_real, TEST)
    if command.pairs and skipped + lost:
        raise ValueError(
            f"--pairs compares structure i with reference i, but {skipped + lost} could not be "
            "read; take them and their partners out of both files"
        )
    train = _real(command.train, read_real, TRAIN)[0] if command.train else None
    metrics = measure(command, [*reading.structures, *[nothing] * skipped], reference, train)
    if skipped:
        say(f"not readable: {skipped} of the samples, which count as invalid")
    if lost:
        say(f"not readable: {lost} of the real structures, which are left out")
    metrics |= {"num_skipped": skipped, "num_reference_skipped": lost}
    if command.output:
        Path(command.output).write_text(json.dumps(metrics, indent=1) + "\n")
        say(f"\n-> {command.output}")


def _molecules(
    command: Score, samples: Structures, reference: Structures, train: Structures | None
) -> Metrics:
    adit = "adit" in command.protocols
    report = molecule_report(
        samples,
        reference,
        train_smiles=None if train is None else smiles_set(train, edm_smiles),
        adit_train_smiles=None if train is None or not adit else smiles_set(train, adit_smiles),
        protocols=command.protocols,
        reconstructions=samples if command.pairs else None,
    )
    say(report.table())
    return dict(report.metrics)


def _crystals(
    command: Score, samples: Structures, reference: Structures, train: Structures | None
) -> Metrics:
    pairs = samples if command.pairs else None
    report = crystal_report(samples, reference, train=train, reconstructions=pairs)
    say(report.table())
    return dict(report.metrics)


def molecules_in_parts(source: str) -> Reading:
    """Read real molecules; the full QM9 gets EDM's split, with which models are trained."""
    reading = read_molecules(source)
    if reading.split is None and is_whole_qm9(reading.structures):
        return replace(reading, split=edm_split())
    return reading


def reduced_crystals(source: str) -> Reading:
    """Read real crystals in Niggli cells, as a model sees them; failed reductions stay as read."""
    reading = read_crystals(source)
    found = reading.structures
    if not len(found):
        return reading
    return replace(reading, structures=reduce_cells(found, sound_rows(found)))


def _real(source: str, read: Read, part: int) -> tuple[list[Structure], int]:
    """Real structures (only of `part`, if the source has a split), and the number unreadable."""
    reading = _read(source, read)
    found = list(reading.structures)
    if reading.split is not None:
        found = [found[i] for i in np.flatnonzero(reading.split == part).tolist()]
    return found, len(reading.skipped)


def _read(source: str, read: Read) -> Reading:
    """Read a source and print unreadable items on stderr. Raises ValueError if nothing is left."""
    reading = read(source)
    for item in reading.skipped:
        say(printable(f"skipped {item.name}: {item.reason}"), err=True)
    if not len(reading.structures):
        raise ValueError(f"no structure in {source} could be read")
    return reading
