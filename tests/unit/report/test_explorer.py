"""The explorer in Chromium cuts the masks and counts the Dice of the core, keeps its view, and takes odd runs."""

import dataclasses
import json

import numpy as np
import pytest
from browser import CHROMIUM, MISSING, browser, errors, overflow, show
from explored import MIN_SIZES, Explored

from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.masking import ImageRule
from cloudseg.ensemble.scores import image_scores, mean_of_images
from cloudseg.postprocess import Cut, level
from cloudseg.storage import stores

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
ODD = [
    "</script><script>document.title='ran'</script>",
    "Fish \"&\" 'chips' <b>",
    "Wolken 雲 סְעָרָה\u2028",
    "never there",
]
READY = "const done = arguments[0]; window.explorer.ready.then(() => done('ready'), (error) => done(String(error)))"
SET = "const [changes, done] = arguments; window.explorer.set(changes).then(() => done(1))"
SEEN = """
const canvas = document.getElementById("mask-layer"), { klass } = window.explorer.state;
const drawn = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
const rows = [...document.querySelectorAll("#numbers tbody tr")];
const cells = rows.map((row) => [...row.cells].map((cell) => cell.textContent));
return { mask: [...window.explorer.mask(Math.max(klass, 0))], drawn: [...drawn].filter((_, n) => n % 4 === 3),
         numbers: window.explorer.numbers(), cells, summary: document.getElementById("summary").textContent };
"""


@pytest.fixture(scope="module")
def driver():
    with browser() as opened:
        opened.set_script_timeout(60)
        yield opened


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    return Explored(tmp_path_factory.mktemp("odd"), ODD, names="image {} '<i>'&#.jpg")


@pytest.fixture(scope="module")
def sources(explored):
    return [
        explored.source("tuned", how="tune"),
        explored.source("sharp", sharpen=0.5),
        explored.source("member", test=False),
    ]


@pytest.fixture(scope="module")
def page(explored, sources):
    explored.write(explored.folder / "explorer.html", sources)
    return explored.folder / "explorer.html"


def opened(driver, page, hash_=""):
    driver.get("about:blank")
    show(driver, page)
    if hash_:
        driver.get(page.as_uri() + hash_)
    assert driver.execute_async_script(READY) == "ready"
    return json.loads(driver.execute_script("return document.getElementById('explorer-data').textContent"))


def seen(driver, **changes):
    driver.execute_async_script(SET, changes)
    return driver.execute_script(SEEN)


def plain(cuts):
    return [dataclasses.asdict(cut) | {"size": cut.min_size} for cut in cuts]


def random_cuts(random, sizes):
    levels = [*random.integers(0, 256, 8), 0, 1, 254, 255]
    return [Cut(int(random.choice(levels)), int(random.choice(sizes))) for _ in ODD]


def planes_of(source, image):
    array = stores.read(source.stores[image["split"]])
    row = array.attrs["ids"].index(image["name"])
    return stores.read_images(array, slice(row, row + 1))[0]


def test_masks_and_dice_are_those_of_the_core(driver, page, explored, sources):
    data, random = opened(driver, page), np.random.default_rng(12)
    assert {len(image["sources"]) for image in data["images"]} == {2, 3}
    for number in range(50):
        image = data["images"][number % len(data["images"])]
        source = int(random.choice(image["sources"]))
        klass = int(random.integers(len(ODD)))
        cuts = random_cuts(random, MIN_SIZES if number % 3 else [1, 2, 5, 11, 39, 201, 5000])
        place = data["images"].index(image)
        found = seen(driver, source=source, image=place, klass=klass, cuts=plain(cuts))

        mask = cuts[klass].mask(planes_of(sources[source], image)[klass])
        assert np.array_equal(np.reshape(found["mask"], explored.size), mask)
        assert np.array_equal(np.reshape(found["drawn"], explored.size) > 0, mask == 1)
        fixed = Decision("fixed", 5, ImageRule.of_cuts(dict(zip(ODD, cuts, strict=True))))
        scores = image_scores(sources[source].stores["valid"], explored.truth, fixed)
        own = scores[scores["image"] == image["name"]]["dice"].tolist() if image["split"] == "valid" else [None] * 4
        assert found["numbers"]["image"] == pytest.approx(own, abs=1e-12)
        per_class = [scores[scores["class"] == name].groupby("fold")["dice"].mean().mean() for name in ODD]
        for one, cut, dice in zip(found["numbers"]["all"], cuts, per_class, strict=True):
            if cut.min_size in (1, *MIN_SIZES):
                assert one == {"dice": pytest.approx(dice, abs=1e-9)}
            else:
                between = [size for size in (min(MIN_SIZES), *MIN_SIZES) if size < cut.min_size][-1:]
                between += [size for size in MIN_SIZES if size > cut.min_size][:1]
                assert one["dice"] is None and [near["size"] for near in one["near"]] == between
        if number % 3:
            assert found["numbers"]["allMean"] == pytest.approx(mean_of_images(scores), abs=1e-9)
            assert [row[2] for row in found["cells"]] == [
                f"{dice:.4f}" for dice in (*per_class, mean_of_images(scores))
            ]
    assert errors(driver) == []


def test_all_classes_are_drawn_together_and_layers_can_be_hidden(driver, page, sources):
    data = opened(driver, page)
    cuts = [Cut(120, 4)] * 4
    found = seen(driver, image=0, klass=-1, cuts=plain(cuts))
    planes = planes_of(sources[0], data["images"][0])
    together = np.any([cut.mask(plane) for cut, plane in zip(cuts, planes, strict=True)], axis=0)
    assert np.array_equal(np.array(found["drawn"]) > 0, together.ravel())
    assert not any(seen(driver, mask=False)["drawn"])


def test_an_address_brings_back_the_view(driver, page):
    opened(driver, page)
    view = {"source": 1, "image": 6, "klass": 2, "mask": True, "truth": False}
    cuts = plain([Cut(7, 3), Cut(255, 0), Cut(90, 40), Cut(0, 12)])
    before = seen(driver, **view, cuts=cuts)
    address = driver.execute_script("return window.explorer.hash()")
    seen(driver, source=0, image=1, klass=-1, truth=True)
    driver.execute_script("window.location.hash = arguments[0]", address)
    opened(driver, page, address)
    state = driver.execute_script("return window.explorer.state")
    assert {name: state[name] for name in view} == view
    assert [(cut["level"], cut["size"]) for cut in state["cuts"]] == [(cut["level"], cut["size"]) for cut in cuts]
    assert driver.execute_script(SEEN) == before


@pytest.mark.parametrize(
    "hash_", ["#cuts=1-2_x", "#source=nobody&image=valid/none&class=%00&cuts=999-99999999999", "#%"]
)
def test_an_address_of_another_page_changes_nothing(driver, page, hash_):
    opened(driver, page)
    before = driver.execute_script(SEEN)
    opened(driver, page, hash_)
    assert driver.execute_script(SEEN) == before
    assert errors(driver) == []


def test_keys_and_boxes_move_what_they_say(driver, page, sources):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def cut(klass):
        chosen = driver.execute_script("return window.explorer.state.cuts[arguments[0]]", klass)
        return chosen["level"], chosen["size"]

    def press(*keys):
        ActionChains(driver).send_keys(*keys).perform()

    def typed(box, text):
        field = driver.find_element("id", box)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text, Keys.ENTER)

    opened(driver, page)
    press("2", Keys.ARROW_UP, Keys.ARROW_UP, "]")
    own = sources[0].decision.cuts[ODD[1]]
    larger = MIN_SIZES[min(MIN_SIZES.index(own.min_size) + 1, len(MIN_SIZES) - 1)]
    assert cut(1) == (own.level + 2, larger)
    assert cut(0) == (sources[0].decision.cuts[ODD[0]].level, sources[0].decision.cuts[ODD[0]].min_size)
    press("d")
    assert cut(1) == (own.level, own.min_size)
    typed("size-box", "11")
    typed("threshold", "0.6")
    assert cut(1) == (level(0.6), 11)
    press(Keys.ESCAPE)
    driver.execute_script("document.activeElement.blur()")
    press("[")
    assert cut(1) == (level(0.6), 10)
    press("s")
    assert cut(1) == (round(255 * (level(0.6) / 255) ** 0.5), 10)  # the same probability
    press("s", "s")
    assert cut(1) == (level(0.6), 10)
    press("s")
    typed("threshold", "0.25")
    assert cut(1) == (128, 10)  # of a blend of square roots
    assert "0.252 (0.502 sharpened)" in driver.execute_script(SEEN)["summary"]


@pytest.mark.parametrize("width", [1280, 400])
def test_odd_names_are_text_and_everything_fits(driver, page, width):
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    opened(driver, page)
    assert driver.title == "What a threshold does"
    assert overflow(driver) == 0
    options = driver.execute_script("return [...document.getElementById('class').options].map((o) => o.text)")
    assert [option.strip() for option in options] == ["all classes", *(name.strip() for name in ODD)]
    assert [row[0] for row in driver.execute_script(SEEN)["cells"]] == [*ODD, "all classes"]
    assert driver.execute_script("return document.querySelectorAll('b, i:not(td > i)').length") == 0
    unlabelled = (
        "return [...document.querySelectorAll('select, input')].filter((e) => !e.labels.length).map((e) => e.id)"
    )
    assert driver.execute_script(unlabelled) == []
    assert errors(driver) == []


ODD_RUNS = {
    "no image out of fold, one class, one source": {"classes": ["Fish"], "fold_of": ()},
    "one fold, a plane of one row": {"classes": ["Fish", "Flower"], "fold_of": (2, 2), "size": (1, 9)},
    "64 classes": {"classes": [f"class {number}" for number in range(64)], "size": (9, 1)},
}


def test_a_page_without_any_image_has_the_dice_of_all(driver, explored, sources, tmp_path):
    explored.write(tmp_path / "explorer.html", sources[1:], count=0)
    opened(driver, tmp_path / "explorer.html")
    found = seen(driver, klass=0, cuts=plain([Cut(99, 4)] * 4))
    assert found["numbers"]["allMean"] > 0 and found["numbers"]["imageMean"] is None
    assert "There are no images" in found["summary"]
    assert errors(driver) == []


@pytest.mark.parametrize("name", ODD_RUNS)
def test_odd_runs_have_a_page(driver, tmp_path, name):
    explored = Explored(tmp_path / "data", **ODD_RUNS[name])
    source = explored.source("only")
    page = tmp_path / "explorer.html"
    explored.write(page, [source])
    data = opened(driver, page)
    found = driver.execute_script(SEEN)
    assert len(data["images"]) == len(explored.valid) + len(explored.tested)
    cut, plane = next(iter(source.decision.cuts.values())), planes_of(source, data["images"][0])[0]
    assert np.array_equal(found["mask"], cut.mask(plane).ravel())
    if explored.valid:
        scores = image_scores(source.stores["valid"], explored.truth, source.decision)
        assert found["numbers"]["allMean"] == pytest.approx(mean_of_images(scores), abs=1e-9)
    else:
        assert found["numbers"]["allMean"] is None
        assert "There is no Dice of all images" in found["summary"]
    assert errors(driver) == []
