"""The page in a browser: sorting, filtering, and that nothing is fetched from elsewhere."""

import shutil

import pytest
from matplotlib.figure import Figure
from run_records import spec, write

from spectral_tl_bench.report.site import build_site
from spectral_tl_bench.report.site.charts import HEIGHT

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the test extra brings it)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")
HOSTILE = "<script>document.title = 'taken'</script>"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    methods = ("frozen", "lora", "rein", "ssf", "adaptformer", "bitfit", "soma")
    for level, method in enumerate(methods):
        for seed in range(2):
            options = {"note": HOSTILE if seed else "usual"} if method == "soma" else {}
            run_spec = spec(method=method, method_options=options, seed=seed, simulated=True)
            write(root / "runs", run_spec, accuracy=0.5 + 0.05 * ((level * 3) % 7), source=0.8)
    maps = root / "runs" / run_spec.folder / "maps"
    maps.mkdir()
    figure = Figure(figsize=(9, 3))
    figure.savefig(maps / "tile.png")
    build_site(root / "page", root / "runs", [maps.parent])
    return root / "page"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(site, browser):
    """Open a page of the site; afterwards nothing may have been complained of or asked of anyone else."""
    complaints, contexts = [], []

    def note(request):
        if not request.url.startswith((site.as_uri(), "blob:", "data:")):
            complaints.append(request.url)

    def open_page(name, width=1600):
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", note)
        page.goto((site / name).as_uri())
        page.wait_for_selector("html[data-tables=ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def cells(page, table, number):
    return page.locator(f"#{table} tbody tr td:nth-child({number})")


def column(page, table, number):
    return cells(page, table, number).all_inner_texts()


def expect_column(page, table, number, texts):
    """A table is drawn anew some time after the click that sorts it."""
    playwright.expect(cells(page, table, number)).to_have_text(texts)


def test_a_board_is_sorted_by_a_click_on_a_heading(visit):
    page = visit("simulated-board-whu_region.html")
    before = column(page, "p0-board", 2)
    assert before == sorted(before, key=float, reverse=True)
    assert len(before) > 5
    page.click("#p0-board thead th:nth-child(2)")
    expect_column(page, "p0-board", 2, sorted(before, key=float))
    names = sorted(column(page, "p0-board", 1))
    page.click("#p0-board thead th:nth-child(1)")
    expect_column(page, "p0-board", 1, names)


def test_a_board_is_filtered_by_what_is_typed(visit):
    page = visit("simulated-board-whu_region.html")
    page.fill("#p0-board_wrapper input[type=search]", "rein")
    expect_column(page, "p0-board", 1, ["rein"])


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("kind", ["index", "simulated-board", "run"])
def test_a_page_fits_its_window_and_says_simulated(visit, site, kind, width):
    name = sorted(path.name for path in site.glob(f"{kind}*.html"))[0]
    page = visit(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.inner_text(".banner").startswith("SIMULATED")
    assert page.title() != "taken"
    assert float(page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)")) >= 14


def test_charts_are_drawn(visit):
    page = visit("simulated-board-whu_region.html")
    box = page.query_selector("figure svg").bounding_box()
    assert box["width"] > 300
    assert box["height"] > HEIGHT / 2
    assert page.eval_on_selector_all("figure svg circle", "found => found.length") > 10
