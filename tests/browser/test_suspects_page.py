"""The private page as its reader's browser shows it: offline, on a laptop, on a phone, on paper."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from privgen.reporting import suspects
from tests.helpers import suspects_example

SCREENS = {"laptop": (1280, 800), "phone": (360, 740)}


@pytest.fixture(scope="module", params=[True, False], ids=["proven", "no-proof"])
def page_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the two example suspects, where a proof was possible and where it was not."""
    found, context = suspects_example.suspects(proven=request.param)
    path = tmp_path_factory.mktemp("private") / suspects.NAME
    path.write_text(suspects.render(found, **context))
    return path


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Callable[[str], Any]]:
    """`opened("phone")` shows the page on that screen; the network is cut, complaints fail."""
    requests: list[str] = []
    complaints: list[str] = []
    contexts = []

    def show(screen: str) -> Any:
        width, height = SCREENS[screen]
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(page_file.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()]
    assert not complaints


@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_overflows_sideways(opened: Callable[[str], Any], screen: str) -> None:
    page = opened(screen)
    width = SCREENS[screen][0]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    beyond = page.evaluate(
        """limit => [...document.querySelectorAll("main *")]
            .filter(node => !node.closest("svg"))
            .filter(node => node.getBoundingClientRect().right > limit + 0.5)
            .map(node => node.outerHTML.slice(0, 80))""",
        width,
    )
    assert beyond == []


def test_the_pictures_stand_side_by_side_on_a_laptop(opened: Callable[[str], Any]) -> None:
    page = opened("laptop")
    boxes = [figure.bounding_box() for figure in page.locator("article figure").all()[:3]]
    assert len({round(box["y"]) for box in boxes}) == 1
    heights = [page.locator("article figure > svg").nth(i).bounding_box() for i in range(3)]
    assert max(b["height"] for b in heights) - min(b["height"] for b in heights) < 8
    assert min(box["width"] for box in boxes) > 200


@pytest.mark.parametrize("screen", SCREENS)
def test_the_warning_is_the_first_thing_seen(opened: Callable[[str], Any], screen: str) -> None:
    box = opened(screen).locator(".private").bounding_box()
    assert 0 <= box["y"] < box["y"] + box["height"] < SCREENS[screen][1]


def test_every_tile_is_painted(opened: Callable[[str], Any]) -> None:
    """Each picture has many colours where it stands; one that failed to load would be flat."""
    page = opened("laptop")
    figures = page.locator("article figure > svg")
    assert figures.count() == 4
    for position in range(4):
        assert len(figures.nth(position).screenshot()) > 10_000
    assert page.locator("image").count() == 5


def test_the_strip_marks_the_tile_left_of_the_holdout(opened: Callable[[str], Any]) -> None:
    page = opened("laptop")
    strip = page.locator(".strip svg").first
    ticks, mark = (strip.locator(part).bounding_box() for part in ("use", "path"))
    frame = strip.bounding_box()
    assert frame["x"] < mark["x"] < ticks["x"]
    assert ticks["x"] + ticks["width"] <= frame["x"] + frame["width"] + 1


def test_it_prints_on_a4_without_cutting_a_pair(opened: Callable[[str], Any]) -> None:
    page = opened("laptop")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 1010})  # A4 less its margins, 96 dots an inch
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    for pair in page.locator("article").all():
        assert pair.bounding_box()["height"] < 1010
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
