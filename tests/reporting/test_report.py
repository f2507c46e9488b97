"""`openunite report`: a page that is valid, needs nothing outside itself, and escapes names."""

import base64
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from tests.evaluation.cards import CARD, changed
from tests.training.tiny import tiny_config

from openunite.cli import main
from openunite.evaluation.measured import Measured
from openunite.reporting.build import run_page
from openunite.reporting.page import Table, shown
from openunite.runs import load_pipeline, weights_checksums
from openunite.training.config import save_config

RUN = Path(__file__).parents[1] / "fixtures" / "format_1" / "run"
VOID = {"meta", "link", "img", "br", "hr"}
EVIL = "<script>alert('x')</script> & \"co\" {{ 7 * 7 }}"
CONTROLS = "\x1b]0;owned\x07\x00\x9b31m\u202egpj\udcff"


class Checker(HTMLParser):
    """Open and closed elements must match; collects what a test asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as `train`, `evaluate` and `analyze` leave one, with names to be escaped."""
    folder = tmp_path / "run <1> & co"
    (folder / "analysis").mkdir(parents=True)
    (folder / "previews").mkdir()
    save_config(tiny_config(), folder / "config.yaml")
    for name in (
        "samples.png",
        "reconstructions.png",
        "curves.png",
        "sweep.png",
        "analysis/probe.png",
        "analysis/probe.gif",
        *(f"previews/step-{step:08d}.png" for step in range(500, 4500, 500)),
    ):
        Image.new("RGB", (6, 4), "red").save(folder / name)
    write(folder / "data.json", {"name": EVIL, "train_size": 6000, "class_names": [EVIL, "b"]})
    metrics = {
        "recon_psnr_db": 23.456,
        "sample_accuracy": 0.78,
        "classifier_test_accuracy": 0.907,
        "parameters": 1595681,
        "train_seconds": 90.0,
        "odd": None,
    }
    write(folder / "metrics.json", metrics)
    columns = {
        "unguided": {"class_accuracy": Measured(0.78, 0.01, 100)},
        "reference": {"class_accuracy": Measured(0.907)},
        "reconstructions": {"psnr_db": Measured(23.456)},
    }
    replace(CARD, metrics=columns).save(folder / "card.json")
    columns = {
        "guided": {"fd": Measured(1.5), "odd": Measured(0.25)},
        "real": {"fd": Measured(0.125)},
    }
    card = replace(changed("extractor", name=EVIL, label=EVIL), metrics=columns)
    replace(card, warnings=("few samples",)).save(folder / "card-fashion.json")
    replace(CARD, metrics={"scale 1": {"fd": Measured(7.0)}}).save(folder / "sweep-fashion.json")
    entry = {
        "name": "dynamics",
        "title": f"Title {EVIL}",
        "reading": "How to read it.",
        "chart": True,
        "files": ["probe.png", "probe.gif"],
        "numbers": {"verdict": "collapsed", "accuracy": 0.75, "long": [1, 2]},
    }
    missing = {"Latents": "there are no images"}
    write(folder / "analysis" / "analysis.json", {"analyses": [entry], "missing": missing})
    return folder


def write(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values))


def parsed(run: Path) -> tuple[str, Checker]:
    main(["report", str(run)])
    html = (run / "report.html").read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return html, checker


def test_the_page_is_whole_and_asks_for_nothing(run: Path) -> None:
    html, page = parsed(run)
    assert html.startswith("<!DOCTYPE html>")
    assert not {tag for tag, _ in page.elements} & {"script", "iframe", "object", "video", "form"}
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "poster"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:", "#")), (tag, value)
        assert not any(name.startswith("on") for name in attributes)
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_pictures_are_inlined_with_a_text_and_a_size(run: Path) -> None:
    _, page = parsed(run)
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 3 + 4 + 2 + 1  # pictures, four previews, analysis, the unknown one
    for image in images:
        kind, data = re.fullmatch(r"data:image/(png|gif);base64,(.*)", image["src"]).groups()
        assert base64.b64decode(data)[:4] == {"png": b"\x89PNG", "gif": b"GIF8"}[kind]
        assert image["alt"]
        assert (image["width"], image["height"]) == ("6", "4")


def test_names_are_escaped_and_shown(run: Path) -> None:
    html, page = parsed(run)
    assert "<script>" not in html
    text = "".join(page.text)
    assert "Run run <1> & co" in text
    assert f"Title {EVIL}" in text
    assert f"trained on {EVIL}" in text


def test_control_characters_are_made_visible(run: Path) -> None:
    write(run / "data.json", {"name": CONTROLS, "class_names": [CONTROLS, "b"]})
    write(run / "card-fashion.json", {"warnings": [CONTROLS], "protocol": {CONTROLS: CONTROLS}})
    (run / "report.txt").write_text(f"two\nlines {CONTROLS[:5]}")
    html, page = parsed(run)
    shown = r"\x1b]0;owned\x07\x00\x9b31m\u202egpj\udcff"
    text = "".join(page.text)
    assert text.count(shown) >= 5
    assert "two\nlines \\x1b]0;o" in text
    assert not {c for c in html if ord(c) < 32} - {"\n"}
    assert not set(html) & set(CONTROLS[1:] + "\x7f") - set("]0;owned31mgpj")


def test_metrics_cards_and_analyses_are_tables_that_scroll(run: Path) -> None:
    html, page = parsed(run)
    text = "".join(page.text)
    for wanted in ("23.5 dB", "78.0%", "real images 90.7%", "1,595,681", "undefined"):
        assert wanted in text, wanted
    assert "0.78 ± 0.01" in text
    assert "extractor.checksum" in text
    assert "few samples" in text
    guided = '<th scope="col" class="number">guided</th><th scope="col" class="number">real</th>'
    assert guided in html
    assert ', lower is better</th><td class="number">1.5</td><td class="number">0.125</td>' in html
    assert ">FD-Fashion, lower is better</th>" in html
    assert '<th scope="row">odd</th><td class="number">0.25</td>' in html
    assert text.count("psnr") == 0  # what the card has is not listed again
    assert "How to read it." in text
    assert "Left out, because there are no images: Latents." in text
    tables = html.count("<table")
    assert tables == html.count('class="scroll"') >= 6
    assert page.elements.count(("html", {"lang": "en"})) == 1


def test_a_joint_run_shows_both_of_its_folders(run: Path) -> None:
    config = tiny_config(modality="joint", modality_config={}, num_classes=2)
    save_config(config, run / "config.yaml")
    metrics = {"structures_per_second": 31.5}
    for part in ("molecules", "crystals"):
        (run / part).mkdir()
        Image.new("RGB", (6, 4), "red").save(run / part / "samples.png")
        (run / part / "report.txt").write_text(f"the text of {part}")
        metrics |= {f"{part}_sample_validity": 0.5, f"{part}_real_validity": 0.75}
        columns = {"samples": {"validity": Measured(0.5)}, "real": {"validity": Measured(0.75)}}
        replace(CARD, kind=part, metrics=columns, extractor=None).save(run / part / "card.json")
    write(run / "metrics.json", metrics)
    html, page = parsed(run)
    text = "".join(page.text)
    assert sum(tag == "img" for tag, _ in page.elements) == 10 + 2
    assert "31.5" in text
    for part in ("molecules", "crystals"):
        assert f"the text of {part}" in text
        assert f"{part} sample" not in text
    for label in ("valid", "validity (both)"):
        row = f'<th scope="row">{label}, higher is better</th><td class="number">0.5</td>'
        assert html.count(f'{row}<td class="number">0.75</td>') == 1
    assert text.count("real 75.0%") == 2


def test_a_collapsed_run_says_so_at_the_top(run: Path) -> None:
    html, _ = parsed(run)
    assert "have collapsed" in html.split("<main>")[0]


def test_links_lead_somewhere(run: Path) -> None:
    _, page = parsed(run)
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = {a["href"][1:] for tag, a in page.elements if tag == "a"}
    assert links == targets
    assert len(links) >= 6


def test_a_bare_run_has_a_page_too(tmp_path: Path) -> None:
    save_config(tiny_config(), tmp_path / "config.yaml")
    html, page = parsed(tmp_path)
    text = "".join(page.text)
    assert "not finished" in text
    assert "run `openunite analyze`" in text
    assert "<img" not in html


def test_light_and_dark(run: Path) -> None:
    html, page = parsed(run)
    style = html.split("<style>")[1].split("</style>")[0]
    assert "color-scheme: light dark" in style
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for name in ("--page", "--card", "--ink", "--soft", "--line", "--warn", "--warn-page"):
        assert f"{name}: #" in light
        assert f"{name}: #" in dark
    assert ("meta", {"name": "color-scheme", "content": "light dark"}) in page.elements


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1234567, "1,234,567"),
        (2026, "2026"),
        (0.123456, "0.1235"),
        (float("nan"), "undefined"),
        (True, "yes"),
        (None, "none"),
        ([], "none"),
        ([1, 2.5], "1, 2.5"),
        (list(range(20)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ... (20)"),
    ],
)
def test_values_as_shown(value: object, expected: str) -> None:
    assert shown(value) == expected


def test_mistakes_are_one_sentence(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        ([str(tmp_path)], "is no run"),
        ([str(run), "--output", "page.pdf"], "must end in .html"),
    ):
        with pytest.raises(SystemExit):
            main(["report", *arguments])
        assert message in capsys.readouterr().err
    (run / "metrics.json").write_text("{")
    with pytest.raises(SystemExit):
        main(["report", str(run)])
    assert "it is no JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("card-fashion.json", b"{", "is damaged: it is no JSON"),
        ("sweep-fashion.json", b'{"curve": "\xff"}', "is damaged: it is no JSON"),
        ("analysis/analysis.json", b'{"missing": {}}', "is no record of `openunite analyze`"),
        ("analysis/analysis.json", b'{"analyses": [{}], "missing": {}}', "is no record of"),
        ("analysis/analysis.json", b'{"analyses": [1], "missing": {}}', "is no record of"),
        ("metrics.json", b"[1, 2]", "is damaged: expected a mapping, got list"),
        ("data.json", b"[" * 100_000, "is damaged: it is no JSON"),
        ("config.yaml", b"\xff", "is not plain YAML"),
    ],
)
def test_a_damaged_record_is_named(run: Path, name: str, content: bytes, message: str) -> None:
    (run / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{Path(name).name} {message}"):
        run_page(run)


def test_a_picture_that_cannot_be_read_is_left_out_by_name(run: Path) -> None:
    _, whole = parsed(run)
    (run / "samples.png").write_bytes(b"no picture")
    Image.effect_noise((64, 64), 50).save(run / "sweep.png")
    (run / "sweep.png").write_bytes((run / "sweep.png").read_bytes()[:2000])  # cut off
    (run / "analysis" / "probe.png").unlink()
    _, page = parsed(run)
    images = [sum(tag == "img" for tag, _ in found.elements) for found in (whole, page)]
    assert images[1] == images[0] - 3
    for name in ("samples.png", "sweep.png", "probe.png"):
        assert f"{name} is left out" in "".join(page.text)


@pytest.mark.parametrize(
    ("tokenizer", "stage", "origin", "expected"),
    [
        ("shared", "joint", None, "One network that tokenizes and generates, trained on"),
        ("shared", "joint", "runs/a", "One network that tokenizes and generates, started from"),
        ("separate", "joint", None, "A network that tokenizes and another one that generates"),
        ("separate", "autoencoder", None, "An autoencoder, the first of two stages, trained on"),
        ("posterior", "autoencoder", None, "stages, with a posterior as in a KL-VAE, trained on"),
        ("separate", "denoiser", "runs/a", "the second of two stages, started from runs/a"),
        ("shared", "decoder", "runs/a", "A decoder trained further against a discriminator"),
    ],
)
def test_the_opening_says_what_was_trained_and_from_what(
    tmp_path: Path, tokenizer: str, stage: str, origin: str | None, expected: str
) -> None:
    norm = "none" if tokenizer == "posterior" else "layernorm"
    config = tiny_config()
    model = replace(config.model, tokenizer=tokenizer, latent_norm=norm)
    objective = replace(config.objective, stage=stage)
    config = replace(config, model=model, objective=objective, init_from=origin)
    save_config(config, tmp_path / "config.yaml")
    opening = run_page(tmp_path).split("<main>")[0]
    assert expected in opening
    assert ("started from runs/a" in opening) == (origin is not None)
    assert ("One network" in opening) == ((tokenizer, stage) == ("shared", "joint"))


def test_commands_for_what_is_not_there_yet(run: Path, tmp_path: Path) -> None:
    assert "openunite evaluate" not in run_page(run)
    (run / "card-fashion.json").unlink()
    assert "openunite evaluate" in run_page(run)
    assert "openunite sweep" not in run_page(run)
    save_config(tiny_config(), tmp_path / "config.yaml")
    html = run_page(tmp_path)
    assert f"`openunite evaluate {tmp_path}`" in html
    assert f"`openunite sweep {tmp_path}`" in html
    save_config(tiny_config(num_classes=0), tmp_path / "config.yaml")
    assert "openunite sweep" not in run_page(tmp_path)


def test_frechet_distances_and_guidance_are_explained(run: Path) -> None:
    (run / "card.json").unlink()
    assert "not FID" not in run_page(run)
    CARD.save(run / "card.json")
    text = "".join(parsed(run)[1].text)
    assert "FD-Fashion uses the features of fashion. It is not FID" in text
    assert "KID: kernel distance of features; unbiased, so it can be negative." in text
    assert "guidance scale 2; 1 is none" in text


def test_unset_settings_are_none_and_lost_numbers_undefined(run: Path) -> None:
    html = run_page(run)
    assert '<th scope="row">init_from</th><td>none</td>' in html
    assert '<th scope="row">trackers</th><td>none</td>' in html
    assert '<th scope="row">odd</th><td class="number">undefined</td>' in html


def test_numbers_below_zero_are_numbers() -> None:
    table = Table("Distances", [("guided", -0.001, "a"), ("real", 0.25, "1")], ("", "KID", ""))
    assert table.cells[0] == [("", False), ("KID", True), ("", False)]
    assert table.cells[1] == [("guided", False), ("-0.001", True), ("a", False)]


@pytest.mark.parametrize("name", ["card-fashion.json", "sweep-fashion.json"])
@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_a_card_of_other_weights_says_so(tmp_path: Path, name: str, weights: str) -> None:
    shutil.copytree(RUN, tmp_path / "run")
    pipeline = load_pipeline(str(RUN), weights)
    encoder, decoder = weights_checksums(pipeline)
    for checksum in (decoder, "0" * 32):
        card = changed("model", weights=weights, encoder=encoder, decoder=checksum)
        card.save(tmp_path / "run" / name)
        warned = f"{name} was measured with other weights" in run_page(tmp_path / "run")
        assert warned == (checksum != decoder)
    shutil.rmtree(tmp_path / "run" / "checkpoints")  # nothing to compare with
    assert "with other weights" not in run_page(tmp_path / "run")


def test_a_card_of_another_version_is_shown_as_it_is(run: Path) -> None:
    write(run / "card-fashion.json", {"card_version": 1, "metrics": {"guided": {"FD": 1.5}}})
    assert '<th scope="row">FD</th><td class="number">1.5</td>' in run_page(run)


def test_a_damaged_card_is_named(run: Path) -> None:
    for name in ("card.json", "card-fashion.json"):
        write(run / name, {"card_version": 2, "metrics": None})
        with pytest.raises(ValueError, match=f"{name} is no protocol card"):
            run_page(run)
        (run / name).unlink()
