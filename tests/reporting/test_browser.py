"""A report in a browser: nothing is loaded, nothing fails, hovering and tapping show pictures, axe finds no fault."""

import shutil

import pytest

pytest.importorskip("bokeh")
sync_api = pytest.importorskip("playwright.sync_api")

from torchmetrics_rl2.reporting import report_to  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]

FIRST_IMAGE = """() => {
  const chart = Bokeh.documents.flatMap((one) => one.roots()).find((one) => one.toolbar_location === "above");
  const view = Bokeh.index.get_by_id(chart.id);
  const {x, y} = chart.renderers.findLast((one) => one.data_source.data.small?.length).data_source.data;
  view.el.scrollIntoView({block: "center", behavior: "instant"});
  const area = view.canvas_view.events_el.getBoundingClientRect();
  return [area.x + view.frame.x_scale.compute(x[0]), area.y + view.frame.y_scale.compute(y[0])];
}"""
DRAWN = "() => window.Bokeh && Bokeh.documents.length && Bokeh.documents.every((one) => one.is_idle)"


@pytest.fixture(scope="module")
def report(scored, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "out.html"
    report_to(path)(scored)
    return path


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # Containers run as root, and have little shared memory.
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield found
        found.close()


@pytest.fixture(params=["desktop", "dark", "phone"])
def opened(request, browser, report):
    """A page, with what it asked for and what failed."""
    phone = request.param == "phone"
    context = browser.new_context(
        viewport={"width": 390 if phone else 1280, "height": 900},
        color_scheme="dark" if request.param == "dark" else "light",
        has_touch=phone,
    )
    page = context.new_page()
    page.asked, page.failed, page.tap = [], [], phone
    page.on("request", lambda asked: page.asked.append(asked.url))
    page.on("pageerror", lambda error: page.failed.append(str(error)))
    page.on("console", lambda said: page.failed.append(said.text) if said.type in ("error", "warning") else None)
    page.goto(report.as_uri())
    page.wait_for_function(DRAWN)
    yield page
    context.close()


def test_a_report_opens_without_a_fault_and_asks_for_nothing(opened, report):
    assert opened.failed == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [report.as_uri()]
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert opened.evaluate("Bokeh.documents.flatMap((one) => one.roots()).length") == 4


def test_an_image_is_shown_where_one_points(opened):
    x, y = opened.evaluate(FIRST_IMAGE)
    if opened.tap:
        opened.touchscreen.tap(x, y)
    else:
        opened.mouse.move(x, y)
    opened.locator(".bk-Tooltip img").first.wait_for(state="visible", timeout=5000)
    assert opened.locator(".bk-Tooltip img").first.get_attribute("src").startswith("data:image/jpeg")
    assert opened.failed == []


def test_charts_are_painted_in_the_colors_of_the_page(opened):
    charts = "Bokeh.documents.flatMap((one) => one.roots())"
    ink = opened.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()")
    colors = opened.evaluate(f"{charts}.flatMap((one) => one.below.map((axis) => axis.axis_label_text_color))")
    assert set(colors) == {ink}


def test_axe_finds_nothing_serious(opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    opened.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    found = axe.Axe().run(opened).response["violations"]
    serious = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in serious] == []
