"""Molecules and crystals from the command line: train, sample, reconstruct, encode."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.verbs.asking import settings

from openunite.cli import main
from openunite.data.atoms.cif import cif_text, write_cif
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.xyz import write_xyz
from openunite.data.crystals.dataset import open_crystals
from openunite.data.molecules.dataset import open_molecules
from openunite.data.molecules.readers import read_molecules
from openunite.evaluation.card import load_card
from openunite.evaluation.measured import vocabulary
from openunite.modalities.atoms import task as atom_jobs
from openunite.modalities.atoms.columns import formula
from openunite.runs import Run
from openunite.task import get_task
from openunite.training.config import save_config
from openunite.verbs import score as score_jobs

pytest.importorskip("rdkit")

TINY = ["--steps", "12", "--batch-size", "8", "--set", "objective.flow_draws=1", "preview_every=0"]


def molecules() -> list[Structure]:
    """Bent three-atom molecules of many sizes of angle, and one that no model can take."""
    angles = np.linspace(1.2, 2.6, 60)
    arms = [np.array([[0, 0, 0], [1, 0, 0], [np.cos(a), np.sin(a), 0]]) for a in angles]
    waters = [Structure(np.array([8, 1, 1]), 0.97 * arm) for arm in arms]
    hydrogen = [
        Structure(np.array([1, 1]), np.array([[0, 0, 0], [0.74 + d, 0, 0]])) for d in (0, 0.1)
    ]
    return waters + hydrogen


def crystals() -> list[Structure]:
    """Rock salt of several lattice constants, two atoms to the cell."""
    cell = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    pair = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]])
    return [
        Structure(np.array([11, 17]), pair @ (a * cell), a * cell) for a in np.linspace(5, 6.5, 40)
    ]


@pytest.fixture(scope="module")
def molecule_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("molecules")
    write_xyz(home / "all.xyz", molecules())
    train(["molecules", "--data", str(home / "all.xyz"), "--output", str(home / "run")])
    return home / "run"


def train(arguments: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atom_jobs, "NUM_SAMPLES", 30)
        main(["train", *arguments, *TINY])


def test_a_molecule_run_leaves_everything(molecule_run: Path) -> None:
    metrics = json.loads((molecule_run / "metrics.json").read_text())
    assert {
        "atom_type_accuracy", "identity_rmsd", "recon_molecule_stability",
        "real_molecule_stability", "sample_atom_stability", "sample_molecule_stability",
        "sample_validity", "sample_uniqueness", "sample_novelty", "real_atom_stability",
        "real_validity", "num_samples", "train_seconds", "parameters", "seed",
    } <= metrics.keys()  # fmt: skip
    assert metrics["num_samples"] == 30
    assert metrics["real_atom_stability"] == 1.0
    card = load_card(molecule_run / "card.json")
    assert (card.kind, card.samples.count, card.reference.split) == ("molecules", 30, "test")
    assert list(card.metrics) == ["samples", "real", "reconstructions"]
    assert vocabulary("molecules").flat(card.metrics).items() <= metrics.items()
    names = ["samples.png", "samples_2d.png", "reconstructions.png", "curves.png", "samples.xyz"]
    names += ["report.txt", "config.yaml", "pipeline/model_index.json"]
    assert all((molecule_run / name).is_file() for name in names)
    report = (molecule_run / "report.txt").read_text()
    assert "30 samples" in report
    assert "reconstructions" in report


def test_a_run_with_formulas_draws_them_and_shows_samples_without_one(tmp_path: Path) -> None:
    write_xyz(tmp_path / "all.xyz", molecules())
    formula_drawn = {"formula": {"kind": "composition", "drawn": True}}
    data = str(tmp_path / "all.xyz")
    config = replace(settings("molecules", data), conditions=formula_drawn)
    save_config(config, tmp_path / "config.yaml")
    train(["--config", str(tmp_path / "config.yaml"), "--output", str(tmp_path / "run")])
    run = Run(tmp_path / "run")
    samples = read_molecules(tmp_path / "run" / "samples.xyz").structures
    assert {formula(sample) for sample in samples} <= {"H2O", "H2"}
    assert run.record["formula_histogram"].keys() == {"H2O", "H2"}
    assert run.metrics["free_atom_stability_of"] > 0
    assert "no formula" in (tmp_path / "run" / "report.txt").read_text()
    assert load_card(tmp_path / "run" / "card.json").samples.labels == "formula"


def test_sizes_and_elements_come_from_the_data(molecule_run: Path) -> None:
    config = json.loads((molecule_run / "pipeline/encoder/config.json").read_text())
    assert config["modality_config"] == {"elements": [1, 8], "max_atoms": 3}
    assert config["num_registers"] == 3


def test_samples_are_written_for_other_programs(molecule_run: Path, tmp_path: Path) -> None:
    for suffix in ("xyz", "sdf", "png"):
        output = tmp_path / f"out.{suffix}"
        main(["sample", str(molecule_run), "--num-images", "5", "--output", str(output)])
        assert output.stat().st_size > 100
    assert len(read_molecules(tmp_path / "out.xyz").structures) == 5
    fixed = ["--num-atoms", "2", "--num-images", "3", "--output", str(tmp_path / "two.xyz")]
    main(["sample", str(molecule_run), *fixed])
    assert all(len(item) == 2 for item in read_molecules(tmp_path / "two.xyz").structures)


def test_reconstruct_and_encode(
    molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = Structure(np.array([10, 10]), np.array([[0.0, 0, 0], [3, 0, 0]]), name="neon")
    write_xyz(tmp_path / "some.xyz", [*molecules()[:4], odd])
    main(
        [
            "reconstruct",
            str(molecule_run),
            str(tmp_path / "some.xyz"),
            "--output",
            str(tmp_path / "p.png"),
        ]
    )
    printed = capsys.readouterr()
    assert "4 molecules" in printed.out
    assert "RMSD" in printed.out
    assert "contains Ne" in printed.err
    main(
        [
            "encode",
            str(molecule_run),
            str(tmp_path / "some.xyz"),
            "--output",
            str(tmp_path / "z.npz"),
        ]
    )
    found = np.load(tmp_path / "z.npz")
    assert found["latents"].shape == (12, 24)
    assert found["num_atoms"].tolist() == [3, 3, 3, 3]


def test_reconstructions_are_written_for_other_programs(
    molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_xyz(tmp_path / "some.xyz", molecules()[:4])
    arguments = ["reconstruct", str(molecule_run), str(tmp_path / "some.xyz"), "--output"]
    for suffix in ("xyz", "sdf"):
        main([*arguments, str(tmp_path / f"out.{suffix}")])
        assert [len(item) for item in read_molecules(tmp_path / f"out.{suffix}").structures] == (
            [3, 3, 3, 3]
        )
    assert "some.xyz, record 4" in (tmp_path / "out.sdf").read_text()
    with pytest.raises(SystemExit):
        main([*arguments, str(tmp_path / "out.cif")])
    assert "no cell to write into a .cif" in capsys.readouterr().err


def test_missing_packages_are_named_before_the_work(
    molecule_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_xyz(tmp_path / "m.xyz", molecules())
    write_cif(tmp_path / "c.cif", crystals())
    for module in ("rdkit.Chem", "smact"):
        monkeypatch.setitem(sys.modules, module, None)
    refused = [
        (["train", "molecules", "--data", str(tmp_path / "m.xyz")], "rdkit", "molecules"),
        (["train", "crystals", "--data", str(tmp_path / "c.cif")], "smact", "crystals"),
        (["sample", str(molecule_run)], "rdkit", "molecules"),
    ]
    for arguments, package, extra in refused:
        output = tmp_path / ("new.sdf" if arguments[0] == "sample" else "run")
        with pytest.raises(SystemExit):
            main([*arguments, "--output", str(output)])
        assert f"needs {package}: pip install 'openunite[{extra}]'" in capsys.readouterr().err
        assert not output.exists()


def test_files_are_scored_beside_real_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_xyz(tmp_path / "real.xyz", molecules()[:40])
    write_xyz(tmp_path / "new.xyz", molecules()[20:30])
    arguments = ["evaluate", "molecules", str(tmp_path / "new.xyz"), "--reference"]
    arguments += [str(tmp_path / "real.xyz"), "--train", str(tmp_path / "real.xyz")]
    main([*arguments, "--output", str(tmp_path / "scores.json")])
    assert "10 samples" in capsys.readouterr().out
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["sample_atom_stability"] == scores["real_atom_stability"] == 1.0
    assert scores["sample_novelty"] == 0.0
    with pytest.raises(SystemExit):
        main([*arguments, "--protocols", "emd"])
    assert "unknown protocol 'emd'" in capsys.readouterr().err


def test_what_cannot_be_read_counts_as_invalid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_xyz(tmp_path / "real.xyz", molecules()[:10])
    write_xyz(tmp_path / "new.xyz", molecules()[:3])
    with (tmp_path / "new.xyz").open("a") as file:
        file.write("2\n\nH 0 0 zero\nH 0 0 1\n")
    arguments = ["evaluate", "molecules", str(tmp_path / "new.xyz"), "--reference"]
    arguments += [str(tmp_path / "real.xyz"), "--output", str(tmp_path / "s.json")]
    main(arguments)
    assert "not readable: 1 of the samples, which count as invalid" in capsys.readouterr().out
    scores = json.loads((tmp_path / "s.json").read_text())
    assert (scores["num_skipped"], scores["num_reference_skipped"]) == (1, 0)
    assert scores["num_samples"] == 4
    assert scores["sample_validity"] == scores["sample_molecule_stability"] == 3 / 4
    assert scores["sample_uniqueness_of"] == 3
    with pytest.raises(SystemExit):
        main([*arguments, "--pairs"])
    assert "1 could not be read; take them and their partners" in capsys.readouterr().err


def test_crystals_that_cannot_be_read_count_as_invalid(tmp_path: Path) -> None:
    pytest.importorskip("smact")
    write_cif(tmp_path / "real.cif", crystals()[:6])
    text = "".join(cif_text(item, f"{i}") for i, item in enumerate(crystals()[:4]))
    (tmp_path / "new.cif").write_text(text.replace("Na Na0", "Xx Na0", 1))
    arguments = ["evaluate", "crystals", str(tmp_path / "new.cif"), "--reference"]
    main([*arguments, str(tmp_path / "real.cif"), "--output", str(tmp_path / "s.json")])
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["num_skipped"] == 1
    assert scores["sample_faults_unconstructible"] == 1
    for name in ("structural_validity", "compositional_validity", "validity"):
        assert scores[f"sample_{name}"] == 3 / 4
    assert scores["sample_validity_adit"] == 3 / 4


def test_qm9_is_its_held_out_part_or_its_training_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten molecules stand in for QM9: six to train on, one to validate, three to test."""
    monkeypatch.setattr(score_jobs, "is_whole_qm9", lambda structures: len(structures) == 10)
    monkeypatch.setattr(score_jobs, "edm_split", lambda: np.array([0, 0, 2, 0, 1, 0, 2, 0, 2, 0]))
    water, hydrogen, methane = (
        molecules()[0],
        molecules()[-1],
        Structure(np.array([6]), np.eye(3)[:1]),
    )
    qm9 = [water, water, hydrogen, water, methane, water, hydrogen, water, hydrogen, water]
    write_xyz(tmp_path / "qm9.xyz", qm9)
    write_xyz(tmp_path / "new.xyz", [water, hydrogen])
    source, output = str(tmp_path / "qm9.xyz"), tmp_path / "s.json"
    arguments = ["evaluate", "molecules", str(tmp_path / "new.xyz"), "--reference", source]
    main([*arguments, "--train", source, "--output", str(output)])
    scores = json.loads(output.read_text())
    assert scores["num_real"] == 3
    assert scores["sample_novelty"] == 1 / 2  # hydrogen is none of the training molecules
    assert scores["real_novelty"] == 1.0


def test_fragments_and_held_out_copies_are_not_novel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Samples and real molecules are looked up by what their SMILES are of, the largest part."""
    water, hydrogen = molecules()[10], molecules()[-1]
    numbers = np.concatenate([hydrogen.numbers, water.numbers])
    pair = Structure(numbers, np.concatenate([hydrogen.positions + 9.0, water.positions]))
    methane = Structure(np.array([6]), np.zeros((1, 3)))
    write_xyz(tmp_path / "all.xyz", [*molecules()[:60], *[pair] * 9])
    data = open_molecules(tmp_path / "all.xyz", holdout_share=0.5, progress=False)
    task, held_out = atom_jobs.MoleculeTask(), [water, pair]
    for samples, novel in (([pair], 0.0), ([methane], 1.0)):
        found = task.evaluate(tmp_path, atom_jobs.Drawn(samples, held_out, held_out), data).metrics
        assert found["real_novelty"] == 0.0
        assert found["sample_novelty"] == novel


def test_crystal_files_are_scored(tmp_path: Path) -> None:
    pytest.importorskip("smact")
    write_cif(tmp_path / "real.cif", crystals()[:6])
    write_cif(tmp_path / "new.cif", crystals()[:6])
    arguments = ["evaluate", "crystals", str(tmp_path / "new.cif"), "--reference"]
    arguments += [str(tmp_path / "real.cif"), "--pairs", "--output", str(tmp_path / "s.json")]
    main(arguments)
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["match_rate"] == scores["match_rate_ceiling"] == 1.0
    assert scores["match_rms"] == pytest.approx(0.0, abs=1e-6)


def test_real_crystals_are_reduced_and_samples_are_left_as_they_are(tmp_path: Path) -> None:
    """The same lattice with a skewed cell, and one crystal whose cell is flat."""
    pytest.importorskip("smact")
    salts = crystals()[:6]
    skew = np.array([[1, 0, 0], [3, 1, 0], [0, 0, 1]])
    skewed = [replace(salt, cell=skew @ salt.cell) for salt in salts]
    flat = replace(salts[0], cell=salts[0].cell[[0, 0, 1]])
    write_xyz(tmp_path / "new.xyz", [*skewed[:4], *salts[4:], flat])
    write_xyz(tmp_path / "real.xyz", skewed)
    output = tmp_path / "s.json"
    arguments = ["evaluate", "crystals", str(tmp_path / "new.xyz"), "--reference"]
    main([*arguments, str(tmp_path / "real.xyz"), "--output", str(output)])
    scores = json.loads(output.read_text())
    assert scores["sample_structural_validity"] == pytest.approx(6 / 7)
    assert scores["sample_faults_volume"] == 1
    assert scores["sample_structural_validity_adit"] == pytest.approx(2 / 7)
    assert scores["real_structural_validity"] == scores["real_structural_validity_adit"] == 1.0


def test_a_run_and_evaluate_agree_on_the_same_samples(tmp_path: Path) -> None:
    pytest.importorskip("smact")
    write_cif(tmp_path / "all.cif", crystals())
    data = open_crystals(tmp_path / "all.cif", holdout_share=0.2, progress=False)
    real = data.test.structures(range(len(data.test)))
    skew = np.array([[1, 0, 0], [3, 1, 0], [0, 0, 1]])
    samples = [*crystals()[:5], replace(crystals()[5], cell=skew @ crystals()[5].cell)]
    drawn = atom_jobs.Drawn(samples, real, real)
    found = atom_jobs.CrystalTask().evaluate(tmp_path, drawn, data).metrics
    write_cif(tmp_path / "real.cif", real)
    arguments = ["evaluate", "crystals", str(tmp_path / "samples.cif"), "--reference"]
    write_cif(tmp_path / "train.cif", data.train.structures(range(len(data.train))))
    arguments += [str(tmp_path / "real.cif"), "--train", str(tmp_path / "train.cif")]
    main([*arguments, "--output", str(tmp_path / "s.json")])
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["sample_structural_validity"] == 1.0
    assert scores["sample_structural_validity_adit"] == pytest.approx(5 / 6)
    assert found["num_train"] == len(data.train)
    for name, value in scores.items():
        if name.startswith(("sample_", "real_")):
            assert value == pytest.approx(found[name], abs=1e-6), name


def test_what_does_not_fit_is_refused(
    molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [
        (["sample", str(molecule_run), "--output", str(tmp_path / "a.cif")], "no cell"),
        (
            ["train", "molecules", "--data", "x.xyz", "--image-size", "8"],
            "--image-size is not for molecules",
        ),
        (["train", "molecules", "--data", str(tmp_path / "none.sdf")], "none.sdf"),
        (["train", "molecules"], "needs --data"),
    ]
    for arguments, message in wrong:
        with pytest.raises(SystemExit):
            main(arguments)
        assert message in capsys.readouterr().err


def test_a_crystal_run(tmp_path: Path) -> None:
    pytest.importorskip("smact")
    write_cif(tmp_path / "all.cif", crystals())
    run = tmp_path / "run"
    train(["crystals", "--data", str(tmp_path / "all.cif"), "--output", str(run)])
    metrics = json.loads((run / "metrics.json").read_text())
    assert {
        "atom_type_accuracy", "match_rate", "match_rate_ceiling", "lattice_length_mae",
        "sample_structural_validity", "sample_compositional_validity", "sample_novelty",
        "real_structural_validity", "real_compositional_validity", "train_seconds", "seed",
    } <= metrics.keys()  # fmt: skip
    assert metrics["real_structural_validity"] == 1.0
    main(["sample", str(run), "--num-images", "2", "--output", str(tmp_path / "out.cif")])
    assert (tmp_path / "out.cif").read_text().count("_cell_length_a") == 2


def test_crystals_of_more_than_20_atoms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("smact")
    cell = np.diag([24.0, 4.0, 4.0])
    rows = np.arange(24)[:, None] * np.array([1.0, 0.0, 0.0])
    long = [Structure(np.full(24, 6), s * rows, s * cell) for s in np.linspace(1.4, 1.8, 6)]
    write_cif(tmp_path / "all.cif", [*crystals(), *long])
    arguments = ["crystals", "--data", str(tmp_path / "all.cif"), "--output", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        train(arguments)
    error = capsys.readouterr().err
    assert "24 atoms, more than max_atoms = 20" in error
    assert "admit larger ones by max_atoms (`train --max-atoms`)" in error
    for recipe in ("crystals", "mp20_s"):
        task = atom_jobs.CrystalTask()
        config = settings(recipe, tmp_path / "all.cif", max_atoms=24)
        data = task.open(config, config.data.source, progress=False)
        config = task.resolve(config, data)
        assert len(data.train) + len(data.test) == len(crystals()) + 6
        assert config.modality_config["max_atoms"] == config.model.num_registers == 24
        again = task.open(config, config.data.source, progress=False)
        assert again.fingerprint == data.fingerprint
        assert task.resolve(config, again) == config


def test_crystals_far_above_the_hull_are_left_out_by_a_setting(tmp_path: Path) -> None:
    with (tmp_path / "c.csv").open("w", newline="") as file:
        rows = [(cif_text(item, "x"), 0.01 * i) for i, item in enumerate(crystals())]
        csv.writer(file).writerows([("cif", "e_above_hull"), *rows])
    write_xyz(tmp_path / "m.xyz", molecules())
    sources = {
        "crystals": str(tmp_path / "c.csv"),
        "joint": f"{tmp_path / 'm.xyz'},{tmp_path / 'c.csv'}",
        "molecules": str(tmp_path / "m.xyz"),
    }
    for recipe, source in sources.items():
        config = settings(recipe, source)
        config = replace(config, data=replace(config.data, max_e_above_hull=0.095))
        task = get_task(config.modality)
        if recipe == "molecules":
            with pytest.raises(ValueError, match="max_e_above_hull is for crystals"):
                task.open(config, config.data.source, progress=False)
        else:
            data = task.open(config, config.data.source, progress=False)
            part = data if recipe == "crystals" else data.crystals
            assert len(part.train) + len(part.test) == 10
            assert part.skipped == ()
