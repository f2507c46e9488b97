"""Take the pictures of the demo for the guide: `python -m tools.demo_pictures [RUN ...]`.

Needs a Chromium. Without runs it shows the packaged `fashion` and `molecules`; name
images first, then molecules.
"""

import sys
import tempfile
import threading
from pathlib import Path

from tests.browser.chromium import Browser, browsing

from openunite.demo.models import open_shows
from openunite.demo.server import Server, Site

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
_READY = "!document.querySelector('#form').hidden"
_SHOWN = "document.querySelectorAll('figure').length > 0"


def main(sources: list[str]) -> None:
    """Write docs/pictures/demo-*.png."""
    shows = open_shows(sources or ["fashion", "molecules"])
    with (
        Server(Site(shows), "127.0.0.1", 0) as server,
        tempfile.TemporaryDirectory() as home,
        browsing(Path(home)) as browser,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _samples(browser, server.url)
        _telephone(browser, server.url)
        if any(show.sized for show in shows):
            number = next(i for i, show in enumerate(shows) if show.sized)
            _structures(browser, server.url, number)
        server.shutdown()


def _samples(browser: Browser, url: str) -> None:
    browser.open(url, 1100, 900)
    browser.wait(_READY)
    browser.run("document.querySelector('#count').value = 20")
    browser.click("#go")
    browser.wait(_SHOWN)
    browser.click("figure:nth-child(6) button")
    browser.picture().save(PICTURES / "demo-sample.png", optimize=True)
    browser.click("#bar button")
    browser.wait("!document.querySelector('#scrub').hidden")
    browser.wait("document.querySelector('#play').textContent === 'Play'")
    browser.run("document.querySelector('#slider').focus()")
    steps = int(browser.run("document.querySelector('#slider').max"))
    browser.press("Home")
    browser.press("ArrowRight", steps // 2)
    browser.picture().save(PICTURES / "demo-steps.png", optimize=True)


def _telephone(browser: Browser, url: str) -> None:
    browser.open(url, 400, 800, dark=True)
    browser.wait(_READY)
    browser.click("#go")
    browser.wait(_SHOWN)
    browser.picture().save(PICTURES / "demo-dark.png", optimize=True)


def _structures(browser: Browser, url: str, number: int) -> None:
    browser.open(url, 1100, 900)
    browser.wait(_READY)
    browser.run(
        f"document.querySelector('#model').value = {number};"
        "document.querySelector('#model').dispatchEvent(new Event('change'))"
    )
    browser.click("#go")
    browser.wait(_SHOWN)
    browser.click("figure:nth-child(2) button")
    browser.click("#bar button")
    browser.wait("!!document.querySelector('#stage canvas')")
    browser.press("ArrowRight", 2)
    browser.run("new Promise(done => setTimeout(done, 500))")
    browser.picture().save(PICTURES / "demo-molecule.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
