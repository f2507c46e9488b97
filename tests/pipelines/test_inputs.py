"""What programs give to pipelines: taken, or refused in one sentence, and NaN nowhere."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import make_models, perturb
from tests.modalities.atoms.test_pipeline import build

from openunite import ImagePipeline
from openunite.data.atoms.structure import Structure
from openunite.modalities.atoms.pipeline import AtomLatents, AtomPipeline
from openunite.pipelines.tensors import TensorPipeline
from openunite.sampling import Sampling

ase = pytest.importorskip("ase")
Chem = pytest.importorskip("rdkit.Chem")
AllChem = pytest.importorskip("rdkit.Chem.AllChem")

NAMES = ["ant", "bee", "cat", "dog", "eel"]
PT: dict[str, Any] = {"output_type": "pt"}
Call = Callable[[Any], Any]


@pytest.fixture(scope="module")
def pipeline() -> ImagePipeline:
    """For 8 x 8 RGB images of five classes."""
    models = make_models(image={"height": 8, "width": 8, "channels": 3, "patch_size": 4})
    made = ImagePipeline(
        models.encoder.eval(), models.decoder.eval(), Sampling("euler", 2, 1.0, 2.0), NAMES
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def molecules() -> AtomPipeline:
    return build("molecule")


@pytest.fixture(scope="module")
def crystals() -> AtomPipeline:
    return build("crystal")


def refused(call: Call, pipeline: Any) -> str:
    """The sentence with which a call is refused."""
    with pytest.raises(ValueError) as found:  # noqa: PT011  the caller looks at the message
        call(pipeline)
    message = str(found.value)
    assert "\n" not in message
    return message


# ---- labels, numbers and seeds ------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        ["bee", "dog"],
        [1, 3],
        (1, "dog"),
        [np.int64(1), np.uint8(3)],
        np.array([1, 3]),
        np.array([[1], [3]]),
        np.array(["bee", "dog"]),
        torch.tensor([1, 3]),
        torch.tensor([1, 3], dtype=torch.uint8),
        [torch.tensor(1), 3],
        range(1, 5, 2),
    ],
    ids=repr,
)
def test_labels_of_all_kinds_mean_the_same(pipeline: ImagePipeline, labels: Any) -> None:
    expected = pipeline([1, 3], seeds=[5, 6], **PT)
    assert torch.equal(pipeline(labels, seeds=[5, 6], **PT), expected)


@pytest.mark.parametrize("label", ["cat", 2, np.int32(2), np.array(2), torch.tensor(2)], ids=repr)
def test_one_label_is_for_all_images(pipeline: ImagePipeline, label: Any) -> None:
    expected = pipeline([2, 2, 2], seeds=[0, 1, 2], **PT)
    assert torch.equal(pipeline(label, num_images=3, seeds=[0, 1, 2], **PT), expected)
    assert torch.equal(pipeline(label, seeds=range(3), **PT), expected)
    assert len(pipeline(label)) == 1


def test_a_number_of_images_may_stand_beside_as_many_labels(pipeline: ImagePipeline) -> None:
    assert len(pipeline([0, 1, 2], num_images=np.int64(3))) == 3
    message = refused(lambda p: p([0], num_images=5), pipeline)
    assert "expected one class label per sample, got 1 for 5" in message


def test_seeds_alone_say_how_many(pipeline: ImagePipeline) -> None:
    assert len(pipeline(seeds=[1, 2, 3])) == 3
    assert len(pipeline(seeds=4)) == 1
    assert len(pipeline(generator=[torch.Generator(), torch.Generator()])) == 2


@pytest.mark.parametrize(
    "seeds",
    [
        np.array([7, 8]),
        torch.tensor([7, 8]),
        [np.int64(7), np.uint64(8)],
        (7, 8),
        range(7, 9),
    ],
    ids=repr,
)
def test_seeds_of_all_kinds_mean_the_same(pipeline: ImagePipeline, seeds: Any) -> None:
    assert torch.equal(pipeline(seeds=seeds, **PT), pipeline(seeds=[7, 8], **PT))


def test_negative_large_and_repeated_seeds_are_seeds(pipeline: ImagePipeline) -> None:
    found = pipeline(seeds=[-1, 2**63 - 1, -(2**63), -1], **PT)
    torch.testing.assert_close(found[0], found[3], atol=1e-5, rtol=0.0)
    for other in (found[1], found[2]):
        assert (found[0] - other).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p([0.9]), "class label must be a whole number of at least 0, got 0.9"),
        (lambda p: p(np.eye(5)), r"one class label per sample, got shape \(5, 5\)"),
        (lambda p: p([True]), "class label must be a whole number of at least 0, got True"),
        (lambda p: p([float("nan")]), "class label must be a whole number"),
        (lambda p: p([-1]), "class label must be a whole number of at least 0, got -1"),
        (lambda p: p({0, 1}), "class label must be a whole number"),
        (lambda p: p("cow"), "unknown class 'cow', expected one of"),
        (lambda p: p([]), "an empty list asks for no sample; leave it out, or give num_images"),
        (lambda p: p.generate(None, seeds=[]), "an empty list asks for no sample"),
        (lambda p: p(num_images=0), "num_images must be a whole number of at least 1, got 0"),
        (lambda p: p(num_images=-1), "num_images must be a whole number of at least 1, got -1"),
        (lambda p: p(num_images=1.5), "num_images must be a whole number of at least 1, got 1.5"),
        (lambda p: p([0], seeds=[1.5]), "a seed must be a whole number"),
        (lambda p: p([0], seeds=[2**63]), "a seed must be a whole number from -92233720368547758"),
        (lambda p: p(seeds=np.array([1.0])), "a seed must be a whole number"),
        (lambda p: p([0, 1], seeds=3), "expected one seed per sample, got 1 for 2"),
        (lambda p: p(seeds=[1], generator=torch.Generator()), "seeds and generator exclude each"),
        (lambda p: p(generator=np.random.default_rng(0)), "expected a torch.Generator"),
        (lambda p: p(guidance_scale=float("nan")), "guidance_scale must be a number"),
        (lambda p: p(guidance_scale=float("inf")), "guidance_scale must be a number"),
        (lambda p: p([0], guidance_scale={"class": float("nan")}), "must be a number, got nan"),
        (lambda p: p(guidance_scale="2"), "guidance_scale must be a number"),
        (lambda p: p(guidance_interval=0.5), "guidance_interval must be two numbers"),
        (lambda p: p(solver="sde", temperature=-1.0), "temperature must be a number from 0"),
        (lambda p: p.interpolate([image()] * 2, image(), 4), "one image at each end, got 2 and 1"),
        (lambda p: p.interpolate(image(), image(), 0), "num_images must be a whole number"),
        (lambda p: p.enable_sequential_cpu_offload(), "call enable_model_cpu_offload"),
    ],
)
def test_what_no_pipeline_can_do_is_one_sentence(
    pipeline: ImagePipeline, call: Call, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(pipeline)


def test_numbers_of_other_packages_are_settings(pipeline: ImagePipeline) -> None:
    plain = pipeline([0], seeds=[1], guidance_scale=1.5, num_inference_steps=3, **PT)
    options: dict[str, Any] = {
        "guidance_scale": np.float32(1.5),
        "num_inference_steps": np.int64(3),
        "guidance_interval": [np.float64(0.1), torch.tensor(1.0)],
    }
    assert torch.equal(pipeline([0], seeds=[1], **options, **PT), plain)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("num_image", "num_images"),
        ("guidance", "guidance_scale"),
        ("callback_on_step", "callback_on_step_end"),
        ("num_steps", "num_inference_steps"),
    ],
)
def test_an_unknown_argument_is_refused_by_what_was_called(
    pipeline: ImagePipeline, name: str, nearest: str
) -> None:
    message = refused(lambda p: p([0], **{name: 1}), pipeline)
    assert message.startswith(f"ImagePipeline takes no argument {name!r}")
    assert message.endswith(f"the nearest is {nearest}")
    assert "ImagePipeline.generate takes no" in refused(
        lambda p: p.generate(None, seeds=[1], **{name: 1}), pipeline
    )


def test_parts_are_moved_to_the_device_in_turn(pipeline: ImagePipeline) -> None:
    expected = pipeline(["ant"], seeds=[1], **PT)
    moved = ImagePipeline(pipeline.encoder, pipeline.decoder, pipeline.sampling, NAMES)
    moved.enable_model_cpu_offload(device="cpu")
    try:
        assert torch.equal(moved(["ant"], seeds=[1], **PT), expected)
        assert moved.encode(image()).isfinite().all()
    finally:
        moved.remove_all_hooks()


# ---- images -------------------------------------------------------------------------------------


def image() -> Image.Image:
    return Image.new("RGB", (8, 8), (10, 128, 250))


def test_images_of_all_kinds_mean_the_same(pipeline: ImagePipeline, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    image().save(path)
    array = np.asarray(image())
    tensor = torch.tensor(array).permute(2, 0, 1)
    forms = [image(), path, str(path), array, array / 255.0, tensor, tensor / 255.0]
    forms += [array[:, ::-1].copy()[:, ::-1], (array / 255.0).astype(np.float16)]
    expected = pipeline.encode([image(), image()])
    for form in forms:
        assert pipeline.encode(form).shape == (1, 4, 6)
        torch.testing.assert_close(pipeline.encode([form, form]), expected, atol=1e-2, rtol=0.0)
    assert torch.equal(pipeline.encode(np.stack([array, array])), expected)
    assert torch.equal(pipeline.encode(torch.stack([tensor, tensor])), expected)
    assert torch.equal(pipeline.encode(forms[:4]), pipeline.encode([image()] * 4))


def test_grey_images_need_no_axis_of_channels() -> None:
    models = make_models()
    grey = ImagePipeline(models.encoder.eval(), models.decoder.eval())
    plain = np.full((8, 8), 100, np.uint8)
    assert torch.equal(grey.encode(plain), grey.encode(plain[:, :, None]))
    assert torch.equal(grey.encode([plain, plain]), grey.encode(np.stack([plain] * 2)[..., None]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"shape \(8, 8, 3\), got \(3, 8, 8\).* end with channels"),
        (np.zeros((8, 9, 3), np.uint8), r"expected images of shape \(8, 8, 3\), got \(8, 9, 3\)"),
        (torch.zeros(8, 8, 3), r"expected images of shape \(3, 8, 8\), got \(8, 8, 3\)"),
        (torch.zeros(3, 3, 3, 3, 3), "expected images of shape"),
        (np.zeros((1, 8, 8, 3), np.uint16), "got torch.uint16; divide them by the largest"),
        (np.zeros((1, 8, 8, 3), np.int64), "expected pixels as uint8 or as floats"),
        (np.zeros((8, 8, 3), bool), "expected pixels as uint8 or as floats"),
        (np.zeros((8, 8, 3), object), "expected pixels as numbers, got object"),
        (np.full((8, 8, 3), np.nan), "got NaN or infinity"),
        (torch.full((3, 8, 8), torch.inf), "got NaN or infinity"),
        (torch.full((3, 8, 8), 255.0), r"must lie in \[0, 1\]"),
        (torch.full((3, 8, 8), -1.0), r"must lie in \[0, 1\].*do not normalize"),
        (Image.fromarray(np.full((8, 8), np.nan, np.float32)), "not finite"),
        ([], "expected at least one image, got none"),
        (np.zeros((0, 8, 8, 3), np.uint8), "expected at least one image, got none"),
        (7, "expected images, paths, arrays or tensors, got a int"),
        ([None], "expected images, paths, arrays or tensors, got a NoneType"),
        ({"image": 1}, "expected images, paths, arrays or tensors, got a dict"),
    ],
)
def test_what_is_no_image_is_one_sentence(
    pipeline: ImagePipeline, given: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline.encode(given)


def test_files_that_are_no_images_are_named(pipeline: ImagePipeline, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("no image")
    with pytest.raises(ValueError, match=r"notes\.png: not an image that Pillow can read"):
        pipeline.encode(path)
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        pipeline.encode([tmp_path / "gone.png"])


# ---- latents ------------------------------------------------------------------------------------


def test_latents_may_be_arrays(pipeline: ImagePipeline) -> None:
    latents = pipeline.encode([image()] * 2)
    expected = pipeline.decode(latents, output_type="pt")
    assert torch.equal(pipeline.decode(latents.numpy(), output_type="pt"), expected)


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (torch.zeros(4, 6), r"expected latents \(B, 4, 6\), got shape \(4, 6\)"),
        (torch.zeros(1, 4, 5), r"got shape \(1, 4, 5\)"),
        (torch.zeros(1, 3, 6), r"got shape \(1, 3, 6\)"),
        (torch.zeros(0, 4, 6), r"got shape \(0, 4, 6\)"),
        (torch.zeros(1, 4, 6, dtype=torch.int64), r"of floats, got torch.int64"),
        (torch.full((1, 4, 6), torch.nan), "NaN or infinity"),
        ([[0.0]], "as `encode` returns, got a list"),
    ],
)
def test_latents_of_no_encoder_are_refused(
    pipeline: ImagePipeline, latents: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline.decode(latents)


# ---- structures ---------------------------------------------------------------------------------

WATER = Structure(np.array([8, 1, 1]), np.array([[0, 0, 0], [0, 0, 0.96], [0.93, 0, -0.24]]))
OXIDE = Structure(np.array([8, 1]), np.array([[0, 0, 0], [2.0, 2, 2]]), np.eye(3) * 4.0)


def test_structures_of_all_packages_are_taken(molecules: AtomPipeline) -> None:
    mol = Chem.AddHs(Chem.MolFromSmiles("O"))
    AllChem.EmbedMolecule(mol, randomSeed=0)
    atoms = ase.Atoms(WATER.numbers, WATER.positions)
    expected = molecules.encode([WATER]).values
    for given in (WATER, [WATER], atoms, [atoms], (atoms,), iter([atoms])):
        assert torch.equal(molecules.encode(given).values, expected)
    assert len(molecules.encode(mol)) == len(molecules.reconstruct(mol)) == 1
    assert len(molecules.interpolate(atoms, WATER, 3)) == 3


def test_crystals_of_all_packages_are_taken(crystals: AtomPipeline) -> None:
    from pymatgen.core import Lattice
    from pymatgen.core import Structure as Crystal

    made = Crystal(Lattice(OXIDE.cell), ["O", "H"], OXIDE.positions, coords_are_cartesian=True)
    atoms = ase.Atoms(OXIDE.numbers, OXIDE.positions, cell=OXIDE.cell, pbc=True)
    expected = crystals.encode(OXIDE).values
    for given in (made, [made], atoms, [atoms]):
        torch.testing.assert_close(crystals.encode(given).values, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (replace(WATER, positions=np.full((3, 3), np.nan)), "positions that are not finite"),
        (OXIDE, "structure 0 has a cell, this model takes molecules without one"),
        ([WATER, OXIDE], "structure 1 has a cell"),
        ([], "expected at least one structure, got none"),
        ("water.xyz", "expected ASE Atoms, RDKit molecules or pymatgen structures, got a str"),
        (5, "expected ASE Atoms, RDKit molecules or pymatgen structures, got a int"),
        (replace(WATER, numbers=np.array([10, 1, 1])), "contains Ne, this model knows H, C, O"),
    ],
)
def test_what_is_no_molecule_is_one_sentence(
    molecules: AtomPipeline, given: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        molecules.encode(given)
    with pytest.raises(ValueError, match=message):
        molecules.reconstruct(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (WATER, "has no cell, this model takes crystals"),
        (replace(OXIDE, cell=np.zeros((3, 3))), "has a cell of 0 cubic Angstrom"),
        (replace(OXIDE, cell=np.full((3, 3), np.nan)), "has a cell that is not finite"),
    ],
)
def test_what_is_no_crystal_is_one_sentence(
    crystals: AtomPipeline, given: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        crystals.encode(given)


@pytest.mark.parametrize("sizes", [4, np.int64(4), [4, 4], np.array([4, 4]), torch.tensor([4, 4])])
def test_sizes_of_all_kinds_mean_the_same(molecules: AtomPipeline, sizes: Any) -> None:
    found = molecules(2, num_atoms=sizes, seeds=[0, 1], num_inference_steps=2)
    assert [len(item) for item in found] == [4, 4]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p(1, num_atoms=3.5), "num_atoms must be a whole number from 1 to 7, got 3.5"),
        (lambda p: p(1, num_atoms=0), "num_atoms must be a whole number from 1 to 7, got 0"),
        (lambda p: p(0), "num_structures must be a whole number of at least 1, got 0"),
        (lambda p: p(2, batch_size=0), "batch_size must be a whole number of at least 1, got 0"),
        (lambda p: p(1, num_atom=3), "takes no argument 'num_atom'.*the nearest is num_atoms"),
        (lambda p: p.decode(torch.zeros(1, 3, 6)), "expected AtomLatents as `encode` returns"),
        (
            lambda p: p.decode(AtomLatents(torch.zeros(1, 3, 6), torch.ones(1, 2) > 0)),
            r"got \(1, 3, 6\) with \(1, 2\)",
        ),
        (
            lambda p: p.decode(AtomLatents(torch.zeros(1, 3, 5), torch.ones(1, 3) > 0)),
            r"expected latents \(B, 3, 6\), got shape \(1, 3, 5\)",
        ),
        (
            lambda p: p.decode(AtomLatents(torch.zeros(1, 2, 6), torch.tensor([[False, True]]))),
            "the mask must be True for the first atoms",
        ),
    ],
)
def test_what_no_pipeline_of_atoms_can_do_is_one_sentence(
    molecules: AtomPipeline, call: Call, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(molecules)


# ---- tensors ------------------------------------------------------------------------------------


def test_arrays_and_lists_are_taken_for_tensors() -> None:
    models = make_models()
    perturb(models.encoder, 3)
    plain = TensorPipeline(models.encoder.eval(), models.decoder.eval())
    data = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = plain.encode(data)
    for given in (data.numpy(), list(data.numpy()), data.double()):
        assert torch.equal(plain.encode(given), expected)
    assert len(plain(1, num_samples=2)) == len(plain(seeds=[1, 2])) == 2
    for bad, message in (
        (data / 0.0, "NaN or infinity"),
        ([np.zeros(3), np.zeros(4)], r"takes arrays of shape \(1, 8, 8\), got \(3,\)"),
        ([], "expected at least one data point, got none"),
    ):
        with pytest.raises(ValueError, match=message):
            plain.encode(bad)
