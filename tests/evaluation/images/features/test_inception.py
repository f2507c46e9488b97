"""InceptionV3: the shape table, TensorFlow's resize, and torch-fidelity where it is installed."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from openunite.evaluation.images.features.inception import (
    InceptionExtractor,
    InceptionV3,
    load_inception,
    resize_as_tensorflow,
)
from openunite.pretrained import shapes_of


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the layout of the published file, with batch norms that do something."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes_of(InceptionV3).items():
        value = torch.randn(shape, generator=generator)
        if name.endswith(("bn.weight", "running_var")):
            value = 1.0 + 0.2 * value.clamp(-2.0, 2.0)
        elif len(shape) == 4:
            value = value * (2.0 / (shape[1] * shape[2] * shape[3])) ** 0.5
        else:
            value = 0.1 * value
        state[name] = value
    path = tmp_path_factory.mktemp("weights") / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(state, path)
    return path


def pictures(side: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, side, side + 7), generator=generator, dtype=torch.uint8)


def test_the_table_is_that_of_the_published_network() -> None:
    """94 convolutions; 23,834,568 parameters with 1,000 classes and no auxiliary head."""
    shapes = shapes_of(InceptionV3)
    assert sum(name.endswith("conv.weight") for name in shapes) == 94
    learned = [s for n, s in shapes.items() if "running" not in n]
    total = sum(torch.Size(shape).numel() for shape in learned)
    assert total == 23_834_568 + 8 * 2049
    assert shapes["fc.weight"] == (1008, 2048)
    assert shapes["Mixed_6c.branch7x7dbl_4.conv.weight"] == (160, 160, 7, 1)


def test_features_and_logits(weights: Path) -> None:
    extract = load_inception(weights)
    found = extract(pictures().float() / 255.0)
    assert found.values.shape == (2, 2048)
    assert found.logits is not None
    assert found.logits.shape == (2, 1008)
    assert len(extract.checksum) == 64
    assert extract.label != "FID"  # that name belongs to the published weights


def test_only_the_published_weights_are_called_fid() -> None:
    assert InceptionExtractor(InceptionV3(), "6726825d" + 56 * "0").label == "FID"


def test_resize_takes_pixel_corners() -> None:
    """A ramp of two pixels to four: 0, 1/2, 1, and the last beyond the edge."""
    ramp = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(1, 1, 2, 2)
    wide = resize_as_tensorflow(ramp, 4)
    torch.testing.assert_close(wide[0, 0, 0], torch.tensor([0.0, 0.5, 1.0, 1.0]))
    small = resize_as_tensorflow(torch.arange(6.0).view(1, 1, 1, 6).expand(1, 1, 6, 6), 3)
    torch.testing.assert_close(small[0, 0, 0], torch.tensor([0.0, 2.0, 4.0]))


def test_another_network_is_refused(tmp_path: Path, weights: Path) -> None:
    state = torch.load(weights, weights_only=True)
    state["fc.weight"] = torch.zeros(1000, 2048)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"fc\.weight is \(1000, 2048\), expected \(1008, 2048\)"):
        load_inception(tmp_path / "other.pth")
    del state["Mixed_5b.branch1x1.conv.weight"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(ValueError, match=r"missing, first Mixed_5b\.branch1x1\.conv\.weight"):
        load_inception(tmp_path / "less.pth")


def test_equal_to_torch_fidelity_on_the_same_weights(weights: Path) -> None:
    """Random weights separate every slip in the architecture, the resize and the scaling."""
    module = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3",
        reason="torch-fidelity (and the torchvision it needs) cannot be imported",
        exc_type=ImportError,
    )
    reference = module.FeatureExtractorInceptionV3(
        "inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights)
    ).eval()
    images = pictures()
    with torch.no_grad():
        features, logits = reference(images)
    found = load_inception(weights)(images.float() / 255.0)
    assert found.logits is not None
    torch.testing.assert_close(found.values, features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.logits, logits, rtol=1e-4, atol=1e-4)
