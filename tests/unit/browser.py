"""Headless Chromium on pages of this machine: what a page shows, what a click does, and pictures of it.

python tests/unit/browser.py PAGE OUT.png [WIDTH]    takes a picture of a whole page
"""

import contextlib
import shutil
import sys
import time
from pathlib import Path

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "no Chromium here: apt-get install chromium chromium-driver, as tests/apt.txt says"
OPTIONS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--disable-dev-shm-usage"),
]


@contextlib.contextmanager
def browser(width=1280, height=900):
    """Yield a driver of a browser; `errors(driver)` returns what its console complains of."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for option in OPTIONS:
        options.add_argument(option)
    # A window cannot be narrower than 500 pixels, a device can
    options.add_experimental_option(
        "mobileEmulation", {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 1, "mobile": False}}
    )
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def show(driver, page):
    """Open a page and wait until its charts are drawn."""
    driver.get(Path(page).resolve().as_uri())
    drawn = "return [...document.querySelectorAll('.chart')].every(place => place.querySelector('svg, canvas'))"
    until = time.monotonic() + 60
    while not driver.execute_script(drawn):
        assert time.monotonic() < until, f"{page}: a chart is not drawn after a minute: {errors(driver)}"
        time.sleep(0.1)


def errors(driver):
    """Return what the console has complained of since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def overflow(driver):
    """Return by how many pixels the page is wider than its window."""
    return driver.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")


def screenshot(driver, out):
    """Save a picture of the whole page, not only of what fits the window."""
    import base64

    size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16_000), "scale": 1}
    data = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})["data"]
    Path(out).write_bytes(base64.b64decode(data))


if __name__ == "__main__":
    with browser(int(sys.argv[3]) if len(sys.argv) > 3 else 1280) as opened:
        show(opened, sys.argv[1])
        screenshot(opened, sys.argv[2])
        print(f"{overflow(opened)} pixels too wide", *errors(opened), sep="\n")
