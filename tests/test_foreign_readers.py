"""A format for molecules, crystals or images is one file of another package."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.packages import Environment, Result

PROJECT = """
[project]
name = "openunite-formats"
version = "0.1"

[project.entry-points."openunite.readers"]
mol9 = "formats:MOL9"
px9 = "formats:PX9"
"""
# A .mol9 has a structure in each line, a .px9 its width and then a number for each pixel.
MODULE = """
import numpy as np
from PIL import Image
from openunite.data.atoms.structure import Structure
from openunite.data.holdout import Skipped
from openunite.data.readers import Reader

def read_mol9(path):
    for i, line in enumerate(path.read_text().splitlines()):
        rows = np.array([float(x) for x in line.split()]).reshape(-1, 4)
        if not len(rows):
            yield Skipped(f"{path.name}, line {i + 1}", "is empty")
            continue
        cell = np.eye(3) * 4.0 if path.stem.startswith("cell") else None
        yield Structure(rows[:, 0].astype(np.int64), rows[:, 1:], cell)

def read_px9(path):
    width, *values = map(float, path.read_text().split())
    if width < 1:
        raise ValueError("the width must be at least 1")
    yield Image.fromarray(np.array(values, dtype=np.float32).reshape(-1, int(width)))

MOL9 = Reader((".mol9",), ("molecules", "crystals"), read_mol9)
PX9 = Reader((".px9",), ("images",), read_px9)
"""
BOTH = """
from openunite.data.crystals.readers import read_crystals
from openunite.data.joint import open_joint
from openunite.modalities.joint.task import JointTask
found = read_crystals('salt')
print(len(found.structures), found.structures.names[2])
data = open_joint('water,salt', max_bad_share=0.1)
print(len(data.molecules.train), len(data.crystals.train), data.elements)
items = [item for folder in ('water', 'salt') for item in JointTask().records(folder)]
print(len(items), sum(getattr(item, 'cell', None) is not None for item in items))
"""
EXACT = """
from pathlib import Path
import numpy as np
from openunite.data.images.pixels import PixelSpec, decode
from openunite.data.images.formats import converted
found = decode(converted(Path('pictures/00.px9')), PixelSpec(8, 8, 1))
values = np.array(Path('pictures/00.px9').read_text().split()[1:], dtype=float)
print((found.flatten() == np.rint(values.astype('f4') * 255)).all())
"""
pytestmark = pytest.mark.slow


def line(numbers: list[int], positions: np.ndarray) -> str:
    """Atomic numbers and coordinates, one atom after the other."""
    rows = np.concatenate([np.array(numbers)[:, None], positions], axis=1)
    return " ".join(f"{value:.4f}" for value in rows.flatten())


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Folders with 60 waters in the format, 40 salts, and 30 pictures beside one PNG."""
    made = Environment.make(tmp_path_factory.mktemp("formats"))
    project = made.work / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(PROJECT)
    (project / "formats.py").write_text(MODULE)
    made.install(project)
    generator = np.random.default_rng(0)
    water = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    jitter = generator.normal(0, 0.02, (60, 3, 3))
    lines = [line([8, 1, 1], water + each) for each in jitter]
    (made.work / "water").mkdir()
    (made.work / "water" / "a.mol9").write_text("\n".join([*lines[:30], ""]) + "\n")
    (made.work / "water" / "b.MOL9").write_text("\n".join(lines[30:]))
    (made.work / "salt").mkdir()
    salt = np.array([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]])
    lines = [line([11, 17], salt + [[0, 0, 0], each]) for each in generator.normal(0, 0.1, (40, 3))]
    (made.work / "salt" / "cells.mol9").write_text("\n".join(lines))
    (made.work / "pictures").mkdir()
    for i, pixels in enumerate(generator.random((30, 8, 8))):
        text = " ".join(f"{value:.6f}" for value in pixels.flatten())
        (made.work / "pictures" / f"{i:02d}.px9").write_text(f"8 {text}")
    Image.new("L", (8, 8), 90).save(made.work / "pictures" / "z.png")
    (made.work / "broken.px9").write_text("0")
    (made.work / "both.py").write_text(BOTH)
    (made.work / "exact.py").write_text(EXACT)
    return made


@pytest.fixture(scope="module")
def done(env: Environment) -> dict[str, Result]:
    short = "--steps 2 --batch-size 4"
    commands = {
        "molecules": f"train molecules --data water --output m {short} --max-bad-share 0.1",
        "pairs": "reconstruct m water/b.MOL9 --output pairs.xyz",
        "latents": "encode m water --output m.npz",
        "images": f"train images --data pictures --output i {short} --size nano",
        "picture": "reconstruct i pictures/00.px9 --output pair.png",
        "names": "encode i pictures broken.px9 --output i.npz",
        "both": "both.py",
        "exact": "exact.py",
    }
    found = dict(zip(commands, env.run(*commands.values()), strict=True))
    assert {name: result.err for name, result in found.items() if result.status} == {}
    return found


def test_molecules_are_trained_on_and_reconstructed(
    env: Environment, done: dict[str, Result]
) -> None:
    record = json.loads((env.work / "m" / "data.json").read_text())
    assert record["train_size"] + record["test_size"] == 60
    assert record["elements"] == [1, 8]
    assert record["skipped"] == ["a.mol9, line 31: is empty"]
    text = (env.work / "pairs.xyz").read_text()
    assert text.count("b.MOL9, record") == 30
    assert np.load(env.work / "m.npz")["num_atoms"].tolist() == [3] * 60


def test_a_reader_of_both_kinds_serves_crystals_and_joint_runs(done: dict[str, Result]) -> None:
    assert done["both"].out.splitlines() == [
        "40 cells.mol9, record 3",
        "57 38 (1, 8, 11, 17)",
        "101 40",
    ]


def test_images_are_trained_on_and_reconstructed(env: Environment, done: dict[str, Result]) -> None:
    record = json.loads((env.work / "i" / "data.json").read_text())
    assert record["train_size"] + record["test_size"] == 31
    assert "PSNR" in done["picture"].out
    with Image.open(env.work / "pair.png") as image:
        assert image.height > image.width


def test_what_its_reader_refuses_is_named(env: Environment, done: dict[str, Result]) -> None:
    names = np.load(env.work / "i.npz")["files"].tolist()
    assert len(names) == 31
    assert any(Path(name).name == "00.px9" for name in names)
    assert "skipped broken.px9: the width must be at least 1" in done["names"].err


def test_pixels_are_handed_on_without_loss(done: dict[str, Result]) -> None:
    assert done["exact"].out == "True\n"
