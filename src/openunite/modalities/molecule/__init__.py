"""Molecules: elements and positions in and out, one register per atom."""

from openunite.catalog import ModalitySpec

_HERE = "openunite.modalities.molecule"
SPEC = ModalitySpec(
    name="molecule",
    modality=f"{_HERE}.tokens:MoleculeModality",
    pipeline=f"{_HERE}.pipeline:MoleculePipeline",
    task="openunite.modalities.atoms.task:MoleculeTask",
    recipes={
        name: f"openunite.modalities.atoms.recipes:{name}" for name in ("qm9", "molecules", "qm9_s")
    },
)
