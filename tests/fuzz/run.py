"""Fuzzes the targets of ``targets.py`` for as long as wanted::

    python tests/fuzz/run.py keys --seconds 60
    python tests/fuzz/run.py all --seconds 60        each for so long; at once, one more than there are processors
    python tests/fuzz/run.py keys --seed 1           the same inputs each time; without a seed, others
    python tests/fuzz/run.py keys --input aGVsbG8=   one input, in base64

With atheris, which follows what code an input reaches, if it is installed; it has wheels for some versions of Python on
Linux. Without it with Hypothesis. An input that breaks a promise, or takes too long, is printed with the command that tries
it again, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import base64
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import count
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]


def main() -> int:
    logging.getLogger("okta_m2m").setLevel(logging.CRITICAL)  # a line for each odd input would be all that is seen
    if sys.argv[1:2] == ["--inner"]:  # the process that is instrumented: before anything else is imported
        how, name, seconds, seed, folder = sys.argv[2:]
        fuzz = _under_atheris if how == "atheris" else _under_hypothesis
        fuzz(name, int(seconds), int(seed), Path(folder))
        return 0
    from strategies import VALID
    from targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["all", *TARGETS])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbits(31))
    parser.add_argument("--with", dest="how", choices=["atheris", "hypothesis"])
    parser.add_argument("--input", type=base64.b64decode, metavar="BASE64")
    options = parser.parse_args()
    names = list(TARGETS) if options.target == "all" else [options.target]
    if options.input is not None:
        for name in names:
            TARGETS[name].check(options.input)
        return 0
    how = options.how or ("atheris" if find_spec("atheris") is not None else "hypothesis")
    if how == "hypothesis" and options.how is None:
        print("atheris is not installed, or has no wheel for this Python: Hypothesis is used instead.", flush=True)
    with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as processes:
        reached = list(processes.map(_reach, [name for name in names if name in VALID]))
        passed = list(processes.map(lambda name: _fuzz(how, name, options.seconds, options.seed), names))
    return 0 if all([*reached, *passed]) else 1


def _reach(name: str) -> bool:
    """Prints how far the inputs of a target reach, which are the same each time."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("reach.py")), name]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    print(done.stdout + (done.stderr if done.returncode else ""), end="", flush=True)
    return done.returncode == 0


def _fuzz(how: str, name: str, seconds: int, seed: int) -> bool:
    """Runs one target in a process of its own, and prints what came of it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found, summary = folder / "found", folder / "summary"
        found.mkdir()
        command = [sys.executable, __file__, "--inner", how, name, str(seconds), str(seed), scratch]
        # What atheris tries next depends on the order of sets, and on addresses; some containers do not let them be fixed.
        if (
            how == "atheris"
            and subprocess.run(["setarch", "-R", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0
        ):
            command[:0] = ["setarch", "-R"]
        environ = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environ)
        passed = done.returncode == 0
        tried = summary.read_text() if summary.exists() else _last_line(done.stderr, "Done ")
        report = [f"{name:24}{'ok' if passed else 'FAILED':8}{how}, {time.monotonic() - began:.0f} s  {tried}"]
        if not passed:
            report[:0] = [done.stdout[-3000:], done.stderr[-6000:]]
            for data in (path.read_bytes() for path in sorted(found.iterdir())):
                encoded = base64.b64encode(data).decode()
                report += [f"input: {data!r}", f"again: python tests/fuzz/run.py {name} --input {encoded}"]
    print("\n".join(report), flush=True)
    return passed


def _last_line(text: str, start: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.startswith(start)), "")


def _under_hypothesis(name: str, seconds: int, seed: int, folder: Path) -> None:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from targets import TARGETS
    from test_fuzz import inputs

    until, tried = time.monotonic() + seconds, 0
    phases = [Phase.generate, Phase.shrink]

    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=phases)
    @given(inputs(name))
    def check(data: bytes) -> None:
        nonlocal tried
        tried += 1
        try:
            TARGETS[name].check(data)
        except Exception:
            # The last that fails is the shortest.
            (folder / "found" / "input").write_bytes(data)
            raise

    for number in count():
        if time.monotonic() >= until:
            break
        seeded(f"{seed}/{number}")(check)()
    (folder / "summary").write_text(f"Done {tried} runs")


def _under_atheris(name: str, seconds: int, seed: int, folder: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["okta_m2m", "urllib.parse", "email", "yaml", "json"]):
        from targets import TARGETS
    target = TARGETS[name]
    corpus, dictionary = folder / "corpus", folder / "dictionary"
    corpus.mkdir()
    for number, whole in enumerate(target.whole):
        (corpus / str(number)).write_text(whole)
    dictionary.write_text("".join(f'"{_escaped(piece)}"\n' for piece in target.pieces))
    # The time limit is for what hangs, and counts seconds of the clock, which pass while other processes run; test_fuzz.py sees
    # what is slow. Reading the corpus again, at some moment, would change what follows.
    limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=60", "-rss_limit_mb=4096", "-verbosity=1"]
    same = [f"-seed={seed}", "-reload=0"]
    files = [f"-dict={dictionary}", f"-artifact_prefix={folder / 'found'}/", str(corpus)]
    atheris.Setup([sys.argv[0], *limits, *same, *files], target.check)
    atheris.Fuzz()


def _escaped(piece: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in piece.encode())


if __name__ == "__main__":
    sys.exit(main())
