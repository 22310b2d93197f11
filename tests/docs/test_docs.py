"""The README and docs/ tell the truth: their code runs, their links lead somewhere, their diagram is the source tree.

How a page is run: its ``python`` blocks, top to bottom, in one namespace, in a directory of its own. So are HTML
comments that begin with ``<!-- test`` and hold code that readers need not see. In a page that says
``<!-- test: FakeOkta -->``, the org ``https://acme.okta.com`` and the API ``https://api.acme.example`` are a running
FakeOkta (``okta`` in its code), the client id ``0oa1b2c3`` is an app registered there, and its key is in ``key.pem``, with the
kid ``2026-11``.
A function ``test_...`` or a class ``Test...`` that a page defines is run by pytest, as it is at a reader's.
"""

from __future__ import annotations

import logging
import re
import runpy
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from layers import LEVEL
from okta_m2m import PrivateKey, errors, events
from okta_m2m.admin import errors as admin_errors
from okta_m2m.errors import InvalidClient
from okta_m2m.testing import FakeOkta

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"  # projects with tests of their own
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if not page.is_relative_to(EXAMPLES)),
]
LINKED = [*PAGES, ROOT / "CHANGELOG.md"]

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```$"
    r"|^<!-- test\n(?P<hidden>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)
ON_FAKE_OKTA = "<!-- test: FakeOkta -->"
LANGUAGES = {"python", "sh", "text", "yaml", "json", "toml", "ini", "dockerfile"}  # of these, python is run
DIRECTIVE = re.compile(r"\{(toctree|include|literalinclude)\}( .*)?")  # what the site adds to a page

ORG = "https://acme.okta.com"
API = "https://api.acme.example"
CLIENT_ID = "0oa1b2c3"
KID = "2026-11"
SCOPES = ("okta.users.read", "okta.users.manage", "okta.groups.read", "okta.logs.read")


@dataclass(frozen=True)
class Block:
    code: str
    line: int  # of its first line of code in the page


def blocks(text: str) -> list[Block]:
    found = []
    for match in FENCE.finditer(text):
        if match["hidden"] is None and match["language"].split(" ")[0] != "python":
            continue
        group = "code" if match["hidden"] is None else "hidden"
        found.append(Block(textwrap.dedent(match[group]), text.count("\n", 0, match.start(group)) + 1))
    return found


@pytest.fixture
def quiet_names() -> Iterator[None]:
    """A page may set up logging and the like for the whole process."""
    logger = logging.getLogger("okta_m2m")
    before = logger.level, list(logger.handlers), logger.propagate
    yield
    logger.setLevel(before[0])
    logger.handlers[:], logger.propagate = before[1], before[2]


def run_page(page: Path, text: str, okta: FakeOkta | None) -> None:
    module = ModuleType(f"page_{page.stem.replace('-', '_')}")
    namespace = module.__dict__
    namespace["okta"] = okta
    try:
        for block in blocks(text):
            code = block.code
            if okta is not None:
                code = code.replace(ORG, okta.url).replace(API, okta.url)
            # Empty lines before it, so that a traceback names the line of the page.
            exec(compile("\n" * (block.line - 1) + code, str(page), "exec"), namespace)
        run_tests_of(module)
    finally:
        for value in namespace.values():
            if hasattr(value, "close") and type(value).__module__.split(".")[0] in ("requests", "httpx"):
                value.close()


class Outcome:
    """A plugin for pytest: what it ran."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.failures: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.pytest_collectreport(report)
        if report.when == "call" and report.passed:
            self.passed.add(report.nodeid.split("::")[1])

    def pytest_collectreport(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed:
            self.failures.append(f"{report.nodeid}\n{report.longreprtext}")


def run_tests_of(module: ModuleType) -> None:
    tests = {
        name
        for name, value in vars(module).items()
        if name.startswith(("test_", "Test")) and getattr(value, "__module__", "") == module.__name__
    }
    if not tests:
        return
    Path("test_page.py").write_text(f"from {module.__name__} import {', '.join(sorted(tests))}\n")
    outcome = Outcome()
    sys.modules[module.__name__] = module
    try:
        # Without the time-outs of the run that this is part of: there is one alarm in a process.
        options = ["-q", "-W", "error", "-p", "no:timeout", "-p", "no:xdist", "-p", "no:cacheprovider"]
        pytest.main([*options, "--rootdir=.", "--basetemp=pytest", "test_page.py"], plugins=[outcome])
    finally:
        for name in (module.__name__, "test_page"):
            sys.modules.pop(name, None)
    assert not outcome.failures, "\n\n".join(outcome.failures)
    assert outcome.passed == tests


def prepared(okta: FakeOkta) -> FakeOkta:
    made = ec.generate_private_key(ec.SECP256R1())
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    Path("key.pem").touch(mode=0o600)
    Path("key.pem").write_bytes(pem)
    okta.add_app(PrivateKey.from_pem(pem, kid=KID), SCOPES, client_id=CLIENT_ID)
    okta.protect("/orders", scope="api:read")
    return okta


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page.read_text("utf-8"))], ids=lambda page: str(page.relative_to(ROOT))
)
@pytest.mark.usefixtures("quiet_names")
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text("utf-8")
    if ON_FAKE_OKTA in text:
        with FakeOkta() as okta:
            run_page(page, text, prepared(okta))
    else:
        run_page(page, text, None)


def test_a_page_with_a_broken_block_fails_and_names_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    text = "# A page\n\n```python\nx = 1\n```\n\n<!-- test\nassert x == 1\n-->\n\n```python\n\nassert x == 2\n```\n"
    with pytest.raises(AssertionError) as caught:
        run_page(page, text, None)
    assert (str(caught.traceback[-1].path), caught.traceback[-1].lineno + 1) == (str(page), 13)

    with FakeOkta() as okta:
        prepared(okta)
        run_page(page, text.replace("assert x == 2", _CALL.format(client_id=CLIENT_ID)), okta)
        mistaken = text.replace("assert x == 2", _CALL.format(client_id="0oaWrong"))
        with pytest.raises(InvalidClient):
            run_page(page, mistaken, okta)


def test_a_page_with_a_class_of_tests_that_fail_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    text = "```python\n{}\n```\n"
    run_page(page, text.format(_CLASS.format(signer="PrivateKey.generate('ES256')")), None)
    with pytest.raises(AssertionError, match="TestMine::test_its_kid_is_a_string_or_none"):
        run_page(page, text.format(_CLASS.format(signer="None")), None)
    with pytest.raises(AssertionError, match="fixture 'unheard_of' not found"):
        run_page(page, text.format("def test_mine(unheard_of):\n    pass"), None)
    with pytest.raises(AssertionError):
        run_page(page, text.format("class TestNothing:\n    pass"), None)


_CLASS = """
import pytest
from okta_m2m import PrivateKey, errors, events
from okta_m2m.testing import SignerConformance

class TestMine(SignerConformance):
    @pytest.fixture
    def signer(self):
        return {signer}
"""
_CALL = """
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.requests import OktaAuth
key = PrivateKey.from_file("key.pem")
OktaAuth(ServiceApp("https://acme.okta.com", client_id="{client_id}", key=key, scopes=["okta.users.read"])).token()
"""


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_code_block_of_a_page_is_skipped_by_mistake(page: Path) -> None:
    text = page.read_text("utf-8")
    fences = [match for match in FENCE.finditer(text) if match["hidden"] is None]
    assert text.count("```") == 2 * len(fences), "a fence is not closed, or does not stand on a line of its own"
    languages = {match["language"] for match in fences}
    assert {one for one in languages if not DIRECTIVE.fullmatch(one)} <= LANGUAGES
    well_formed = re.findall(r"^<!-- test(?:\n|: FakeOkta -->$)", text, re.MULTILINE)
    assert text.count("<!-- test") == len(well_formed), "a comment that is a test stands alone on its line"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_shell_command_of_a_page_has_a_comment(page: Path) -> None:
    """zsh, the shell of macOS, takes a ``#`` that is typed or pasted for an argument."""
    lines = [
        line
        for match in FENCE.finditer(page.read_text("utf-8"))
        if match["language"] == "sh"
        for line in match["code"].splitlines()
    ]
    assert [line for line in lines if re.search(r"(^|\s)#", line)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_fits_on_a_page_of_the_site_without_scrolling(page: Path) -> None:
    """106 columns, except for the adapter that has to be short. ``docs/examples/ruff.toml`` says the same of the recipes."""
    columns = 150 if page.name == "your-own.md" else 106
    code = "\n".join(match["code"] or "" for match in FENCE.finditer(page.read_text("utf-8")))
    assert [line for line in code.splitlines() if len(line) > columns] == []


def anchors(text: str) -> set[str]:
    """The ids that GitHub gives to the headings of a page, and those that the page itself sets."""
    prose = FENCE.sub("", text)
    titles = re.findall(r"^#+ +(.+?) *$", prose, re.MULTILINE)
    own = re.findall(r'<a id="([^"]+)"></a>', prose)
    assert len(set(own)) == len(own)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}.union(own)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_have_targets(page: Path) -> None:
    prose = FENCE.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_relative_to(ROOT), f"{target} leads out of the project"
        assert linked.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(linked.read_text("utf-8")), f"{target}: no such heading"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        ahead += [
            (page.parent / target).resolve()
            for target in re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
        ]
    assert set(LINKED) <= reached


NO_READING_ON = {"index.md", "api.md", "changelog.md", "performance.md", "conformance.md"}
"""Lists of links, and pages that a program writes."""


def test_a_page_ends_with_a_link_to_the_next() -> None:
    pages = [page for page in PAGES if page.is_relative_to(ROOT / "docs") and page.name not in NO_READING_ON]
    assert len(pages) > 25
    ends = {page: page.read_text("utf-8").rstrip().rpartition("\n\n")[2] for page in pages}
    assert [page.name for page, end in ends.items() if not re.search(r"\]\([\w./-]+\.md", end)] == []


NOT_WRITTEN = re.compile(
    r"colours?|\w*(?:behaviour|neighbour|favour)\w*|\w*(?:normal|recogn|author|organ|optim|initial|serial)is(?:e|ed|es|ing)\b"
    r"|cancell(?:ed|ing)|defence|licence|learnt|\d %|somebody|everybody|nobody|start-up|time-out|(?-i:[Pp]lain http\b)"
    r"|\banew\b|\bof ours\b|\bby (?:itself|themselves)\b",
    re.IGNORECASE,
)
"""British spelling, and what is spelled or said in another way here."""


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_one_spelling(page: Path) -> None:
    prose = FENCE.sub("", page.read_text("utf-8"))
    assert [found[0] for found in NOT_WRITTEN.finditer(prose)] == []


def test_the_source_has_the_same_spelling() -> None:
    """Its docstrings are the reference, and its messages are read too. ``cancelled()`` is asyncio's, ``%`` a format."""
    not_ours = re.compile(r"\bcancelled\(|\d %[sdr]")
    found = {
        f"{path.relative_to(ROOT)}:{number}": line.strip()
        for path in (ROOT / "src").rglob("*.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if NOT_WRITTEN.search(not_ours.sub("", line))
    }
    assert found == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_on_macos_or_windows_says_that_they_were_not_yet_run(page: Path) -> None:
    """Remove this test and those words once the tests have run on both."""
    text = FENCE.sub("", page.read_text("utf-8"))
    if re.search(r"\bmacOS\b|\bWindows\b(?! line endings)", text):
        assert re.search(r"not\s+yet\s+run", text)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 120


@pytest.mark.parametrize(
    "page", [*PAGES, *sorted(EXAMPLES.rglob("*.md"))], ids=lambda page: str(page.relative_to(ROOT))
)
def test_a_page_that_installs_by_name_has_a_command_for_use_before_the_first_release(page: Path) -> None:
    """Remove this test and those sentences once okta-m2m is on a package index."""
    text = page.read_text("utf-8")
    if "okta-m2m[" in text:
        assert re.search(r"after the first release|before its first release", text, re.IGNORECASE)
        assert re.search(r"pip install '[./]+\[\w", text)


FIGURES = runpy.run_path(str(ROOT / "docs" / "write_figures.py"))


@pytest.mark.parametrize("page", FIGURES["LINES"])
def test_the_figures_of_a_page_are_those_that_were_measured(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert FIGURES["with_figures"](page, text) == text, "run docs/write_figures.py"
    requests = FIGURES["read_figures"]()["requests"]
    counts = rf"\b({requests['Authlib']}|{requests['requests-oauth2client']})(?=( token requests)? \|)"
    wrong = re.sub(counts, "7", text)
    assert wrong != text
    assert FIGURES["with_figures"](page, wrong) == text


def test_no_page_shows_a_measured_figure_that_is_written_by_hand() -> None:
    """On the pages that compare libraries. "Up to" marks a bound, which nobody has measured."""
    written = tuple(line.partition("{")[0] for lines in FIGURES["LINES"].values() for line in lines)
    pages = [page for page in PAGES if page.parent.name == "migrate" or page.name == "README.md"]
    lines = [line for page in pages for line in page.read_text("utf-8").splitlines()]
    shown = [line for line in lines if re.search(r"\d ms\b|(?<!up to 1,00)\d token req", line)]
    assert len(shown) == 4
    assert [line for line in shown if not line.startswith(written)] == []


def test_the_list_of_modules_is_the_source_tree() -> None:
    design = (ROOT / "docs" / "design.md").read_text("utf-8")
    picture = re.search(r"```text\nsrc/okta_m2m/ .*?\n(.*?)```", design, re.DOTALL)
    assert picture is not None
    listed = re.findall(r"^  ([\w.]+(?:\.py|/))(?= |$)", picture[1], re.MULTILINE)
    source = ROOT / "src" / "okta_m2m"
    modules = [path.name for path in source.glob("*.py")]
    packages = [f"{path.parent.name}/" for path in source.glob("*/__init__.py")]
    assert_same(listed, modules + packages)
    floors = [LEVEL[name] for line in listed if (name := line.removesuffix("/").removesuffix(".py")) in LEVEL]
    assert floors == sorted(floors), "the picture is not in the order of the floors"
    for folder, inside in re.findall(r"^  (\w+)/ .*\n((?:    .*\n)+)", picture[1], re.MULTILINE):
        names = re.findall(r"^    ([\w.]+\.py)(?= )", inside, re.MULTILINE)
        assert_same(names, [path.name for path in (source / folder).glob("*.py") if path.name != "__init__.py"])


def assert_same(listed: list[str], there: list[str]) -> None:
    assert len(set(listed)) == len(listed)
    lacking, too_many = sorted(set(there) - set(listed)), sorted(set(listed) - set(there))
    assert (lacking, too_many) == ([], []), "what the picture in docs/design.md lacks, and what it has too many"


def test_every_error_and_every_event_is_in_the_docs() -> None:
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    offered = {name: getattr(module, name) for module in (errors, events) for name in module.__all__}
    names = [name for name, value in offered.items() if isinstance(value, type) or name == "Event"]
    assert len(names) > 20
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_error_has_an_anchor_of_its_own() -> None:
    """So that a log, a runbook or a colleague can point at it."""
    offered = [getattr(module, name) for module in (errors, admin_errors) for name in module.__all__]
    classes = [value for value in offered if isinstance(value, type) and issubclass(value, errors.OktaM2MError)]
    assert len(classes) > 25
    assert [kind.__name__ for kind in classes if not is_explained(kind("What happened."))] == []


def test_the_error_of_a_subclass_links_to_the_class_that_the_docs_describe() -> None:
    class Mine(InvalidClient):
        pass

    both = Mine("What happened.").as_library_error({errors.OktaM2MError: LookupError})
    assert isinstance(both, LookupError)
    assert Mine("What happened.").help == both.help == "okta-m2m explain InvalidClient"


def test_every_code_with_a_remedy_of_its_own_has_an_anchor() -> None:
    codes = list(errors._BY_CODE)
    assert len(codes) > 10
    assert [code for code in codes if not leads_somewhere(f"docs/errors.md#{code.lower()}")] == []
    assert [code for code in codes if not is_explained(errors.refused(400, code, None, None))] == []


def test_an_error_with_an_okta_code_links_to_the_row_of_that_code() -> None:
    """An API's own response with such a code is not an error of ours: those rows are for a reader who has the response."""
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    rows = re.findall(r"^\| ([^|]*`E\d{7}`[^|]*) \| ([^|]*) \|", text, re.MULTILINE)
    found = [(code, source) for cell, source in rows for code in re.findall(r"`(E\d{7})`", cell)]
    assert {code.lower() for code, _ in found} == {
        anchor for anchor in anchors(text) if re.fullmatch(r"e\d{7}", anchor)
    }
    ours = {code for code, source in found if not source.startswith("API")}
    assert ours == {code for code in errors._BY_CODE if code.startswith("E")}
    assert {errors.refused(400, code, None, None).help for code in ours} == {
        f"okta-m2m explain {code}" for code in ours
    }


def is_explained(error: errors.OktaM2MError) -> bool:
    """Whether the page has an anchor for the error, to which it links once there is an address, and the command prints it."""
    from okta_m2m.cli.explain import find_paragraphs  # needs typer, which niquests' environment lacks

    name = error.help.removeprefix("okta-m2m explain ").lower()
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    return leads_somewhere(f"docs/errors.md#{name}") and bool(list(find_paragraphs(page, name)))


def leads_somewhere(target: str) -> bool:
    page, _, anchor = target.partition("#")
    return anchor in anchors((ROOT / page).read_text("utf-8"))


SVGS = sorted((ROOT / "docs").rglob("*.svg"))


@pytest.mark.parametrize("picture", SVGS, ids=lambda path: path.name)
def test_a_picture_is_valid_svg_and_loads_nothing(picture: Path) -> None:
    text = picture.read_text("utf-8")
    ElementTree.fromstring(text)
    assert not re.findall(r"""(?:href|src)\s*[=:]\s*["'(]*https?://|url\(["']?https?://""", text)
