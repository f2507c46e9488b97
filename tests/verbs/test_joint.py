"""Molecules and crystals together from the command line."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from tests.verbs.asking import settings
from tests.verbs.test_atoms import crystals, molecules, train

from openunite.cli import main
from openunite.data.atoms.cif import write_cif
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.xyz import read_xyz, write_xyz
from openunite.evaluation.card import load_card
from openunite.evaluation.measured import vocabulary
from openunite.modalities.joint.task import JointTask

pytest.importorskip("rdkit")
pytest.importorskip("smact")


def test_a_joint_run_makes_both_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_xyz(tmp_path / "m.xyz", molecules())
    write_cif(tmp_path / "c.cif", crystals())
    run, sources = tmp_path / "run", f"{tmp_path / 'm.xyz'},{tmp_path / 'c.cif'}"
    train(["joint", "--data", sources, "--output", str(run)])
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["molecules_real_atom_stability"] == 1.0
    assert metrics["crystals_real_structural_validity"] == 1.0
    assert {"molecules_sample_kind_accuracy", "crystals_match_rate", "seed"} <= metrics.keys()
    for kind in ("molecules", "crystals"):
        card = load_card(run / kind / "card.json")
        flat = vocabulary(kind).flat(card.metrics)
        assert {f"{kind}_{name}": value for name, value in flat.items()}.items() <= metrics.items()
        assert (card.kind, card.samples.labels, card.model.source) == (kind, kind, "run")
    for name in ("molecules/samples.png", "molecules/samples.xyz", "crystals/samples.cif"):
        assert (run / name).is_file()
    index = json.loads((run / "pipeline/model_index.json").read_text())
    assert index["_class_name"] == "JointPipeline"
    assert index["class_names"] == ["molecules", "crystals"]
    assert [sum(row) for row in index["size_histogram"]] == [59, 38]

    sample = ["sample", str(run), "--num-images", "4", "--output"]
    main([*sample, str(tmp_path / "out.xyz"), "--classes", "molecules", "--num-atoms", "3"])
    assert len(list(read_xyz(tmp_path / "out.xyz"))) == 4  # of which kind, 12 steps do not teach
    for arguments, message in (
        ([str(tmp_path / "a.cif"), "--classes", "molecules"], "no cell"),
        ([str(tmp_path / "a.sdf"), "--classes", "crystals"], "cannot be written"),
        ([str(tmp_path / "a.xyz"), "--classes", "proteins"], "unknown class 'proteins'"),
    ):
        with pytest.raises(SystemExit):
            main([*sample, *arguments])
        assert message in capsys.readouterr().err
    files = [str(tmp_path / "m.xyz"), str(tmp_path / "c.cif")]
    main(["encode", str(run), *files, "--output", str(tmp_path / "z.npz")])
    sizes = np.load(tmp_path / "z.npz")["num_atoms"]
    assert set(sizes.tolist()) == {2, 3}
    assert len(sizes) == len(molecules()) + len(crystals())


def test_settings_of_a_run_admit_the_same_structures(tmp_path: Path) -> None:
    """A molecule of 23 atoms makes the model larger than crystals may be; 22 atoms are too many."""
    chain = np.arange(23)[:, None] * np.array([1.4, 0.0, 0.0])
    write_xyz(tmp_path / "m.xyz", [*molecules(), Structure(np.full(23, 6), chain)])
    long = Structure(np.full(22, 6), chain[:22], np.diag([31.0, 4.0, 4.0]))
    write_cif(tmp_path / "c.cif", [*crystals(), long])
    data = f"{tmp_path / 'm.xyz'},{tmp_path / 'c.cif'}"
    task = JointTask()
    for limit, count in ((None, 40), (22, 41)):
        config = settings("joint", data, max_bad_share=0.1, max_atoms=limit)
        opened = task.open(config, config.data.source, progress=False)
        assert len(opened.crystals.train) + len(opened.crystals.test) == count
        config = task.resolve(config, opened)
        again = task.open(config, config.data.source, progress=False)
        assert again.fingerprint == opened.fingerprint
        assert task.resolve(config, again) == config


def test_either_kind_is_read_wherever_it_lies(tmp_path: Path) -> None:
    """In one xyz file, below a folder, and compressed."""
    (tmp_path / "below" / "more").mkdir(parents=True)
    write_xyz(tmp_path / "both.xyz", [molecules()[0], crystals()[0], molecules()[1]])
    write_cif(tmp_path / "below" / "more" / "c.cif", crystals()[:2])
    packed = gzip.compress((tmp_path / "below" / "more" / "c.cif").read_bytes())
    (tmp_path / "c.cif.gz").write_bytes(packed)
    write_xyz(tmp_path / "below" / "more" / "m.xyz", molecules()[:3])
    (tmp_path / "below" / "properties.csv").write_text("name,gap")
    for name, kinds in (("both.xyz", "mcm"), ("c.cif.gz", "cc"), ("below", "ccmmm")):
        found = list(JointTask().records(str(tmp_path / name)))
        assert all(isinstance(item, Structure) for item in found)
        assert "".join("m" if item.cell is None else "c" for item in found) == kinds
