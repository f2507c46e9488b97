"""docs/EXTENDING.md: its packages are installed, its scripts and commands are run, in its order."""

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.packages import Environment

DOCUMENT = Path(__file__).parents[1] / "docs" / "EXTENDING.md"
BLOCK = re.compile(r"^```(toml|python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = ("A modality", "A condition", "A solver", "A metric", "A reader")
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Page:
    """Where the document was acted out, and what its commands and scripts printed."""

    env: Environment
    printed: dict[str, str]

    def array(self, name: str) -> np.ndarray:
        """The samples in a file."""
        found: np.ndarray = np.load(self.env.work / name)["samples"]
        return found


def sections() -> dict[str, list[tuple[str, str]]]:
    """The blocks of each section, as (language, text)."""
    _, *parts = re.split(r"^## (.*)$", DOCUMENT.read_text(), flags=re.MULTILINE)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return {title: BLOCK.findall(text) for title, text in pairs}


def install(env: Environment, blocks: list[tuple[str, str]]) -> list[str]:
    """Install the package of a section, write its scripts; return what is to be run, in order."""
    texts = {text.split("\n", 1)[0].removeprefix("# "): text for _, text in blocks}
    entries = tomllib.loads(texts["pyproject.toml"])["project"]["entry-points"]
    modules = {value.split(":")[0] for group in entries.values() for value in group.values()}
    project = env.work.parent / next(iter(modules))
    project.mkdir()
    for name in ("pyproject.toml", *(f"{module}.py" for module in modules)):
        (project / name).write_text(texts.pop(name))
    env.install(project)
    commands: list[str] = []
    for name, text in texts.items():
        if name.startswith("openunite "):
            commands += [line.removeprefix("openunite ") for line in text.splitlines()]
        else:
            (env.work / name).write_text(text)
            commands.append(name)
    return commands


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    env = Environment.make(tmp_path_factory.mktemp("extending"))
    commands = [line for blocks in sections().values() for line in install(env, blocks)]
    results = dict(zip(commands, env.run(*commands), strict=True))
    assert {line: result.err for line, result in results.items() if result.status} == {}
    return Page(env, {line: result.out for line, result in results.items()})


def test_there_are_five_sections_and_each_adds_one_file() -> None:
    found = sections()
    assert tuple(found) == SECTIONS
    for blocks in found.values():
        (about,) = [tomllib.loads(text) for language, text in blocks if language == "toml"]
        groups = about["project"]["entry-points"].values()
        assert len({value.split(":")[0] for group in groups for value in group.values()}) == 1


def test_the_modality_is_trained_and_used(page: Page) -> None:
    shape, latents, error = re.fullmatch(
        r"torch.Size\((.*)\) \((.*)\) (.*)\n", page.printed["first_run.py"]
    ).groups()
    assert (shape, latents) == ("[32]", "300, 8, 8")
    assert float(error) < 0.3  # a flat line has 0.64
    assert page.array("curves.npz").shape == (8, 32)
    assert "curves" in (page.env.work / "runs" / "first" / "report.html").read_text()


def test_the_class_decides_how_fast_a_curve_is(page: Page) -> None:
    fast, slow = (np.abs(np.diff(page.array(f"{x}.npz"), axis=1)).mean() for x in ("fast", "slow"))
    assert fast > 2 * slow
    record = json.loads((page.env.work / "runs" / "curves" / "data.json").read_text())
    assert record["class_names"] == ["fast", "slow"]


def test_a_sample_without_a_known_class_is_that_of_no_evidence(page: Page) -> None:
    names, distances = page.printed["evidence.py"].split("tensor(")
    assert names.strip() == "['fast', 'slow']"
    first, second, third = json.loads(distances.strip().rstrip(")"))
    assert min(first, second) > 0.01
    assert third < 1e-4


def test_the_kind_of_condition_knows_that_angles_go_around(page: Page) -> None:
    around, across = map(float, page.printed["angles.py"].split())
    assert around < 1e-5
    assert across > 0.1


def test_the_solver_samples_and_has_order_two(page: Page) -> None:
    assert page.array("midpoint.npz").shape == (16, 32)
    assert np.isfinite(page.array("midpoint.npz")).all()
    assert [float(x) for x in page.printed["order.py"].split()] == pytest.approx([4, 4], rel=0.15)


def test_the_metrics_are_on_the_cards(page: Page) -> None:
    card = json.loads((page.env.work / "runs" / "curves" / "card-evaluate.json").read_text())
    assert card["metrics"]["real"]["roughness"]["value"] == pytest.approx(1.0, abs=0.2)
    assert card["metrics"]["samples"]["roughness"]["total"] == 100
    assert "roughness (1 is real)" in page.printed["evaluate runs/curves --num-samples 100"]
    card = json.loads((page.env.work / "runs" / "photos" / "card-thumbnail.json").read_text())
    assert card["metrics"]["real images"]["spread"]["value"] == pytest.approx(1.0, abs=0.2)
    assert card["extractor"]["label"] == "FD-thumbnail"


def test_the_reader_feeds_training_and_reconstruction(page: Page) -> None:
    record = json.loads((page.env.work / "runs" / "photos" / "data.json").read_text())
    assert record["train_size"] + record["test_size"] == 80
    assert record["class_names"] == ["dark", "light"]
    assert (page.env.work / "photos.png").is_file()
