"""The metrics of molecules: their names and formats in `metrics.json`, cards and reports."""

from collections.abc import Iterator

from openunite.evaluation.measured import Columns, Flat, Metric, Vocabulary, flatten

_RATE, _LENGTH = "{:.1%}", "{:.3f} \u00c5"
_SCORES = (
    ("validity", "valid", "Fraction of molecules that RDKit accepts"),
    ("uniqueness", "unique among valid", "Fraction of valid molecules that are different"),
    ("valid_and_unique", "valid and unique", "Fraction of different valid molecules among all"),
    ("novelty", "novel among unique", "Fraction of unique molecules that training data lack"),
)


def _scores(prefix: str, protocol: str) -> Iterator[Metric]:
    for name, label, words in _SCORES:
        yield Metric(f"{prefix}{name}", f"{label}{protocol}", "higher", words, _RATE)


METRICS: tuple[Metric, ...] = (
    Metric("atom_type_accuracy", "atoms with the right element", "higher", form=_RATE),
    Metric("molecule_type_accuracy", "molecules with all elements right", "higher", form=_RATE),
    Metric(
        "identity_rmsd",
        "RMSD (angstrom)",
        "lower",
        "Distance of atoms from their originals after the best rotation",
        _LENGTH,
    ),
    Metric("atom_stability", "stable atoms", "higher", "EDM's rule of allowed bonds", _RATE),
    Metric("molecule_stability", "stable molecules", "higher", "All atoms are stable", _RATE),
    Metric("hydrogen_stability", "stable hydrogens", "higher", form=_RATE),
    Metric("heavy_atom_stability", "stable heavy atoms", "higher", form=_RATE),
    Metric("connected", "molecules in one piece", "higher", "EDM's bonds join all atoms", _RATE),
    *_scores("", ""),
    *_scores("adit_", " (ADiT)"),
    *_scores("adit_no_h_", " (ADiT, no hydrogens)"),
    Metric("adit_match_rate", "matches (ADiT)", "higher", form=_RATE),
    Metric(
        "adit_rmsd",
        "RMSD (angstrom, ADiT)",
        "lower",
        "Distance of matched atoms from their originals",
        _LENGTH,
    ),
    Metric("posebusters", "pass PoseBusters", "higher", "All of its checks of geometry", _RATE),
    Metric("unknown_atoms", "atoms without a rule of bonds", "lower", "EDM knows H, C, N, O, F"),
)
_PREFIXES = {
    "samples": "sample_",
    "real": "real_",
    "reconstructions": "recon_",
    "no formula": "free_",
}
_PLAIN = ("atom_type_accuracy", "molecule_type_accuracy", "identity_rmsd")


def flat_metrics(columns: Columns) -> Flat:
    """Values as in metrics.json: `sample_NAME`, `real_NAME`, `recon_NAME` and `free_NAME`."""
    return flatten(columns, _PREFIXES, _PLAIN)


MOLECULES = Vocabulary(METRICS, flat_metrics)
