"""The report as a reader's browser shows it: offline, on a laptop, on a phone, on paper."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SCREENS = {"laptop": (1280, 800), "phone": (360, 740)}


@pytest.fixture
def opened(browser: Any, report_file: Path) -> Iterator[Callable[[str], Any]]:
    """`opened("phone")` shows the report on that screen; the network is cut, complaints fail."""
    requests: list[str] = []
    complaints: list[str] = []
    contexts = []

    def show(screen: str) -> Any:
        width, height = SCREENS[screen]
        context = browser.new_context(
            viewport={"width": width, "height": height}, offline=True, java_script_enabled=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(report_file.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    outside = [url for url in requests if not url.startswith(("file://", "data:"))]
    assert not outside
    assert [url for url in requests if url.startswith("file://")] == [report_file.as_uri()]
    assert not complaints


@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_overflows_sideways(opened: Callable[[str], Any], screen: str) -> None:
    page = opened(screen)
    width = SCREENS[screen][0]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    beyond = page.evaluate(
        """limit => [...document.querySelectorAll("body *")]
            .filter(node => !node.closest(".scroll") && !node.closest("thead"))
            .filter(node => node.getBoundingClientRect().right > limit + 0.5)
            .map(node => node.outerHTML.slice(0, 80))""",
        width,
    )
    assert beyond == []


@pytest.mark.parametrize("screen", SCREENS)
def test_the_verdict_and_its_sentence_are_on_the_first_screen(
    opened: Callable[[str], Any], screen: str
) -> None:
    page = opened(screen)
    height = SCREENS[screen][1]
    for part in ("#verdict", ".verdict blockquote", ".summary"):
        box = page.locator(part).bounding_box()
        assert box is not None
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= height


def test_power_stands_beside_the_verdict_on_a_laptop(opened: Callable[[str], Any]) -> None:
    page = opened("laptop")
    said = page.locator(".verdict-said").bounding_box()
    power = page.locator(".verdict-power").bounding_box()
    assert power["x"] >= said["x"] + said["width"] - 1
    assert power["y"] == pytest.approx(said["y"], abs=1)
    assert power["y"] + power["height"] <= SCREENS["laptop"][1]


def test_the_style_sheet_passes_the_pages_own_policy(opened: Callable[[str], Any]) -> None:
    page = opened("laptop")
    border = page.evaluate("getComputedStyle(document.querySelector('.verdict')).borderLeftWidth")
    assert border == "12px"


def test_figures_are_drawn_and_keep_their_text_inside(opened: Callable[[str], Any]) -> None:
    page = opened("laptop")
    figures = page.locator("figure svg")
    assert figures.count() >= 2
    outside = page.evaluate(
        """() => [...document.querySelectorAll("figure svg")].flatMap(svg => {
            const frame = svg.getBoundingClientRect();
            return [...svg.querySelectorAll("text")].filter(text => {
                const box = text.getBoundingClientRect();
                return box.left < frame.left - 1 || box.right > frame.right + 1
                    || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
            }).map(text => text.textContent);
        })"""
    )
    assert outside == []


def test_text_in_figures_does_not_overlap(opened: Callable[[str], Any]) -> None:
    page = opened("laptop")
    clashes = page.evaluate(
        """() => [...document.querySelectorAll("figure svg")].flatMap(svg => {
            const texts = [...svg.querySelectorAll("text")].map(text => {
                const box = text.getBoundingClientRect();
                return {text: text.textContent, l: box.left, r: box.right,
                        t: box.top + box.height * .2, b: box.bottom - box.height * .2};
            });
            return texts.flatMap((a, i) => texts.slice(i + 1)
                .filter(b => a.l < b.r && b.l < a.r && a.t < b.b && b.t < a.b)
                .map(b => [a.text, b.text]));
        })"""
    )
    assert clashes == []


def test_wide_tables_scroll_by_keyboard_on_a_phone(opened: Callable[[str], Any]) -> None:
    page = opened("phone")
    table = page.locator(".scroll:has(table)").first
    assert table.evaluate("node => node.scrollWidth > node.clientWidth")
    table.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("node => node.scrollLeft > 0", arg=table.element_handle())


def test_text_has_enough_contrast(opened: Callable[[str], Any]) -> None:
    """WCAG AA: 4.5 to 1 for text; every background on the page is opaque white or pale."""
    page = opened("laptop")
    poor = page.evaluate(
        """() => {
            const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
            const share = [.2126, .7152, .0722];
            const light = rgb => share.reduce((sum, w, i) => sum + w * linear(rgb[i] / 255), 0);
            const parse = text => text.match(/[\\d.]+/g).map(Number);
            const ground = node => {
                for (; node; node = node.parentElement) {
                    const rgb = parse(getComputedStyle(node).backgroundColor);
                    if (rgb.length === 3 || rgb[3] === 1) return rgb;
                }
                return [255, 255, 255];
            };
            const found = [];
            for (const node of document.querySelectorAll("main *")) {
                const texts = [...node.childNodes].filter(child => child.nodeType === 3);
                if (!texts.some(text => text.textContent.trim())) continue;
                const style = getComputedStyle(node);
                const ink = parse(node.closest("svg") ? style.fill : style.color);
                const pair = [light(ink), light(ground(node))].sort((a, b) => b - a);
                const ratio = (pair[0] + .05) / (pair[1] + .05);
                if (ratio < 4.5) found.push([node.textContent.trim().slice(0, 40), ratio]);
            }
            return found;
        }"""
    )
    assert poor == []


def test_it_prints_on_a4_with_the_verdict_on_the_first_page(
    opened: Callable[[str], Any], tmp_path: Path
) -> None:
    page = opened("laptop")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 1010})  # A4 less its margins, 96 dots an inch
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    cut = page.evaluate(
        """() => [...document.querySelectorAll("table, svg, pre")]
            .filter(node => node.getBoundingClientRect().right > innerWidth + 1)
            .map(node => node.outerHTML.slice(0, 60))"""
    )
    assert cut == []
    warnings = page.locator("section:has(#warnings)").bounding_box()
    assert warnings["y"] + warnings["height"] <= 1010
    printed = page.pdf(prefer_css_page_size=True)
    assert printed.startswith(b"%PDF")
