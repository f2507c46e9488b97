"""Pipeline folders from strangers: they run no code, and damage is one sentence."""

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file
from tests.conftest import make_models

from openunite import ImagePipeline, MoleculePipeline
from openunite.pipelines import folder as folders
from openunite.pipelines import saving
from openunite.runs import load_pipeline
from openunite.sampling import Sampling

WEIGHTS = "diffusion_pytorch_model.safetensors"
FILES = ["model_index.json"] + [
    f"{part}/{name}" for part in ("encoder", "decoder") for name in ("config.json", WEIGHTS)
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = make_models(image={"height": 8, "width": 8, "channels": 3, "patch_size": 4})
    folder = tmp_path_factory.mktemp("sound") / "pipeline"
    sampling = Sampling("heun", 1, 1.0, 1.0)
    ImagePipeline(models.encoder, models.decoder, sampling).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(sound, tmp_path / "pipeline"))


def change(file: Path, **values: Any) -> None:
    """Set values in a JSON file and forget the manifest, as whoever forges a folder would."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    (next(p for p in file.parents if p.name == "pipeline") / "manifest.json").unlink(
        missing_ok=True
    )


def change_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "encoder" / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / "encoder" / WEIGHTS)
    (folder / "manifest.json").unlink()


def complaint(load: Callable[[], object]) -> str:
    """The one sentence that loading ends in."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 900
    return text


# ---- code ---------------------------------------------------------------------------------


@pytest.fixture
def evil(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put evil.py, importable too, at every place; the path of what it would write."""
    marker = folder.parent / "marker"
    for place in (folder, folder / "encoder", folder / "decoder"):
        (place / "evil.py").write_text(
            f"open({str(marker)!r}, 'w').close()\nclass X:\n    from_pretrained = None\n"
        )
    monkeypatch.syspath_prepend(folder)
    return marker


COMPONENTS: list[dict[str, Any]] = [
    {"encoder": ["evil", "X"]},
    {"decoder": ["evil", "X"]},
    {"decoder": ["openunite.models.generative_encoder", "GenerativeEncoder"]},
    {"encoder": ["diffusers", "UNet2DModel"]},
    {"encoder": ["openunite.models.generative_encoder", "ModelMixin"]},
    {"encoder": [None, None]},
    {"encoder": "evil.X"},
    {"encoder": {"evil": "X"}},
    {"extra": ["evil", "X"]},
    {"_class_name": ["evil", "X"]},
    {"_class_name": "X"},
    {"_class_name": "MoleculePipeline"},
    {"auto_map": {"ImagePipeline": "evil.X"}},
]


@pytest.mark.parametrize("values", COMPONENTS, ids=str)
def test_only_the_known_classes_can_be_components(
    folder: Path, evil: Path, values: dict[str, Any]
) -> None:
    change(folder / "model_index.json", **values)
    assert "model_index.json" in complaint(lambda: ImagePipeline.from_pretrained(folder))
    if values != {"_class_name": "MoleculePipeline"}:
        complaint(lambda: load_pipeline(str(folder)))
    assert not evil.exists()
    assert "evil" not in sys.modules


def as_old_diffusers(cls: type, source: Path, **options: Any) -> None:
    """Look the encoder's class up in the folder, as diffusers 0.37 does."""
    module, _ = json.loads((source / "model_index.json").read_text())["encoder"]
    spec = importlib.util.spec_from_file_location(module, source / "encoder" / f"{module}.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_with_a_diffusers_that_looks_names_up_nothing_runs_either(
    folder: Path, evil: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(folder / "model_index.json", encoder=["evil", "X"])
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", classmethod(as_old_diffusers))
    DiffusionPipeline.from_pretrained(folder)
    assert evil.exists()  # the stand-in is as careless as it should be
    evil.unlink()
    for load in (ImagePipeline.from_pretrained, lambda path: load_pipeline(str(path))):
        assert "cannot bring classes of its own" in complaint(lambda load=load: load(folder))
    assert not evil.exists()


@pytest.mark.parametrize(
    "option", ["custom_pipeline", "trust_remote_code", "custom_revision", "use_safetensors"]
)
def test_options_that_let_diffusers_run_files_are_refused(
    folder: Path, evil: Path, option: str
) -> None:
    for door in (ImagePipeline.from_pretrained, ImagePipeline.download):
        text = complaint(lambda door=door: door(folder, **{option: str(folder / "evil.py")}))
        assert option in text
        assert "runs no code" in text
    assert not evil.exists()


@pytest.mark.parametrize(
    "values",
    [
        {"auto_map": {"AutoModel": "evil.X"}},
        {"_class_name": "X"},
        {"_class_name": "Decoder"},
        {"modality": "evil"},
        {"modality": "evil:X"},
        {"quantization_config": {"quant_method": "evil"}},
    ],
    ids=str,
)
def test_the_config_of_a_component_names_no_code(
    folder: Path, evil: Path, values: dict[str, Any]
) -> None:
    change(folder / "encoder" / "config.json", **values)
    assert "config.json" in complaint(lambda: ImagePipeline.from_pretrained(folder))
    assert not evil.exists()


def test_code_beside_the_files_is_not_read(folder: Path, evil: Path) -> None:
    change(folder / "model_index.json", _module="evil", _name_or_path="evil")
    assert len(load_pipeline(str(folder))(num_images=1)) == 1
    assert not evil.exists()


def test_pickles_are_no_weights(folder: Path) -> None:
    tensors = load_file(folder / "encoder" / WEIGHTS)
    torch.save(tensors, folder / "encoder" / "diffusion_pytorch_model.bin")
    (folder / "encoder" / WEIGHTS).unlink()
    assert "safetensors only" in complaint(lambda: ImagePipeline.from_pretrained(folder))


def test_from_the_hub_come_the_files_of_a_pipeline_and_no_others(
    folder: Path, evil: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "encoder" / "diffusion_pytorch_model.bin").touch()

    def download(name: str, *, allow_patterns: list[str], revision: str | None = None) -> str:
        assert (name, revision) == ("someone/model", "v1")
        for file in [p for p in folder.rglob("*") if p.is_file()]:
            path = file.relative_to(folder).as_posix()
            if any(fnmatch(path, pattern) for pattern in allow_patterns):
                (tmp_path / "hub" / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, tmp_path / "hub" / path)
        return str(tmp_path / "hub")

    monkeypatch.setattr(folders, "snapshot_download", download)
    pipeline = ImagePipeline.from_pretrained("someone/model", revision="v1")
    assert len(pipeline(num_images=1)) == 1
    here = tmp_path / "hub"
    found = [p.relative_to(here).as_posix() for p in here.rglob("*") if p.is_file()]
    assert sorted(found) == sorted([*FILES, "manifest.json"])
    assert not evil.exists()


def test_a_hub_id_that_cannot_be_had_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr(folders, "snapshot_download", offline)
    text = complaint(lambda: load_pipeline("someone/model"))
    assert "could not be had from the hub (ConnectionError)" in text


# ---- damage -------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("place", [0.5, 0.99])
def test_one_wrong_bit_is_found(folder: Path, file: str, place: float) -> None:
    contents = bytearray((folder / file).read_bytes())
    contents[int(place * len(contents))] ^= 1
    (folder / file).write_bytes(contents)
    assert file in complaint(lambda: ImagePipeline.from_pretrained(folder))


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    assert file in complaint(lambda: ImagePipeline.from_pretrained(folder))


def test_a_file_that_was_added_is_not_trusted(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"][f"decoder/{WEIGHTS}"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "is not what was saved" in complaint(lambda: ImagePipeline.from_pretrained(folder))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format_version": 2}, "upgrade openunite"),
        ({"format_version": "1"}, "damaged"),
        ({"sha256": []}, "damaged"),
        ({"sha256": {}}, "not what was saved"),
    ],
    ids=str,
)
def test_a_manifest_that_says_something_else_is_refused(
    folder: Path, values: dict[str, Any], words: str
) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | values))
    assert words in complaint(lambda: ImagePipeline.from_pretrained(folder))


def test_a_folder_without_manifest_loads(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    assert len(ImagePipeline.from_pretrained(folder)(num_images=1)) == 1


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "values",
    [
        {"depth": 10**7},
        {"depth": 10**30},
        {"depth": 2},
        {"width": 10**6},
        {"width": "32"},
        {"width": 0},
        {"width": 12.5},
        {"num_heads": 0},
        {"num_heads": 5},
        {"num_registers": -1},
        {"num_registers": 10**9},
        {"num_registers": None},
        {"num_classes": 10**12},
        {"num_classes": True},
        {"latent_norm_kind": "evil"},
        {"context_start": 10**9},
        {"modality_config": []},
        {"modality_config": {}},
        {"modality_config": {"height": 10**9, "width": 4, "channels": 3, "patch_size": 4}},
        {"modality_config": {"height": 10**6, "width": 10**6, "channels": 3, "patch_size": 4}},
        {"modality_config": {"height": "8", "width": 8, "channels": 3, "patch_size": 4}},
        {"modality_config": {"height": 8, "width": 8, "channels": 3, "patch_size": 0}},
        {"unheard": 1},
    ],
    ids=str,
)
def test_settings_that_do_not_fit_the_weights_are_refused_before_memory_is_taken(
    folder: Path, values: dict[str, Any]
) -> None:
    change(folder / "encoder" / "config.json", **values)
    assert "encoder/config.json" in complaint(lambda: ImagePipeline.from_pretrained(folder))


def test_a_table_of_positions_that_no_weight_bounds_is_refused(folder: Path) -> None:
    """The decoder's positions are computed, not saved: 2^20 of them would fit the same weights."""
    shape = {"height": 2**12, "width": 2**12, "channels": 3, "patch_size": 4}
    change(folder / "decoder" / "config.json", modality_config=shape, num_registers=2**20)
    assert "larger tables" in complaint(lambda: ImagePipeline.from_pretrained(folder))


@pytest.mark.parametrize(
    "values",
    [
        {"format_version": "9"},
        {"format_version": 9},
        {"format_version": True},
        {"sampling": 3},
        {"sampling": {"unheard": 1}},
        {"sampling": {"options": 3}},
        {"guidance_scale": float("nan")},
        {"guidance_scale": float("inf")},
        {"guidance_scale": 10**400},
        {"guidance_scale": "2"},
        {"eta": float("nan")},
        {"temperature": None},
        {"time_shift": float("-inf")},
        {"guidance_interval": [0.1]},
        {"guidance_interval": [0.1, float("nan")]},
        {"guidance_interval": 3},
        {"solver": "evil"},
        {"solver": ["heun"]},
        {"num_inference_steps": 0},
        {"num_inference_steps": 2.5},
        {"num_inference_steps": 10**12},
        {"class_names": "abc"},
        {"class_names": [1]},
        {"size_histogram": [-1]},
        {"size_histogram": 5},
        {"size_histogram": [["1"]]},
        {"unheard": 1},
    ],
    ids=str,
)
def test_sampling_settings_that_no_pipeline_has_are_refused(
    folder: Path, values: dict[str, Any]
) -> None:
    index = folder / "model_index.json"
    name = next(iter(values))
    if name in {*vars(Sampling()), "eta", "temperature"}:
        change(index, sampling={"solver": "sde", "num_inference_steps": 1} | values)
    else:
        change(index, **values)
    text = complaint(lambda: ImagePipeline.from_pretrained(folder))
    assert name in text or "format" in text


@pytest.mark.parametrize(
    ("values", "named"),
    [({"solver": "evil"}, "evil"), ({"solver": "sde", "eta": 7.0}, "eta"), ({"sampling": {}}, "")],
)
def test_settings_of_format_1_stand_one_by_one_and_are_checked_too(
    folder: Path, values: dict[str, Any], named: str
) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    del index["sampling"]
    old = {"solver": "heun", "num_inference_steps": 3, "time_shift": 1.0, "eta": 0.0}
    (folder / "model_index.json").write_text(json.dumps(index | old | {"format_version": 1}))
    (folder / "manifest.json").unlink()
    assert ImagePipeline.from_pretrained(folder).sampling == Sampling("heun", 3, 1.0)
    change(folder / "model_index.json", **values)
    assert named in complaint(lambda: ImagePipeline.from_pretrained(folder))


@pytest.mark.parametrize("text", ["[]", "3", "", "{", "[" * 100_000, '{"a": \xff}'])
@pytest.mark.parametrize("file", ["model_index.json", "encoder/config.json", "manifest.json"])
def test_what_is_no_json_object_is_one_sentence(folder: Path, file: str, text: str) -> None:
    (folder / "manifest.json").unlink()
    (folder / file).write_text(text, encoding="latin-1")
    assert file in complaint(lambda: ImagePipeline.from_pretrained(folder))


def _many(tensors: dict[str, torch.Tensor]) -> None:
    tensors |= {f"{i:0>90}": torch.zeros(0) for i in range(40_000)}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t.pop("norm_out.weight"), "norm_out.weight is missing"),
        (lambda t: t.update(more=torch.zeros(2)), "tensor more"),
        (lambda t: t.update({"norm_out.weight": torch.zeros(3)}), "norm_out.weight"),
        (lambda t: t.update({"norm_out.weight": torch.zeros(8).long()}), "damaged"),
        (_many, "damaged"),
    ],
)
def test_tensors_that_do_not_fit_the_settings_are_named(
    folder: Path, edit: Callable[[dict[str, torch.Tensor]], None], words: str
) -> None:
    change_weights(folder, edit)
    assert words in complaint(lambda: ImagePipeline.from_pretrained(folder))


@pytest.mark.parametrize("cut", [0, 4, 100, -8])
def test_weights_that_are_cut_are_refused(folder: Path, cut: int) -> None:
    weights = folder / "encoder" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:cut])
    (folder / "manifest.json").unlink()
    assert "damaged" in complaint(lambda: ImagePipeline.from_pretrained(folder))


def test_a_header_that_claims_to_be_endless_is_refused(folder: Path) -> None:
    (folder / "encoder" / WEIGHTS).write_bytes(b"\xff" * 64)
    (folder / "manifest.json").unlink()
    assert "damaged" in complaint(lambda: ImagePipeline.from_pretrained(folder))


def test_parts_of_two_models_are_refused(folder: Path, tmp_path: Path) -> None:
    other = make_models(
        image={"height": 8, "width": 8, "channels": 3, "patch_size": 4}, latent_channels=7
    )
    ImagePipeline(other.encoder, other.decoder).save_pretrained(tmp_path / "other")
    shutil.rmtree(folder / "decoder")
    shutil.copytree(tmp_path / "other" / "decoder", folder / "decoder")
    (folder / "manifest.json").unlink()
    assert "parts of two models" in complaint(lambda: ImagePipeline.from_pretrained(folder))


def test_another_pipelines_folder_is_refused(folder: Path) -> None:
    text = complaint(lambda: MoleculePipeline.from_pretrained(folder))
    assert "it cannot be a MoleculePipeline" in text


@pytest.mark.parametrize("name", ["guidance_scale", "temperature"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_sampling_with_a_number_that_is_not_finite_is_refused(
    sound: Path, name: str, value: float
) -> None:
    pipeline = ImagePipeline.from_pretrained(sound)
    assert name in complaint(lambda: pipeline(num_images=1, solver="sde", **{name: value}))


# ---- what works ---------------------------------------------------------------------------


def test_settings_and_the_type_can_be_given_when_loading(sound: Path) -> None:
    pipeline = ImagePipeline.from_pretrained(sound, guidance_scale=3.0, dtype=torch.bfloat16)
    assert pipeline.sampling.guidance_scale == 3.0
    assert pipeline.encoder.latent_output.weight.dtype == torch.bfloat16
    assert not pipeline.encoder.training


def test_no_parameter_is_left_without_contents(sound: Path) -> None:
    pipeline = ImagePipeline.from_pretrained(sound)
    for part in (pipeline.encoder, pipeline.decoder):
        tensors = [*part.parameters(), *part.buffers()]
        assert {tensor.device.type for tensor in tensors} == {"cpu"}
        assert all(parameter.requires_grad for parameter in part.parameters())


def test_weights_in_shards_load(sound: Path, tmp_path: Path) -> None:
    pipeline = ImagePipeline.from_pretrained(sound)
    pipeline.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards" / "encoder").glob("*.safetensors"))) > 1
    loaded = ImagePipeline.from_pretrained(tmp_path / "shards")
    expected = pipeline.encoder.state_dict()
    found = loaded.encoder.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_loaded_pipeline_is_saved_as_the_same_bytes(sound: Path, tmp_path: Path) -> None:
    ImagePipeline.from_pretrained(sound).save_pretrained(tmp_path / "again")
    for file in [*FILES, "manifest.json"]:
        assert (tmp_path / "again" / file).read_bytes() == (sound / file).read_bytes(), file


# ---- whole or not at all ------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [True, False])
def test_a_save_that_fails_leaves_what_was_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, before: bool
) -> None:
    pipeline = ImagePipeline.from_pretrained(folder, guidance_scale=3.0)
    if not before:
        shutil.rmtree(folder)
    was = contents(folder) if before else None

    def fail(path: Path) -> None:
        assert (path / "decoder" / WEIGHTS).is_file()
        raise error

    monkeypatch.setattr(saving, "write_manifest", fail)
    with pytest.raises(type(error)):
        pipeline.save_pretrained(folder)
    assert [p.name for p in folder.parent.iterdir()] == ([folder.name] if before else [])
    assert was is None or contents(folder) == was


def test_saving_again_replaces_the_pipeline_and_keeps_other_files(folder: Path) -> None:
    (folder / "README.md").write_text("a card")
    (folder / "encoder" / "diffusion_pytorch_model-00001-of-00002.safetensors").touch()
    ImagePipeline.from_pretrained(folder, guidance_scale=3.0).save_pretrained(folder)
    assert ImagePipeline.from_pretrained(folder).sampling.guidance_scale == 3.0
    assert sorted(contents(folder)) == sorted([*FILES, "manifest.json", "README.md"])
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("options", [{"safe_serialization": False}, {"variant": "fp16"}], ids=str)
def test_saving_as_anything_else_is_refused(
    sound: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    pipeline = ImagePipeline.from_pretrained(sound)
    assert "safetensors" in complaint(lambda: pipeline.save_pretrained(tmp_path, **options))


def test_the_manifest_goes_to_the_hub_too(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[set[str]] = []
    card = SimpleNamespace(save=lambda path: None)
    utilities = sys.modules["diffusers.utils.hub_utils"]
    monkeypatch.setattr(utilities, "create_repo", lambda name, **_: SimpleNamespace(repo_id=name))
    monkeypatch.setattr(utilities, "load_or_create_model_card", lambda name, **_: card)
    monkeypatch.setattr(utilities, "populate_model_card", lambda card: card)

    def upload(_: object, home: str, *__: object, **___: object) -> None:
        sent.append({*contents(Path(home))})

    monkeypatch.setattr(DiffusionPipeline, "_upload_folder", upload)
    ImagePipeline.from_pretrained(sound).push_to_hub("someone/model")
    assert sent == [{*FILES, "manifest.json"}]
