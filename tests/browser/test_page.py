"""The demo's page in a real browser: clicks, keys, widths, themes, pictures."""

import base64
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from tests.browser.chromium import Browser, browsing, find_browser
from tests.demo.test_shows import WATER, image_show, png
from tests.modalities.atoms.test_pipeline import build

from openunite.demo.atoms import AtomShow
from openunite.demo.images import ImageShow
from openunite.demo.server import Server, Site
from openunite.demo.shows import Show

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason="no Chromium here; OPENUNITE_BROWSER names one"
)
READY = "!document.querySelector('#form').hidden"
STATUS = "document.querySelector('#status').textContent"
PICTURES = "document.querySelectorAll('figure').length"
FOCUS = "document.activeElement.id || document.activeElement.value"


@pytest.fixture(scope="module")
def images() -> ImageShow:
    return image_show()


@pytest.fixture(scope="module")
def url(images: ImageShow) -> Iterator[str]:
    shows: list[Show] = [images, AtomShow("molecules", build("molecule"))]
    with Server(Site(shows), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.url
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Browser]:
    """The page, which at the end has neither complained nor asked anybody else."""
    browser.open(url)
    browser.wait(READY)
    yield browser
    assert browser.complaints() == []
    hosts = {urlsplit(asked).netloc for asked in browser.requested() if asked[:5] != "data:"}
    assert hosts == {urlsplit(url).netloc}


def choose_model(page: Browser, number: int) -> None:
    page.run(
        f"document.querySelector('#model').value = {number};"
        "document.querySelector('#model').dispatchEvent(new Event('change'))"
    )


def pixels(page: Browser, number: int) -> np.ndarray:
    """The gray levels of the picture with this number, as the browser has decoded it."""
    text = page.run(
        f"(() => {{ const image = document.querySelectorAll('figure img')[{number}];"
        "const canvas = document.createElement('canvas');"
        "canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;"
        "canvas.getContext('2d').drawImage(image, 0, 0); return canvas.toDataURL(); })()"
    )
    content = base64.b64decode(text.partition(",")[2])
    return np.asarray(Image.open(BytesIO(content)).convert("L"))


def test_a_click_gives_the_pictures_of_the_model(page: Browser, images: ImageShow) -> None:
    page.click("#go")
    page.wait(f"{PICTURES} === 12")
    expected = images.pipeline(list(range(10)) + [0, 1], seeds=range(12))
    for number in (0, 11):
        assert np.array_equal(pixels(page, number), np.asarray(expected[number]))
    assert page.run(STATUS) == "12 new images, made up by the model: click on one to go on."
    captions = page.run("[...document.querySelectorAll('figcaption')].map(x => x.textContent)")
    assert captions[3] == "kind 3, seed 3"
    shown = np.asarray(page.picture().convert("L"))
    assert shown[250:400, 370:900].std() > 20  # the pictures are in sight


def test_a_click_on_a_picture_goes_on_with_it(page: Browser) -> None:
    page.click("#go")
    page.wait(f"{PICTURES} === 12")
    sample = pixels(page, 7)
    page.click("figure:nth-child(8) button")
    words = page.run("[...document.querySelectorAll('#bar button')].map(x => x.textContent)")
    assert words[0] == "Watch it come out of noise"
    page.click("#bar button")
    page.wait("!document.querySelector('#scrub').hidden")
    page.wait("document.querySelector('#play').textContent === 'Play'")  # it has played
    assert page.run("document.querySelector('figcaption').textContent") == "step 4 of 4"
    assert np.array_equal(pixels(page, 0), sample)
    page.run("document.querySelector('#slider').focus()")
    page.press("Home")
    page.wait("document.querySelector('figcaption').textContent === 'step 0 of 4'")
    assert not np.array_equal(pixels(page, 0), sample)
    page.press("ArrowRight")
    page.wait("document.querySelector('figcaption').textContent === 'step 1 of 4'")


def test_everything_can_be_reached_and_done_by_keyboard(page: Browser) -> None:
    reached = []
    for _ in range(30):
        page.press("Tab")
        reached.append(page.run(FOCUS))
        if reached[-1] == "sample":
            page.press("ArrowDown")
            assert page.run("document.querySelector('input:checked').value") == "steps"
        if reached[-1] == "go":
            break
    assert {"model", "label", "seed", "next", "go"} <= {str(name) for name in reached}
    page.press("Enter")
    page.wait(f"{PICTURES} === 1")
    page.wait("document.querySelector('#play').textContent === 'Play'")
    names = []
    for _ in range(10):
        page.press("Tab")
        names.append(page.run(FOCUS))
    assert {"play", "slider"} <= {str(name) for name in names}


def test_a_file_of_the_visitor_is_taken_apart(page: Browser, tmp_path: Path) -> None:
    (tmp_path / "me.png").write_bytes(png())
    page.click("input[value=reconstruct]")
    page.upload("#upload", tmp_path / "me.png")
    page.click("#go")
    page.wait(f"{PICTURES} === 2")
    assert pixels(page, 0)[0].mean() < pixels(page, 0)[-1].mean()
    assert "784 numbers of your picture into 32" in page.run(STATUS)


def test_a_wrong_file_gets_one_sentence_and_the_next_try_works(
    page: Browser, tmp_path: Path
) -> None:
    (tmp_path / "me.png").write_text("no picture")
    page.click("input[value=reconstruct]")
    page.upload("#upload", tmp_path / "me.png")
    page.click("#go")
    page.wait("!!document.querySelector('#status.bad')")
    assert page.run(STATUS) == "Your file cannot be used: not an image that Pillow can read."
    page.click("input[value=sample]")
    page.click("#go")
    page.wait(f"{PICTURES} === 12")
    assert page.run("!!document.querySelector('#status.bad')") is False


def test_a_file_that_is_too_large_is_not_sent(page: Browser, tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(bytes(6_000_001))
    page.click("input[value=reconstruct]")
    page.upload("#upload", tmp_path / "large.png")
    page.click("#go")
    page.wait("!!document.querySelector('#status.bad')")
    assert "6,000,001 bytes; at most 6,000,000 are taken" in page.run(STATUS)
    assert not any(asked.endswith("/api/jobs") for asked in page.requested())


def test_half_of_a_picture_is_completed(page: Browser) -> None:
    page.click("input[value=complete]")
    page.run("document.querySelector('#half').value = 'top'")
    page.click("#go")
    page.wait(f"{PICTURES} === 7")
    seen = pixels(page, 0)
    assert set(seen[14:].ravel().tolist()) <= {127, 128}
    assert np.array_equal(pixels(page, 3)[:14], seen[:14])


def test_conditions_are_fields_and_a_warning_is_shown(page: Browser) -> None:
    labels = "[...document.querySelectorAll('#conditions label')].map(x => x.textContent)"
    assert page.run(labels) == ["light", "shade", "tags", "words"]
    page.run("document.querySelector('#condition-0').value = '900'")
    page.run("document.querySelector('#condition-1').value = 'dark'")
    page.run("document.querySelector('#condition-0-to').value = '900'")
    page.click("#go")
    page.wait(f"{PICTURES} === 12")
    assert "outside 10..200, the values seen in training" in page.run(STATUS)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_fits_a_telephone_in_both_themes(browser: Browser, url: str, dark: bool) -> None:
    browser.open(url, 400, 800, dark)
    browser.wait(READY)
    wide = "document.documentElement.scrollWidth"
    assert browser.run(wide) == 400
    corner = np.asarray(browser.picture().convert("L"))[5, 395]
    assert corner < 60 if dark else corner > 200
    browser.click("#go")
    browser.wait(f"{PICTURES} === 12")
    assert browser.run(wide) == 400
    assert browser.run("document.querySelector('#status').getBoundingClientRect().top") < 400
    style = "(({color, backgroundColor}) => [color, backgroundColor])"
    colors = browser.run(f"{style}(getComputedStyle(document.body))")
    text, back = ([int(x) for x in color[4:-1].split(",")] for color in colors)
    assert abs(sum(text) - sum(back)) > 450
    assert browser.complaints() == []


def test_a_structure_is_turned_in_three_dimensions(page: Browser) -> None:
    choose_model(page, 1)
    page.click("#go")
    page.wait(f"{PICTURES} === 12")
    page.click("figure button")
    page.click("#bar button")
    page.wait("!!document.querySelector('#stage canvas')")
    page.wait(f"{FOCUS} === 'stage'")
    first = stage(page)
    assert first.std() > 5
    page.press("ArrowRight", 3)
    assert np.abs(stage(page) - first).max() > 50


def stage(page: Browser) -> np.ndarray:
    """The gray levels of the three-dimensional view in the screenshot."""
    page.run("document.querySelector('#stage').scrollIntoView({block: 'center'})")
    page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    left, top, right, bottom = page.run(
        "(() => { const box = document.querySelector('#stage').getBoundingClientRect();"
        "return [box.left + 5, box.top + 5, box.right - 5, box.bottom - 5]; })()"
    )
    area = page.picture().convert("L").crop((int(left), int(top), int(right), int(bottom)))
    return np.asarray(area).astype(int)


def test_a_structure_file_is_taken_apart(page: Browser, tmp_path: Path) -> None:
    choose_model(page, 1)
    (tmp_path / "water.xyz").write_bytes(WATER)
    page.click("input[value=reconstruct]")
    page.upload("#upload", tmp_path / "water.xyz")
    page.click("#go")
    page.wait(f"{PICTURES} === 2")
    assert page.run("document.querySelector('figcaption').textContent") == "H2O, yours"
