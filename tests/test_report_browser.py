"""The report in a real browser: nothing loaded, no complaint, nothing cut, readable everywhere.

Skipped where there is no Chromium; on Debian ``apt-get install chromium`` brings it, and the
variable MINICNN_BROWSER names another.
"""

import re
import shutil

import browser as browsers
import pytest

import minicnn
from minicnn import data, report
from minicnn.report import writing
from minicnn.training.config import TrainConfig
from minicnn.training.run import new_run

pytest.importorskip("jinja2")
PROGRAM = browsers.find()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt-get install chromium")

WIDTHS = (390, 768, 1440)
A4 = round((210 - 2 * 13) / 25.4 * 96)  # pixels between the margins of the printed page
# Texts that stand out less than WCAG 2.1 asks: 4.5 to 1, large ones 3 to 1.
FAINT = """(() => {
  const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("title, desc") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const front = numbers(element.closest("svg") ? style.fill : style.color);
    let back = [255, 255, 255];
    for (let e = element; e; e = e.parentElement) {
      const color = numbers(getComputedStyle(e).backgroundColor);
      if (color.length < 4 || color[3] > 0) { back = color; break; }
    }
    const [low, high] = [light(front), light(back)].sort((a, b) => a - b);
    const large = parseFloat(style.fontSize) >= 24;
    const ratio = (high + 0.05) / (low + 0.05);
    seen += 1;
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)}: ${node.data.trim()}`);
  }
  return {seen, found};
})()"""
# What reaches beyond the page, unless it can be scrolled to.
CUT = """[...document.querySelectorAll("body *")].filter((e) =>
  e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 &&
  !e.closest(".scroll, pre, .unseen, svg") || getComputedStyle(e).overflowX === "hidden" &&
  e.clientWidth && e.scrollWidth > e.clientWidth + 1 && !e.matches(".unseen")
).map((e) => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report and a comparison: name -> file."""
    folder = tmp_path_factory.mktemp("runs")
    with minicnn.use_backend("numpy"), pytest.MonkeyPatch.context() as patch:
        from minicnn.training import build

        source = build.DATA_SOURCES["fashion_mnist"]

        def small(split, source):
            return data.fashion_mnist(split, source="sample").subset(range(300))

        patch.setitem(
            build.DATA_SOURCES, "fashion_mnist", build.DataSource(small, source.mean, source.std)
        )
        settings = {"name": "first", "batch_size": 90, "output": str(folder)}
        run = new_run(TrainConfig("lenet5", epochs=2, backend="numpy", **settings))
        report.fit(run)
        _, epoch = run.test()
        writing.finish(run, epoch=epoch)
    long = folder / "second-with-a-rather-long-name-for-a-folder-on-a-phone"
    shutil.copytree(run.folder, long)
    (long / "config.toml").write_text((long / "config.toml").read_text().replace("0.1", "0.2"))
    both = report.compare(sorted(folder.iterdir()), folder / "comparison.html")
    return {"run": folder / "first" / "report.html", "comparison": both}


@pytest.fixture(scope="module")
def chromium():
    opened = browsers.Browser(PROGRAM)
    yield opened
    opened.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["run", "comparison"])
def test_the_page_is_whole_at_every_width(pages, chromium, name, width, dark):
    chromium.open(pages[name], width, dark=dark)
    assert chromium.complaints() == []
    assert chromium.requests() == [pages[name].resolve().as_uri()]
    assert chromium.run("document.documentElement.scrollWidth") == width
    assert chromium.run(CUT) == []
    chromium.run("document.querySelectorAll('details').forEach((d) => d.open = true)")
    contrasts = chromium.run(FAINT)
    assert contrasts["seen"] > 50
    assert contrasts["found"] == []
    page = chromium.run("getComputedStyle(document.body).backgroundColor")
    assert page == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)")
    broken = "[...document.images].filter((i) => !(i.complete && i.naturalWidth)).length"
    assert chromium.run(broken) == 0
    assert chromium.screenshot().startswith(b"\x89PNG")


def test_the_checks_find_what_is_faint_or_cut(pages, chromium):
    chromium.open(pages["run"], 390)
    faint = "<p style='color:#999'>faint</p><p style='color:#777'>just so</p>"
    narrow = "width:9px;overflow:hidden;white-space:nowrap"
    cut = f"<p style='width:500px'>wide</p><p style='{narrow}'>not broken</p>"
    chromium.run(f'document.querySelector("main").innerHTML += "{faint}{cut}"')
    (found,) = chromium.run(FAINT)["found"][:1]
    assert found.endswith("faint")
    assert len(chromium.run(CUT)) == 2


def test_the_diagram_follows_the_colour_scheme(pages, chromium):
    shown = "document.querySelector('picture img').currentSrc"
    chromium.open(pages["run"])
    light = chromium.run(shown)
    chromium.open(pages["run"], dark=True)
    assert chromium.run(shown) != light


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_print_is_light_whole_and_opens_what_is_folded(pages, chromium, name):
    chromium.open(pages[name], A4, dark=True)
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    chromium.send("Emulation.setEmulatedMedia", media="print", features=[dark])
    assert chromium.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chromium.run("document.documentElement.scrollWidth") <= A4
    beyond = (
        "[...document.querySelectorAll('body *')].filter((e) => !e.closest('.unseen') &&"
        " e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    assert chromium.run(beyond) == []
    shut = "[...document.querySelectorAll('details table')].filter((t) => !t.checkVisibility())"
    assert chromium.run(f"{shut}.length") == 0
    assert chromium.run(FAINT)["found"] == []
    printed = chromium.printed()
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 12
    chromium.send("Emulation.setEmulatedMedia", media="")


def test_the_keyboard_reaches_everything(pages, chromium):
    chromium.open(pages["run"])
    focused = "document.activeElement.className || document.activeElement.tagName"
    wanted = chromium.run("document.querySelectorAll('a, summary, [tabindex=\"0\"]').length")
    reached = []
    for _ in range(wanted):
        for kind in ("keyDown", "keyUp"):
            chromium.send("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab",
                          windowsVirtualKeyCode=9)  # fmt: skip
        reached.append(chromium.run(focused))
        if reached[-1] == "BODY":  # after the last one the browser's own controls follow
            break
        assert chromium.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached[0] == "skip"
    hidden = chromium.run("document.querySelectorAll('details [tabindex=\"0\"]').length")
    assert len(reached) - reached.count("BODY") >= wanted - hidden
    assert {"scroll", "SUMMARY", "PRE"} <= set(reached)


def test_motion_is_only_for_who_wants_it(pages, chromium):
    for value, behavior in (("reduce", "auto"), ("no-preference", "smooth")):
        chromium.open(pages["run"])
        feature = {"name": "prefers-reduced-motion", "value": value}
        chromium.send("Emulation.setEmulatedMedia", features=[feature])
        assert chromium.run("getComputedStyle(document.documentElement).scrollBehavior") == behavior
