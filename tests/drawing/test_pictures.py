"""Grids hold the right pixels at the right places; curves survive what killed runs leave."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from openunite.drawing import pictures
from openunite.drawing.figures import running_mean
from openunite.drawing.pictures import class_grid, draw_curves, image_grid, pair_grid

GAP = 2


def array(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_a_single_image_comes_back_unchanged(channels: int, mode: str) -> None:
    image = torch.randint(0, 256, (1, channels, 5, 7), dtype=torch.uint8)
    picture = image_grid(image, columns=1, scale=1)
    assert picture.mode == mode
    assert picture.size == (7, 5)
    assert np.array_equal(array(picture), image[0].permute(1, 2, 0).numpy())


def test_floats_are_clamped_and_rounded() -> None:
    image = torch.tensor([-1.0, 0.5, 2.0, torch.nan]).view(1, 1, 1, 4)
    assert array(image_grid(image, columns=1, scale=1)).ravel().tolist() == [0, 128, 255, 0]


def test_places_enlargement_and_gaps() -> None:
    values = torch.tensor([10, 20, 30, 40, 50], dtype=torch.uint8)
    picture = array(image_grid(values.view(5, 1, 1, 1).expand(5, 1, 2, 3), columns=3, scale=4))
    height, width = 8, 12
    assert picture.shape == (2 * height + GAP, 3 * width + 2 * GAP, 1)
    for i, value in enumerate(values):
        top, left = i // 3 * (height + GAP), i % 3 * (width + GAP)
        assert (picture[top : top + height, left : left + width] == int(value)).all()
    gap = picture[height : height + GAP]
    assert (gap == gap[0, 0]).all()
    assert (picture[-height:, -width:] == gap[0, 0]).all()  # no sixth image


@pytest.mark.parametrize(("side", "scale"), [(28, 3), (32, 3), (64, 1), (8, 12), (300, 1)])
def test_small_images_are_enlarged(side: int, scale: int) -> None:
    assert image_grid(torch.rand(1, 1, side, side), columns=1).size == (side * scale, side * scale)


def test_gaps_are_clear_where_there_is_alpha() -> None:
    picture = array(image_grid(torch.ones(2, 4, 3, 3), columns=2, scale=1))
    assert (picture[:, 3 : 3 + GAP, 3] == 0).all()
    assert (picture[:, :3] == 255).all()


def test_class_grid_has_a_row_per_class_and_its_name() -> None:
    samples = torch.arange(6, dtype=torch.uint8).mul(40).view(2, 3, 1, 1, 1).expand(2, 3, 1, 28, 28)
    bare = array(class_grid(samples, scale=1))
    assert bare.shape == (2 * 28 + GAP, 3 * 28 + 2 * GAP, 1)
    assert bare[40, 40].item() == 4 * 40
    named = class_grid(samples, ["bag", "ankle boot"], scale=1)
    margin = named.width - bare.shape[1]
    assert margin > 40
    assert np.array_equal(array(named)[:, margin:, :1], bare)
    left = array(named)[:, :margin].min(axis=-1)
    assert (left[:28] < 128).sum() > 10  # ink in both rows, more for the longer name
    assert (left[30:] < 128).sum() > (left[:28] < 128).sum()


def test_long_names_are_cut() -> None:
    samples = torch.zeros(1, 1, 1, 28, 28)
    assert class_grid(samples, ["n" * 500]).width < 400


def test_pair_grid_puts_inputs_above_outputs() -> None:
    values = torch.tensor([50, 100, 150], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 28, 28)
    picture = pair_grid(values, values + 5, columns=2, scale=1)
    pixels = array(picture)[..., 0]
    margin = picture.width - (2 * 28 + GAP)
    first, second = pixels[14, margin:], pixels[28 + GAP + 14, margin:]
    assert (first[5], first[-5], second[5], second[-5]) == (50, 100, 55, 105)
    assert pixels[-28 - GAP - 14, margin + 5] == 150
    assert pixels[-14, margin + 5] == 155


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="C of 1 to 4"):
        image_grid(torch.zeros(2, 5, 4, 4), columns=2)
    with pytest.raises(ValueError, match="at least one image"):
        image_grid(torch.zeros(0, 1, 4, 4), columns=2)
    with pytest.raises(ValueError, match="columns"):
        image_grid(torch.zeros(2, 1, 4, 4), columns=0)
    with pytest.raises(ValueError, match="int64"):
        image_grid(torch.zeros(2, 1, 4, 4, dtype=torch.int64), columns=2)
    with pytest.raises(ValueError, match="one shape"):
        pair_grid(torch.zeros(2, 1, 4, 4), torch.zeros(3, 1, 4, 4))
    with pytest.raises(ValueError, match="2 class names, got 1"):
        class_grid(torch.zeros(2, 3, 1, 4, 4), ["one"])
    with pytest.raises(ValueError, match="per class"):
        class_grid(torch.zeros(6, 1, 4, 4))


def write_log(path: Path, steps: int, tail: str = "") -> Path:
    rows = [
        {"step": s, "loss_reconstruction": 1.0 / s, "loss_flow": 0.5, "latent_spread": 0.4}
        | ({"effective_rank": 7.0} if s % 10 == 0 else {})
        | ({"learning_rate": 1e-3} if s != 3 else {})
        for s in range(1, steps + 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path


def drawn(path: Path) -> np.ndarray:
    draw_curves(path, path.with_suffix(".png"))
    with Image.open(path.with_suffix(".png")) as picture:
        assert min(picture.size) > 600
        return np.asarray(picture.convert("RGB")).astype(int)


def colorfulness(pixels: np.ndarray) -> int:
    return int((pixels.max(-1) - pixels.min(-1) > 60).sum())


def test_curves_show_lines_in_all_four_panels(tmp_path: Path) -> None:
    pixels = drawn(write_log(tmp_path / "metrics.jsonl", 200))
    middle, center = pixels.shape[0] // 2, pixels.shape[1] // 2
    for panel in (
        pixels[:middle, :center],
        pixels[:middle, center:],
        pixels[middle:, :center],
        pixels[middle:, center:],
    ):
        assert colorfulness(panel) > 300


def test_a_truncated_last_line_changes_nothing(tmp_path: Path) -> None:
    whole = drawn(write_log(tmp_path / "whole.jsonl", 50))
    cut = drawn(write_log(tmp_path / "cut.jsonl", 50, tail='{"step": 51, "loss_flo'))
    assert np.array_equal(whole, cut)


@pytest.mark.parametrize(
    "text",
    ["", '{"step": 1}\n', '{"step": 1, "loss_flow": NaN, "loss_reconstruction": 0.0}\n', "[]\n7\n"],
)
def test_curves_of_next_to_nothing_are_drawn(tmp_path: Path, text: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    assert colorfulness(drawn(path)) < 300


def test_a_repeated_step_counts_once_and_the_later_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 2, "loss_flow": 9}\n{"step": 1, "loss_flow": 4}\n{"step": 2, "loss_flow": 5}'
    )
    steps, values = pictures._series(pictures.read_rows(path), "loss_flow")
    assert (steps.tolist(), values.tolist()) == ([1.0, 2.0], [4.0, 5.0])


def test_running_mean_keeps_lines_and_averages_noise() -> None:
    line = np.arange(1000.0)
    smooth = running_mean(line)
    np.testing.assert_allclose(smooth[10:-10], line[10:-10])
    noise = np.random.default_rng(0).standard_normal(1000)
    assert running_mean(noise).std() < 0.4
    np.testing.assert_allclose(running_mean(noise[:20]), noise[:20])


def test_matplotlib_is_imported_only_to_draw_and_pyplot_never(tmp_path: Path) -> None:
    path = write_log(tmp_path / "metrics.jsonl", 5)
    code = (
        "import sys; from openunite.drawing.pictures import draw_curves\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"draw_curves({str(path)!r}, {str(tmp_path / 'out.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
