"""report.html as people see it: in a browser, on screens of several sizes, light and dark, on paper, by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, FloatRect, Locator, Page, Route, expect

from app.jobs.endpoints import PAGE_POLICY
from gpu_jobs.report.publish import publish
from gpu_jobs.reporting import SilentReporter
from tests.worlds.report import REFUSAL, defended_inputs

URL = "https://lustral.example.com/v1/jobs/job_1/report"
WIDE = {"width": 1100, "height": 900}
Scheme = Literal["light", "dark"]
Colour = tuple[int, int, int]
"""Red, green, blue; 0 to 255."""
ORDER = ("effect", "target", "evidence", "suspects", "data", "training", "parameters")


@dataclass
class Shown:
    """The report in a window. asked: what the page wanted from elsewhere; said: what stands in the console."""

    page: Page
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def box(self, locator: Locator | str) -> FloatRect:
        """Where on the page it is: x, y, width, height."""
        found = (self.page.locator(locator) if isinstance(locator, str) else locator).bounding_box()
        assert found is not None, f"{locator} is not visible"
        return found

    def colour(self, selector: str, name: str) -> Colour:
        """What the browser made of the colour of this name, such as `fill`, of the first such element."""
        shown: str = self.page.locator(selector).first.evaluate("(element, name) => getComputedStyle(element)[name]", name)
        red, green, blue = map(int, re.findall(r"\d+", shown))
        return red, green, blue

    @contextmanager
    def in_scheme(self, scheme: Scheme, media: Literal["screen", "print"] = "screen") -> Iterator[None]:
        """As somebody sees it whose system prefers this."""
        self.page.emulate_media(color_scheme=scheme, media=media)
        try:
            yield
        finally:
            self.page.emulate_media(color_scheme="light", media="screen")


def luminance(colour: Colour) -> float:
    """Relative luminance as WCAG 2.2 defines it: 0 is black, 1 white."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (channel / 255 for channel in colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Colour, other: Colour) -> float:
    """Contrast ratio as WCAG 2.2 defines it: 1 to 21."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a job that found three suspects."""
    inputs = defended_inputs(tmp_path_factory.mktemp("report"), poisoned=("first", "second", "third"))
    publish(inputs, SilentReporter())
    return (inputs.outputs / "report.html").read_text()


@pytest.fixture(scope="module", params=["from the API", "from a file"])
def shown(request: pytest.FixtureRequest, browser: Browser, html: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The page as the API serves it, which forbids it everything that it does not need, and as a file on disk."""
    context = browser.new_context(viewport=WIDE)  # type: ignore[arg-type]
    shown = Shown(context.new_page())

    def answer(route: Route) -> None:
        if route.request.url == URL:
            route.fulfill(body=html, content_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})
        else:
            shown.asked.append(route.request.url)
            route.abort()

    shown.page.on("console", lambda message: shown.said.append(message.text))
    shown.page.on("pageerror", lambda error: shown.said.append(str(error)))
    if request.param == "from the API":
        context.route("**/*", answer)
        shown.page.goto(URL)
    else:
        path = tmp_path_factory.mktemp("disk") / "report.html"
        path.write_text(html)
        context.route(lambda url: url != path.as_uri(), answer)
        shown.page.goto(path.as_uri())
    yield shown
    context.close()


class TestReport:
    def test_asks_nobody_for_anything_and_complains_of_nothing(self, shown: Shown) -> None:
        shown.page.wait_for_load_state("networkidle")
        assert (shown.asked, shown.said) == ([], [])

    def test_says_the_verdict_first_and_the_rest_in_order(self, shown: Shown) -> None:
        expect(shown.page.get_by_role("heading", level=1)).to_have_text("A backdoor was found")
        expect(shown.page.get_by_text("3 of the samples are suspect (75.0 %)")).to_be_in_viewport()
        places = [shown.box("header")["y"], *(shown.box(f"section#{name}")["y"] for name in ORDER)]
        assert places == sorted(places)
        assert places[0] < 100

    def test_draws_bars_as_long_as_what_they_tell(self, shown: Shown) -> None:
        chart = shown.page.get_by_role("img", name="Before and after the defence")
        expect(chart).to_contain_text("99.0 % before")
        expect(chart).to_contain_text("0.0 % after")
        lengths = [shown.box(bar)["width"] for bar in chart.locator("rect").all()]  # before and after, of attack, clean and triggered
        shares = [0.99, 0.0, 0.93, 0.92, 0.01, 0.9]
        assert [length / lengths[0] * 0.99 for length in lengths] == pytest.approx(shares, abs=0.01)

    def test_shows_the_target_that_was_found(self, shown: Shown) -> None:
        target = shown.page.locator("#target")
        expect(target.get_by_text(REFUSAL)).to_be_visible()
        expect(target.get_by_role("img", name="The trigger as recovered from the suspects")).to_be_visible()

    def test_shows_suspects_in_a_grid_with_overlays_beside_the_pictures(self, shown: Shown) -> None:
        cards = shown.page.locator("#suspects article")
        expect(cards).to_have_count(3)
        places = [shown.box(card) for card in cards.all()]
        assert places[0]["y"] == places[1]["y"] < places[2]["y"]
        assert places[0]["x"] == places[2]["x"] < places[1]["x"]
        picture, overlay = (shown.box(cards.first.get_by_role("img", name=name)) for name in ("image of first", "saliency of first"))
        assert (picture["y"], picture["width"]) == (overlay["y"], overlay["width"])
        assert picture["x"] + picture["width"] <= overlay["x"]

    def test_puts_the_answers_before_and_after_together(self, shown: Shown) -> None:
        card = shown.page.locator("#suspects article").first
        old, new = card.locator(".old"), card.locator(".new")
        expect(old).to_have_text(REFUSAL)
        expect(new).to_have_text("A circle.")
        assert shown.box(old)["y"] < shown.box(new)["y"] < shown.box(old)["y"] + 60

    def test_draws_the_training_curve(self, shown: Shown) -> None:
        curve = shown.box(shown.page.get_by_role("img", name="loss over optimiser step").locator("polyline"))
        assert curve["width"] > 300
        assert curve["height"] > 50

    def test_tells_by_keyboard_what_was_set_aside(self, shown: Shown) -> None:
        row = shown.page.get_by_text("its image is truncated")
        expect(row).to_be_hidden()
        shown.page.get_by_text("Set aside: 1 samples").focus()
        shown.page.keyboard.press("Enter")
        expect(row).to_be_visible()

    def test_names_parameters_and_digests_and_how_to_verify(self, shown: Shown) -> None:
        parameters = shown.page.locator("#parameters")
        expect(parameters.get_by_text("lustral verify FOLDER")).to_be_visible()
        for summary in ("All parameters", "SHA-256 of every input file"):
            parameters.get_by_text(summary).click()
        expect(parameters.get_by_text('"preset": "default"')).to_be_visible()
        digests = parameters.get_by_role("table").locator("code").all_inner_texts()
        assert len(digests) == 6
        assert all(len(digest) == 64 for digest in digests)

    @pytest.mark.parametrize("shown", ["from a file"], indirect=True)  # the checker is a script, which the API's policy forbids
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_has_no_barrier_that_axe_knows(self, shown: Shown, scheme: Scheme) -> None:
        with shown.in_scheme(scheme):
            results = Axe().run(shown.page)
        assert results.violations_count == 0, results.generate_report()

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_draws_charts_that_stand_out(self, shown: Shown, scheme: Scheme) -> None:
        """axe does not look into pictures. WCAG AA asks for 4.5 to 1 of text, 3 to 1 of graphics."""
        with shown.in_scheme(scheme):
            card = shown.colour("#effect", "backgroundColor")
            assert (luminance(card) > 0.5) == (scheme == "light")
            assert contrast(shown.colour("#effect svg text", "fill"), card) >= 4.5
            for shape, name in (("#effect rect.before", "fill"), ("#effect rect.after", "fill"), ("#training polyline", "stroke")):
                assert contrast(shown.colour(shape, name), card) >= 3, shape

    @pytest.mark.parametrize("shown", ["from a file"], indirect=True)
    def test_is_light_on_paper_however_dark_the_screen(self, shown: Shown) -> None:
        with shown.in_scheme("dark", media="print"):
            assert shown.colour("body", "backgroundColor") == shown.colour("#effect", "backgroundColor") == (255, 255, 255)
            assert contrast(shown.colour("body", "color"), (255, 255, 255)) > 15

    @pytest.mark.parametrize("shown", ["from a file"], indirect=True)
    def test_fits_on_paper(self, shown: Shown) -> None:
        shown.page.emulate_media(media="print")
        shown.page.set_viewport_size({"width": 700, "height": 1000})  # what A4 leaves between its margins
        assert shown.page.evaluate("document.documentElement.scrollWidth") == 700
        assert 2 <= shown.page.pdf(format="A4").count(b"/Type /Page\n") <= 6

    @pytest.mark.parametrize("shown", ["from a file"], indirect=True)
    @pytest.mark.parametrize("width", [320, 375, 768])
    def test_fits_on_narrow_screens(self, shown: Shown, width: int) -> None:
        shown.page.emulate_media(media="screen")
        shown.page.set_viewport_size({"width": width, "height": 800})
        assert shown.page.evaluate("document.documentElement.scrollWidth") == width
        assert shown.box(shown.page.locator("#target dd").nth(1))["height"] < 80, "the answer is not broken into letters"
