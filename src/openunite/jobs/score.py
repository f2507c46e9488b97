"""`openunite evaluate molecules | crystals`: structures that any program wrote."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from openunite.commands import Score
from openunite.evaluation.crystals.report import crystal_report
from openunite.evaluation.molecules.adit import adit_smiles_set
from openunite.evaluation.molecules.edm_rdkit import edm_smiles_set
from openunite.evaluation.molecules.report import (
    PROTOCOLS,
    molecule_report,
    reconstruction_metrics,
)
from openunite.modalities.atoms.arrays import Reading
from openunite.modalities.atoms.checks import sound_rows
from openunite.modalities.atoms.lattice import reduce_cells
from openunite.modalities.atoms.structure import Structure
from openunite.modalities.crystal.readers import read_crystals
from openunite.modalities.molecule.readers import read_molecules

Metrics = dict[str, Any]


def score(command: Score) -> None:
    """Print a table, samples beside real structures; write the numbers as JSON if asked to."""
    metrics = _molecules(command) if command.kind == "molecules" else _crystals(command)
    if command.output:
        Path(command.output).write_text(json.dumps(metrics, indent=1) + "\n")
        print(f"\n-> {command.output}")


def _molecules(command: Score) -> Metrics:
    if unknown := sorted(set(command.protocols) - set(PROTOCOLS)):
        known = ", ".join(PROTOCOLS)
        raise ValueError(f"unknown protocol {unknown[0]!r}, expected some of {known}")
    samples = _read(command.samples, read_molecules)
    reference = _read(command.reference, read_molecules)
    train = _read(command.train, read_molecules) if command.train else None
    adit = "adit" in command.protocols
    report = molecule_report(
        samples,
        reference,
        train_smiles=None if train is None else edm_smiles_set(train),
        adit_train_smiles=adit_smiles_set(train) if train is not None and adit else None,
        protocols=command.protocols,
    )
    print(report.table())
    metrics: Metrics = dict(report.metrics)
    if command.pairs:
        pairs = reconstruction_metrics(samples, reference, adit=adit)
        print("\n" + "\n".join(f"{name}  {value:.6g}" for name, value in pairs.items()))
        metrics |= pairs
    return metrics


def _crystals(command: Score) -> Metrics:
    samples = _read(command.samples, read_crystals)  # as they are: as a run judges its own
    report = crystal_report(
        samples,
        _read(command.reference, reduced_crystals),
        train=_read(command.train, reduced_crystals) if command.train else None,
        reconstructions=samples if command.pairs else None,
    )
    print(report.table())
    return dict(report.metrics)


def reduced_crystals(source: str) -> Reading:
    """Real crystals in Niggli cells, as a model sees them; what cannot be reduced stays."""
    reading = read_crystals(source)
    found = reading.structures
    if not len(found):
        return reading
    return replace(reading, structures=reduce_cells(found, sound_rows(found)))


def _read(source: str, read: Callable[[str], Reading]) -> list[Structure]:
    """All structures of a source; what cannot be read is named on stderr."""
    reading = read(source)
    for item in reading.skipped:
        print(f"skipped {item.name}: {item.reason}", file=sys.stderr)
    if not len(reading.structures):
        raise ValueError(f"no structure in {source} could be read")
    return list(reading.structures)
