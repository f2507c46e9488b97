"""Conversion of a checkpoint in the released format: what is mapped, checked, written."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.released_checkpoint import is_model, models, released, run

import openunite.convert
from openunite.convert import ConversionReport, convert
from openunite.convert.released import released_names, sizes_of
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import GenerativeEncoder


def test_conversion_keeps_the_function_and_accounts_for_every_tensor(tmp_path: Path) -> None:
    weights = released()
    report, pipeline = run(tmp_path, weights)
    assert is_model(pipeline, 0)
    assert not is_model(pipeline, 1)
    whole_tensors = [name for name in report.unused if "[" not in name]
    assert report.mapped + len(whole_tensors) == len(weights)
    assert report.unexpected == []
    assert "perceptual" in report.unused["lpips_loss.net.0.bias"]
    assert "never read" in report.unused["encoder.pos_embed"]
    assert "recomputed" in report.unused["encoder.feat_rope.freqs_cos"]
    assert report.parameters["decoder"] == models()[1].num_parameters()
    assert report.sizes["encoder"]["num_classes"] == 5
    assert (pipeline.sampling.solver, pipeline.sampling.num_inference_steps) == ("heun", 50)
    saved = json.loads((tmp_path / "pipeline" / "conversion.json").read_text())
    assert ConversionReport(**saved) == report
    assert saved["averaging"] == "unknown"  # the file is one set of weights without a name
    text = report.summary()
    assert "not used: lpips_loss.net.0.bias and 1 more" in text
    assert "dopri5" in text
    assert str(tmp_path) not in text


def test_unexpected_tensor_is_listed(tmp_path: Path) -> None:
    report, _ = run(tmp_path, released() | {"encoder.blocks.0.extra": torch.zeros(1)})
    assert report.unexpected == ["encoder.blocks.0.extra"]
    assert "unexpected and not used: encoder.blocks.0.extra" in report.summary()


def test_missing_and_misshapen_tensors(tmp_path: Path) -> None:
    weights = released()
    missing = ("encoder.blocks.1.mlp.w3.bias", "decoder.decoder_norm.weight")
    with pytest.raises(ValueError, match=r"got all but encoder.blocks.1.*, decoder.decoder_norm"):
        run(tmp_path, {name: x for name, x in weights.items() if name not in missing})
    wrong = {"encoder.blocks.1.attn.qkv.weight": torch.zeros(72, 23)}
    message = r"encoder.blocks.1.attn.qkv.weight: expected \(72, 24\), got \(72, 23\)"
    with pytest.raises(ValueError, match=message):
        run(tmp_path, weights | wrong)
    with pytest.raises(ValueError, match=r"latent_tokens: expected 3 axes, got shape \(16, 24\)"):
        run(tmp_path, weights | {"latent_tokens": torch.zeros(16, 24)})
    with pytest.raises(ValueError, match="as many latent_tokens as patches"):
        run(tmp_path, weights | {"latent_tokens": torch.zeros(1, 15, 24)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.safetensors"]


@pytest.mark.parametrize("name", ["decoder.decoder_pos_embed", "encoder.feat_rope.freqs_cos"])
def test_other_fixed_tables_are_refused(tmp_path: Path, name: str) -> None:
    weights = released()
    weights[name] = weights[name] + 0.01
    with pytest.raises(ValueError, match=f"{name}: expected the fixed table .*differs by 0.01"):
        run(tmp_path, weights)
    with pytest.raises(ValueError, match=f"{name}: expected .*, got .*"):
        run(tmp_path, weights | {name: weights[name][:, 1:].clone()})


def test_patch_positions_of_the_file_are_kept(tmp_path: Path) -> None:
    weights = released()
    table = torch.randn(1, 17, 24)
    report, pipeline = run(tmp_path, weights | {"patch_embed.position_embeddings": table})
    assert torch.equal(pipeline.encoder.embedder.positions, table[0, 1:])
    assert any("not zero" in note for note in report.notes)


def test_other_number_types_and_broken_values_are_noted(tmp_path: Path) -> None:
    weights = released()
    weights["encoder.up_sample.bias"] = weights["encoder.up_sample.bias"].bfloat16()
    weights["encoder.up_sample.weight"] = weights["encoder.up_sample.weight"] * float("nan")
    report, pipeline = run(tmp_path, weights)
    assert "tensors stored as torch.bfloat16 became float32" in report.notes
    assert "not finite: encoder.up_sample.weight" in report.notes
    assert pipeline.encoder.register_input.bias.dtype == torch.float32


@pytest.mark.parametrize("given", [{}, {"context_start": 1}, {"decoder_heads": 2}])
def test_other_sizes_need_what_a_checkpoint_does_not_say(
    tmp_path: Path, given: dict[str, int]
) -> None:
    save_file(released(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="encoder 2 x 24, decoder 3 x 16; pass --context-start"):
        convert(tmp_path / "w.safetensors", tmp_path / "pipeline", **given)


def test_size_b_needs_nothing() -> None:
    """Names and shapes only: tensors without storage."""
    with torch.device("meta"):
        found = {name: torch.empty(1) for name in released_names(12, 12)}
        found |= {
            "latent_tokens": torch.empty(1, 256, 768),
            "patch_embed.position_embeddings": torch.empty(1, 257, 768),
            "patch_embed.patch_embeddings.projection.weight": torch.empty(768, 3, 16, 16),
            "encoder.in_context_posemb": torch.empty(1, 32, 768),
            "encoder.y_embedder.embedding_table.weight": torch.empty(1002, 768),
            "encoder.blocks.0.attn.q_norm.weight": torch.empty(64),
            "encoder_layer_norm.weight": torch.empty(32),
            "decoder.decoder_embed.weight": torch.empty(768, 768),
            "decoder.decoder_layers.0.ffn_up.weight": torch.empty(3072, 768),
        }
        sizes = sizes_of(found, None, None)
        encoder, decoder = GenerativeEncoder(**sizes["encoder"]), Decoder(**sizes["decoder"])
    assert encoder.config.context_start == 4
    assert (encoder.config.num_heads, decoder.config.num_heads) == (12, 12)
    assert (encoder.config.num_classes, encoder.config.modality_config["height"]) == (1000, 256)
    count = sum(x.numel() for model in (encoder, decoder) for x in model.parameters())
    assert count == 217_642_080  # 217.64 M in the paper


def test_output_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    run(tmp_path, released())  # an empty folder is fine
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "pipeline").rglob("*")}
    with pytest.raises(ValueError, match=r"expected a new or empty output folder, got .*pipeline"):
        run(tmp_path, released(1))
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "pipeline").rglob("*")}


def test_failure_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(openunite.convert.json, "dumps", fail)
    with pytest.raises(OSError, match="disk full"):
        run(tmp_path, released())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.safetensors"]
