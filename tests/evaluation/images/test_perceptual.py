"""LPIPS and the gradient distance: by another route, ranges, gradients, and never saved."""

import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch
from tests.conftest import make_models
from torch import Tensor, nn

from openunite import pretrained as weights
from openunite.batch import Batch
from openunite.evaluation.images.perceptual import (
    HEADS_FILE,
    Lpips,
    gradient_distance,
    vgg16_shapes,
)
from openunite.modality import get_modality
from openunite.objective import UniteObjective


def images(seed: int, channels: int = 3, side: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, channels, side, side, generator=generator)


@pytest.fixture(scope="module")
def lpips() -> Lpips:
    return Lpips.random(0)


def test_equals_torch_modules_with_the_same_weights(lpips: Lpips) -> None:
    """VGG16's features as a Sequential in torchvision's order, then the formula of the paper."""
    layers: list[nn.Module] = []
    inputs = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width == 0:
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
    vgg = nn.Sequential(*layers)
    state = {k.removeprefix("features."): v for k, v in lpips._tensors.items() if "features" in k}
    vgg.load_state_dict(state)
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    a, b = images(0), images(1)
    expected, taps = torch.zeros(2), (3, 8, 15, 22, 29)  # relu1_2, 2_2, 3_3, 4_3, 5_3
    x, y = ((z * 2 - 1 - shift) / scale for z in (a, b))
    with torch.no_grad():
        for i, layer in enumerate(vgg):
            x, y = layer(x), layer(y)
            if i in taps:
                error = (nn.functional.normalize(x) - nn.functional.normalize(y)) ** 2
                head = lpips._tensors[f"lin{taps.index(i)}"]
                expected += torch.einsum("bchw,c->bhw", error, head).mean((1, 2))
    torch.testing.assert_close(lpips(a, b), expected, rtol=1e-4, atol=1e-6)


def test_zero_for_equal_images_and_symmetric(lpips: Lpips) -> None:
    a, b = images(0), images(1)
    assert lpips(a, a).abs().max() == 0.0
    torch.testing.assert_close(lpips(a, b), lpips(b, a))
    assert (lpips(a, b) > 0).all()


def test_gradient_reaches_the_output_alone_and_is_finite_on_black(lpips: Lpips) -> None:
    output = torch.zeros(2, 3, 16, 16, requires_grad=True)
    target = images(1, side=16).requires_grad_()
    lpips(output, target).sum().backward()
    assert output.grad is not None
    assert output.grad.isfinite().all()
    assert output.grad.abs().sum() > 0
    assert target.grad is None
    assert not any(tensor.requires_grad for tensor in lpips._tensors.values())


def test_grey_is_judged_as_color(lpips: Lpips) -> None:
    a, b = images(0, channels=1), images(1, channels=1)
    torch.testing.assert_close(lpips(a, b), lpips(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("distance", [Lpips.random(1), gradient_distance])
def test_targets_outside_the_range_are_refused(distance) -> None:
    with pytest.raises(ValueError, match=r"expected target images in \[0, 1\], got -1 to 1"):
        distance(images(0), images(1) * 2.0 - 1.0)
    with pytest.raises(ValueError, match=r"expected target images in \[0, 1\]"):
        distance(images(0), images(1) * 255.0)
    with pytest.raises(ValueError, match="one shape"):
        distance(images(0), images(1)[:1])


def test_images_below_sixteen_pixels_are_refused(lpips: Lpips) -> None:
    with pytest.raises(ValueError, match="at least 16 pixels"):
        lpips(images(0, side=8), images(1, side=8))


def test_packaged_heads_are_those_of_the_lpips_package(lpips: Lpips) -> None:
    """OPENUNITE_LPIPS_HEADS, or an installed `lpips`, gives the original; neither is imported."""
    path = os.environ.get("OPENUNITE_LPIPS_HEADS", "")
    if not path:
        try:
            path = str(distribution("lpips").locate_file("lpips/weights/v0.1/vgg.pth"))
        except PackageNotFoundError:
            pytest.skip("neither OPENUNITE_LPIPS_HEADS nor the package lpips")
    original = torch.load(path, map_location="cpu", weights_only=True)
    for i in range(5):
        packaged = lpips._tensors[f"lin{i}"]
        assert torch.equal(packaged, original[f"lin{i}.model.1.weight"].flatten()), HEADS_FILE


def test_loads_torchvisions_file(tmp_path: Path, lpips: Lpips) -> None:
    state = {name: lpips._tensors[name] for name in vgg16_shapes()}
    path = tmp_path / "vgg16-397923af.pth"
    torch.save({**state, "classifier.6.bias": torch.zeros(1000)}, path)
    a, b = images(0), images(1)
    torch.testing.assert_close(Lpips.load(tmp_path)(a, b), lpips(a, b))
    torch.save({**state, "features.2.bias": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"features\.2\.bias is \(3,\), expected \(64,\)"):
        Lpips.load(path)


def test_weights_that_cannot_be_had_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(FileNotFoundError, match=r"LPIPS needs VGG16: .* 'gradients' or 'none'"):
        Lpips.load()
    with pytest.raises(FileNotFoundError, match=str(weights.weights_dir())):
        Lpips.load()
    with pytest.raises(FileNotFoundError, match="found no file"):
        Lpips.load(tmp_path / "nowhere.pth")


def test_gradient_distance_by_hand() -> None:
    """An edge of height 1 in a 2 x 2 image: the mean of |difference| is 1 along one axis."""
    target = torch.zeros(1, 1, 2, 2)
    output = target.clone()
    output[..., 1] = 1.0
    assert gradient_distance(output, target).item() == pytest.approx(1.0)
    assert gradient_distance(output + 0.3, output.clamp(0, 1)).item() == pytest.approx(
        0.0, abs=1e-6
    )


def test_gradient_distance_sees_blur_that_l1_hardly_does() -> None:
    target = (torch.arange(32) % 2).float().expand(1, 1, 32, 32)
    grey, shifted = torch.full_like(target, 0.5), (target * 0.5)
    assert (grey - target).abs().mean() == 2 * (shifted - target).abs().mean()
    assert gradient_distance(grey, target) > 1.9 * gradient_distance(shifted, target)


def test_the_loss_of_a_modality_has_it_as_a_part() -> None:
    shape = {"height": 16, "width": 16, "channels": 1, "patch_size": 4}
    output, batch = images(0, 1, 16), Batch(images(1, 1, 16), torch.arange(2))
    plain = get_modality("image", shape).reconstruction_losses(output, batch)
    both = get_modality("image", shape | {"perceptual": "gradients", "perceptual_weight": 0.5})
    losses = both.reconstruction_losses(output, batch)
    assert set(plain) == {"l1"}
    assert set(losses) == {"l1", "gradients"}
    expected = 0.5 * gradient_distance(output, batch.data).mean()
    torch.testing.assert_close(losses["gradients"], expected)
    with pytest.raises(ValueError, match="perceptual must be one of"):
        get_modality("image", shape | {"perceptual": "vgg"})


def test_lpips_is_no_part_of_what_is_trained_or_saved(lpips: Lpips) -> None:
    models = make_models(
        image={"height": 16, "width": 16, "channels": 3, "patch_size": 8, "perceptual": "lpips"}
    )
    assert not isinstance(lpips, nn.Module)
    models.modality.use_distance(lpips)
    objective = UniteObjective(models.encoder, models.decoder, models.modality)
    for module in (objective.encoder, objective.decoder):
        assert not any("features" in name or "lin0" in name for name in module.state_dict())
    batch = Batch(images(1, side=16), torch.arange(2))
    losses = models.modality.reconstruction_losses(images(0, side=16), batch)
    torch.testing.assert_close(
        losses["lpips"], lpips(images(0, side=16), images(1, side=16)).mean()
    )
