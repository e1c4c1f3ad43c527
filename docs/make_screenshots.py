"""Take the pictures of the explorer for README and gallery, in the system's chromium.

    uv run python docs/make_screenshots.py [--demo pyxem-nas-demo/map.html]

Without --demo the demo is run. The silver map needs ../shared/data and is left out without it.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "pictures"
SILVER = ROOT.parent / "shared" / "data" / "silver" / "silver_52x16.blo"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-sync", "--disable-component-update"]  # fmt: skip
READY = "performance.getEntriesByName('nas-explorer-drawn').length > 0"
DEMO = "nasExplorer.select(31 * 60 + 44)"  # a grain of cementite
SILVER_VIEW = """
nasExplorer.setLayer("ipf-y");
nasExplorer.setLine(10 * 52 + 14, 8 * 52 + 40);
nasExplorer.select(7 * 52 + 30);
"""


def index_silver(folder: Path) -> Path:
    """Write the report of the silver scan."""
    import hyperspy.api as hs

    import pyxem_nas

    s = hs.load(SILVER, signal_type="electron_diffraction")
    for axis in s.axes_manager.signal_axes:
        axis.scale, axis.units, axis.offset = 0.026728, "$A^{-1}$", 0
    for axis in s.axes_manager.navigation_axes:
        axis.scale, axis.units = 81.488, "nm"
    settings = {"acquisition": pyxem_nas.Acquisition(200, 1.0), "center": "auto"}
    xmap = s.index_phase_orientation("silver", n_best=3, **settings)
    return pyxem_nas.write_report(
        folder / "silver.html", xmap, s, "silver", settings=settings,
        title="Silver, two twinned grains (SPED-Ag, T. Bergh et al., CC-BY-4.0)",
    )  # fmt: skip


def shoot(browser, page_path: Path, picture: Path, view: str, theme: str, height: int) -> None:
    """Open a report, do what `view` says, and keep what is seen."""
    page = browser.new_page(viewport={"width": 1480, "height": height}, color_scheme=theme)
    page.goto(f"file://{page_path.resolve()}")
    page.wait_for_function(READY)
    page.evaluate(f"(async () => {{ {view} }})()")
    page.wait_for_timeout(1000)
    page.screenshot(path=picture)
    page.close()


def main() -> None:
    """Index, write, open, shoot."""
    from playwright.sync_api import sync_playwright
    from typer.testing import CliRunner

    from pyxem_nas.cli.app import app

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path)
    demo = parser.parse_args().demo
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        if demo is None:
            CliRunner().invoke(app, ["demo", "--output", name], catch_exceptions=False)
            demo = folder / "map.html"
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        shoot(browser, demo, FOLDER / "explorer_demo.png", DEMO, "light", 1080)
        report = 'document.getElementById("part-0").scrollIntoView()'
        shoot(browser, demo, FOLDER / "report.png", report, "light", 1200)
        if SILVER.exists():
            page = index_silver(folder)
            shoot(browser, page, FOLDER / "explorer_silver.png", SILVER_VIEW, "dark", 1330)
        browser.close()


if __name__ == "__main__":
    main()
