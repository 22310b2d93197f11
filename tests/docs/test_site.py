"""The documentation site, as a reader sees it: built without a warning, and looked at in Chromium.

Needs the extras ``all`` and ``okta``, the group ``docs``, and Chromium with its driver from the distribution (``apt-get install
chromium chromium-driver``).
Without them these tests are skipped; in CI they fail. Screenshots are kept in ``build/artifacts/screenshots``.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest
from test_api import listed

from extra_alone import environment_with_only

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "build" / "artifacts" / "screenshots"
PHONE = 375
LOOKED_AT = ["index", "concepts", "errors", "performance", "migrate/authlib", "reference/service_app"]

pytestmark = [pytest.mark.site, pytest.mark.timeout(600)]


def missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with the packages that CONTRIBUTING's command installs, and no others."""
    for package in ("sphinx", "myst_parser", "furo", "sphinx_copybutton", "sphinx_design"):
        if find_spec(package) is None:
            missing(f"{package} is not installed: pip install -e '.[all,okta]' --group docs")
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-E", "-q", "-b", "html", str(ROOT / "docs"), str(built)]
    variables = environment_with_only({"all", "okta"}, tmp_path_factory.mktemp("python"), groups=["docs"])
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return built


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The URL under which the site is served."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Browser:
    """Chromium, without a window."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address = driver, address

    def open(self, page: str) -> None:
        self.driver.get(f"{self.address}/{page}")

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def look(self, *, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Sets the size of the window, and whether the reader prefers dark or light."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def errors(self) -> list[str]:
        """What the console shows since the last call, from warnings up."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]

    def wait_for(self, script: str) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 60).until(lambda driver: driver.execute_script(script))


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[Browser]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if find_spec("selenium") is None:
        missing("selenium is not installed: pip install -e '.[all,okta]' --group docs")
    if chromium is None or chromedriver is None:
        missing("Chromium is not installed: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium)
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "disable-background-networking",
        "no-proxy-server",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(chromedriver)))
    try:
        yield Browser(driver, address)
    finally:
        driver.quit()


def pages(site: Path) -> list[str]:
    """Every page that was written for a reader, as a path in the site."""
    found = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))]
    return [page for page in found if page not in ("search.html", "genindex.html", "py-modindex.html")]


def test_every_source_is_a_page_of_the_site(site: Path) -> None:
    docs = ROOT / "docs"
    sources = [path for path in docs.rglob("*") if path.suffix in (".md", ".rst") and "examples" not in path.parts]
    assert {path.relative_to(docs).with_suffix(".html").as_posix() for path in sources} == set(pages(site))


def test_the_reference_has_every_public_name(site: Path) -> None:
    from sphinx.util.inventory import InventoryFile

    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    described = {name for kind, names in inventory.data.items() if kind.startswith("py:") for name in names}
    public = {f"{module}.{name}" for module, names in listed().items() for name in names}
    assert len(public) > 150
    assert sorted(public - described) == []


def test_the_reference_shows_what_a_reader_can_use(site: Path) -> None:
    """A table of a docstring stays a table, a record is created from its fields, and no field is only an alias of a number."""
    text = {page.name: page.read_text("utf-8") for page in (site / "reference").glob("*.html")}
    assert len(text) >= 10
    assert [name for name, page in text.items() if "<blockquote>" in page or "Alias for field number" in page] == []
    shown = re.sub(r"<[^>]+>", "", text["effects.html"])
    assert "class Claim(store: Store, timeout: float, key: str, owner: str, ttl: float)" in shown
    assert "named: Any" not in shown


def test_every_page_renders_and_all_its_links_and_images_are_there(site: Path, browser: Browser) -> None:
    problems: list[str] = []
    ids: dict[str, set[str]] = {}
    links: list[tuple[str, str]] = []
    browser.look()
    for page in pages(site):
        browser.open(page)
        problems += [f"{page}: {error}" for error in browser.errors()]
        seen = browser.run(
            """
            const all = (selector, of) => [...document.querySelectorAll(selector)].map(of);
            return {
                title: all("h1", e => e.innerText).join(),
                ids: all("[id]", e => e.id),
                links: all("a[href]", e => e.href),
                broken: all("img", e => e.complete && e.naturalWidth ? "" : e.src).filter(Boolean),
                code: all("div.highlight pre", e => !!e.parentElement.querySelector("button.copybtn")),
            };
            """
        )
        if not seen["title"]:
            problems.append(f"{page} has no title")
        if not all(seen["code"]):
            problems.append(f"{page} has code without a copy button")
        problems += [f"{page}: the image {image} does not load" for image in seen["broken"]]
        ids[page] = set(seen["ids"])
        links += [(page, link) for link in seen["links"]]
    for page, link in links:
        if not link.startswith(browser.address):
            if not link.startswith(("https://", "mailto:")):
                problems.append(f"{page}: {link}")
            continue
        path, anchor = urldefrag(link.removeprefix(browser.address).lstrip("/"))
        path = path or "index.html"
        if not (site / unquote(path)).is_file():
            problems.append(f"{page}: {link} does not exist")
        elif anchor and path in ids and unquote(anchor) not in ids[path]:
            problems.append(f"{page}: {link}: no such heading")
    assert len(ids) > 40
    assert len(links) > 2000
    assert sorted(set(problems)) == []


def test_no_page_scrolls_sideways_on_a_phone(site: Path, browser: Browser) -> None:
    """Nor is anything cut off: what is wider than the screen, such as code, scrolls by itself."""
    browser.look(width=PHONE, height=812)
    wide = {}
    for page in pages(site):
        browser.open(page)
        found = browser.run(
            """
            const scrolls = e => e.tagName !== "ARTICLE"
                && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
            const wide = [...document.querySelectorAll("article *")].filter(
                e => e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e));
            const content = document.querySelector(".content");  // the theme lets the whole article scroll in here
            const width = Math.max(document.documentElement.scrollWidth, content.scrollWidth);
            return [innerWidth, width, wide.map(e => e.outerHTML.slice(0, 80)).slice(0, 3)];
            """
        )
        if found != [PHONE, PHONE, []]:
            wide[page] = found
    assert wide == {}


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("rotate", "rotation.html"),
        ("401", "troubleshooting.html#on-every-call"),
        ("403", "troubleshooting.html#although-the-scope-is-granted"),
        ("429", "errors.html#ratelimited"),
        ("E0000006", "errors.html#okta-s-codes"),
    ],
)
def test_the_search_finds_first_what_a_reader_needs(browser: Browser, words: str, page: str) -> None:
    browser.look()
    browser.errors()
    browser.open("index.html")
    browser.run(
        f"document.querySelector('input[name=q]').value = '{words}'; document.querySelector('form[role=search]').submit()"
    )
    found = browser.wait_for(
        """
        const done = document.querySelector(".search-summary")?.innerText.includes("found");
        return done ? [...document.querySelectorAll("ul.search li a")].map(e => e.href) : null;
        """
    )
    assert any(page in link for link in found[:2]), found
    assert browser.errors() == []


def test_the_copy_button_copies_code_without_its_prompt(browser: Browser) -> None:
    browser.look()
    browser.open("setup.html")
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": browser.address}
    browser.driver.execute_cdp_cmd("Browser.grantPermissions", permissions)
    button = browser.driver.find_element("css selector", "button.copybtn")
    browser.run("document.querySelector('button.copybtn').style.opacity = 1")  # shown when the mouse is over the code
    button.click()
    browser.wait_for("return document.querySelector('button.copybtn.success') !== null")
    copied = browser.driver.execute_async_script(
        "navigator.clipboard.readText().then(arguments[0], e => arguments[0](`${e}`))"
    )
    assert copied.strip() == "python3 -m venv .venv && . .venv/bin/activate && pip install '.[demo]'"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_dark_and_in_light(browser: Browser, scheme: str) -> None:
    """The contrast of WCAG 2.1, level AA, of text and of code."""
    browser.look(scheme=scheme)
    browser.open("errors.html")
    ratios = browser.run(
        """
        const parse = color => color.match(/[\\d.]+/g).map(Number);
        const luminance = ([r, g, b]) => {
            const [x, y, z] = [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * x + 0.7152 * y + 0.0722 * z;
        };
        const backdrop = e => {
            for (; e; e = e.parentElement) {
                const color = parse(getComputedStyle(e).backgroundColor);
                if (color.length === 3 || color[3] === 1) return color;
            }
            return [255, 255, 255];
        };
        const text = document.querySelectorAll("article p, article td, article code span, article pre span, article a");
        return [...text].filter(e => e.innerText.trim()).map(e => {
            const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(backdrop(e))];
            return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.outerHTML.slice(0, 80), a > b];
        });
        """
    )
    assert len(ratios) > 100
    assert [(round(ratio, 1), element) for ratio, element, _ in ratios if ratio < 4.5] == []
    assert {bright_on_dark for _, _, bright_on_dark in ratios} == {scheme == "dark"}


def test_old_and_new_code_of_a_migration_page_are_side_by_side_on_a_wide_screen(site: Path, browser: Browser) -> None:
    migrations = [page for page in pages(site) if page.startswith("migrate/") and page != "migrate/index.html"]
    assert len(migrations) == 4
    for page in migrations:
        for width, side_by_side in ((1280, True), (PHONE, False)):
            browser.look(width=width)
            browser.open(page)
            old, new = browser.run(
                "return [...document.querySelectorAll('.side-by-side pre')].map(e => e.getBoundingClientRect().toJSON());"
            )
            if side_by_side:
                assert (old["top"], old["right"] < new["left"]) == (new["top"], True)
            else:
                assert (old["left"], old["bottom"] < new["top"]) == (new["left"], True)


@pytest.mark.parametrize("width", [1280, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshots_are_saved(browser: Browser, width: int, scheme: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for page in LOOKED_AT:
        browser.look(width=width, scheme=scheme)
        browser.open(f"{page}.html")
        height = min(browser.run("return document.documentElement.scrollHeight"), 6000)
        browser.look(width=width, height=height, scheme=scheme)
        file = SCREENSHOTS / f"{page.replace('/', '-')}-{width}-{scheme}.png"
        assert browser.driver.save_screenshot(str(file))
        assert file.stat().st_size > 10_000
