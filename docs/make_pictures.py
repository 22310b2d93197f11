"""Runs the commands of ``docs/setup.md`` and ``docs/rotation.md``, and writes their output into the pages and ``docs/images``.

    python docs/make_pictures.py

A ``sh`` block that is followed by a ``text`` block is run, and the text is replaced by its output. The second page continues
in the folder of the first. ``okta-m2m demo --serve`` runs in the background; all other commands call it. A ``python`` block
becomes the file that the next command runs. A test compares the pages with a run of its own; :func:`normalize` removes what
differs between runs (ports, ids, keys). ``docs/images/demo.svg`` is an animation of one run of ``okta-m2m demo``.

Invariant: no output on these pages is written by hand.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, RenderableType
from rich.terminal_theme import MONOKAI
from rich.text import Text

from okta_m2m.cli.demo.command import FULL_LENGTH
from okta_m2m.cli.demo.picture import draw as draw_story
from okta_m2m.cli.demo.story import Story, play

DOCS = Path(__file__).parent
PAGES = (DOCS / "setup.md", DOCS / "rotation.md")
IMAGES = DOCS / "images"
COMMAND = [sys.executable, "-m", "okta_m2m.cli"]
COLUMNS = 100
FRAME = 0.5  # seconds between the pictures of the demo
END = 4.0  # seconds that the last one stays
FOLDER = "/home/ada/billing"  # what the page shows instead of the folder of the run

FENCE = re.compile(
    r"^```python\n(?P<python>.*?)^```$|^```sh\n(?P<sh>[^`]*?)^```$\n\n^```text\n(?P<text>[^`]*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PICTURES = {"doctor": "doctor.svg", "key rotate": "key-rotate.svg"}
SET_UP = ("demo --serve", "key new --alg ES256", "app create --name billing", "app grant okta.users.read")
CURE = ("doctor --call /api/v1/users  # fails", "app role add READ_ONLY_ADMIN", "doctor --call /api/v1/users")
"""An app without an admin role: what the doctor finds, the command that it names, and the doctor again."""


@dataclass(frozen=True)
class Shown:
    """A command, the output on the page, and the output of this run."""

    command: str
    on_page: str
    printed: str


def normalize(text: str) -> str:
    """Replaces what differs between runs. The first kid in the text becomes ``<1>`` wherever it occurs."""
    text = re.sub(r"(localhost|127\.0\.0\.1):\d+", r"\1:PORT", text)
    text = re.sub(r"\bpks\w{17}", "KEY-ID", re.sub(r"\b0oa\w{17}", "CLIENT-ID", text))
    text = re.sub(r"\b00[\w-]{40}|\b00\.\.\.", "TOKEN", text)
    text = re.sub(r'"(n|x|y)": "[\w.-]+"', r'"\1": "..."', text)
    text = re.sub(r"\d{4}-\d\d-\d\d", "DATE", text)
    found: dict[str, str] = {}
    return re.sub(r"(?<![\w-])[\w-]{43}(?![\w-])", lambda kid: found.setdefault(kid[0], f"<{len(found) + 1}>"), text)


def shorten(text: str, folder: Path) -> str:
    """What the page shows of an output: no secret, no long number, no path of this machine."""
    text = text.replace(str(folder), FOLDER)
    text = re.sub(r"\b00[\w-]{40}", "00...", text)
    return re.sub(r'"(n|x|y)": "([\w-]{12})[\w-]+"', r'"\1": "\2..."', text)


def run_pages(command: list[str] = COMMAND) -> Iterator[Shown]:
    """Runs the commands of the pages from top to bottom, in a folder of their own. ``command``: what ``okta-m2m`` stands for."""
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    with tempfile.TemporaryDirectory() as name:
        folder, program = Path(name).resolve(), ""
        with _Session(folder, command) as session:
            for block in FENCE.finditer(text):
                if block["python"] is not None:
                    program = block["python"]
                    continue
                (folder / "first_call.py").write_text(program, encoding="utf-8")
                printed = "".join(session.run(line) for line in block["sh"].splitlines())
                yield Shown(block["sh"].strip(), block["text"], shorten(printed, folder))


class _Session:
    """A folder in which commands are run, and the stand-in for Okta that they call."""

    def __init__(self, folder: Path, command: list[str] = COMMAND) -> None:
        self._folder = folder
        self._command = command
        self._served: subprocess.Popen[str] | None = None
        inherited = {
            name: value for name, value in os.environ.items() if not re.match(r"OKTA_|.*_PROXY$|NO_COLOR", name, re.I)
        }
        self.environment = {
            **inherited,
            "HOME": str(folder),
            "COLUMNS": str(COLUMNS),
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
        }

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._served is not None:
            self._served.terminate()
            self._served.communicate()

    def run(self, line: str, **environment: str) -> str:
        words = shlex.split(line, comments=True)
        if not words or words[0] == "until":  # the stand-in runs: its lines have been read
            return ""
        if "--serve" in words:
            return self._start_server([*COMMAND, *(word for word in words[1:] if word != "&")])
        command = [*{"okta-m2m": self._command, "python": [sys.executable]}[words[0]], *words[1:]]
        done = subprocess.run(  # noqa: S603 (commands of this project's own page)
            command,
            cwd=self._folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        # The output of a failed command must not get into the page.
        if done.returncode != 0 and "# fails" not in line:
            raise RuntimeError(f"{line} ended with {done.returncode}: {done.stdout}")
        return done.stdout

    def _start_server(self, command: list[str]) -> str:
        self._served = subprocess.Popen(  # noqa: S603 (as above)
            command,
            cwd=self._folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        assert self._served.stdout is not None  # noqa: S101 (it is a pipe)
        return "".join(self._served.stdout.readline() for _ in range(3))


def run_cure(command: list[str] = COMMAND) -> list[Shown]:
    """Runs the commands of ``CURE`` with an app that has no role."""
    with tempfile.TemporaryDirectory() as name, _Session(Path(name), command) as session:
        for line in SET_UP:
            session.run(f"okta-m2m {line}")
        return [Shown(line.partition("  #")[0], "", session.run(f"okta-m2m {line}")) for line in CURE]


def draw(*runs: tuple[str, RenderableType], name: str = "") -> str:
    """An SVG of commands and their outputs. It refers to nothing outside itself: the reader's own monospace font is used."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(file=nowhere, record=True, width=COLUMNS, force_terminal=True, color_system="truecolor")
        for title, output in runs:
            console.print(Text(f"$ {title}", "bold"))
            console.print(Text.from_ansi(output.rstrip("\n")) if isinstance(output, str) else output)
            console.print()  # so that the picture does not cut off the underscores of the last line
        name = name or re.sub(r"\W+", "-", runs[0][0]).strip("-")
        svg = console.export_svg(title="okta-m2m", theme=MONOKAI, unique_id=name)
        return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def draw_demo() -> str:
    """An animated SVG of one run of ``okta-m2m demo``: its picture every half second, and at the end for four seconds."""
    story, frames = Story(FULL_LENGTH, False), list[str]()
    console = Console(width=COLUMNS, legacy_windows=False, file=io.TextIOWrapper(io.BytesIO(), "utf-8"))
    with ThreadPoolExecutor(1) as thread:
        playing = thread.submit(play, story)
        while not wait([playing], FRAME).done:
            frames.append(draw(("okta-m2m demo", draw_story(story, console)), name=f"demo-{len(frames)}"))
        playing.result()
    frames.append(draw(("okta-m2m demo", draw_story(story, console)), name=f"demo-{len(frames)}"))
    whole = FRAME * (len(frames) - 1) + END
    shown = "".join(
        f'<g class="frame{" last" if frame is frames[-1] else ""}" style="animation-delay:{FRAME * at:g}s">{frame}</g>'
        for at, frame in enumerate(frames)
    )
    return f"""<svg {re.search('viewBox="[^"]*"', frames[0])[0]} xmlns="http://www.w3.org/2000/svg"><style>
.frame {{ visibility: hidden; animation: frame {whole:g}s step-end infinite }}
.last {{ animation-name: last }}
@keyframes frame {{ 0% {{ visibility: visible }} {100 * FRAME / whole:.3f}% {{ visibility: hidden }} }}
@keyframes last {{ 0% {{ visibility: visible }} {100 * END / whole:.3f}% {{ visibility: hidden }} }}
@media (prefers-reduced-motion) {{ .frame {{ animation: none }} .last {{ visibility: visible }} }}
</style>{shown}</svg>
"""


@contextmanager
def _forced_colors() -> Iterator[None]:
    """Makes commands print in color to a pipe, and redraw nothing."""
    before = {name: os.environ.get(name) for name in ("FORCE_COLOR", "TTY_INTERACTIVE")}
    os.environ.update(FORCE_COLOR="1", TTY_INTERACTIVE="0")
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def main() -> None:
    shown = iter(list(run_pages()))
    for page in PAGES:
        text = FENCE.sub(
            lambda block: (
                block[0] if block["sh"] is None else f"```sh\n{block['sh']}```\n\n```text\n{next(shown).printed}```"
            ),
            page.read_text("utf-8"),
        )
        page.write_text(text, encoding="utf-8")
    IMAGES.mkdir(exist_ok=True)
    with _forced_colors():
        for run in run_pages():
            for name, file in PICTURES.items():
                if f"okta-m2m {name}" in run.command:
                    picture = draw((run.command.splitlines()[0], run.printed))
                    (IMAGES / file).write_text(picture, encoding="utf-8")
        cure = draw(*((f"okta-m2m {run.command}", run.printed) for run in run_cure()))
        (IMAGES / "doctor-cure.svg").write_text(cure, encoding="utf-8")
    (IMAGES / "demo.svg").write_text(draw_demo(), encoding="utf-8")


if __name__ == "__main__":
    main()
