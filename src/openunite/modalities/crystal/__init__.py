"""Crystals: elements, fractional coordinates and lattice in and out, one register per atom."""

from openunite.catalog import ModalitySpec

_HERE = "openunite.modalities.crystal"
SPEC = ModalitySpec(
    name="crystal",
    modality=f"{_HERE}.tokens:CrystalModality",
    pipeline=f"{_HERE}.pipeline:CrystalPipeline",
    task="openunite.modalities.atoms.task:CrystalTask",
    recipes={name: f"openunite.modalities.atoms.recipes:{name}" for name in ("crystals", "mp20_s")},
)
