"""Fuzzes the targets of ``targets.py`` for as long as wanted::

    python tests/fuzz/run.py keys --seconds 60
    python tests/fuzz/run.py all --seconds 60        each for so long

With atheris, which follows what code an input reaches, if it is installed; it has wheels for some versions of Python on
Linux. Without it with Hypothesis. An input that breaks a promise ends the run with exit code 1 and is printed.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]


def main() -> int:
    logging.getLogger("okta_m2m").setLevel(logging.CRITICAL)  # a line for each odd input would be all that is seen
    if sys.argv[1:2] == ["--inner"]:  # the process that is instrumented: before anything else is imported
        _under_atheris(sys.argv[2], int(sys.argv[3]))
        return 0
    from targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["all", *TARGETS])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--with", dest="how", choices=["atheris", "hypothesis"])
    options = parser.parse_args()
    how = options.how or ("atheris" if find_spec("atheris") is not None else "hypothesis")
    if how == "hypothesis" and options.how is None:
        print("atheris is not installed, or has no wheel for this Python: Hypothesis is used instead.")
    failed = []
    for name in list(TARGETS) if options.target == "all" else [options.target]:
        began = time.monotonic()
        if how == "hypothesis":
            passed, tried = _under_hypothesis(name, options.seconds)
        else:
            command = [sys.executable, __file__, "--inner", name, str(options.seconds)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            passed = done.returncode == 0
            tried = next((line for line in reversed(done.stderr.splitlines()) if line.startswith("Done ")), "")
            if not passed:
                print(done.stdout[-3000:], done.stderr[-6000:])
        print(f"{name:24}{'ok' if passed else 'FAILED':8}{how}, {time.monotonic() - began:.0f} s  {tried}", flush=True)
        if not passed:
            failed.append(name)
    return 1 if failed else 0


def _under_hypothesis(name: str, seconds: int) -> tuple[bool, str]:
    import traceback

    from hypothesis import HealthCheck, Phase, given, settings
    from targets import TARGETS
    from test_fuzz import inputs

    until, tried = time.monotonic() + seconds, 0
    phases = [Phase.generate, Phase.shrink]

    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=phases)
    @given(inputs(TARGETS[name]))
    def check(data: bytes) -> None:
        nonlocal tried
        tried += 1
        TARGETS[name].check(data)

    while time.monotonic() < until:
        try:
            check()
        except Exception:
            traceback.print_exc()
            return False, f"{tried} inputs"
    return True, f"{tried} inputs"


def _under_atheris(name: str, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["okta_m2m", "urllib.parse", "email", "yaml", "json"]):
        from targets import TARGETS
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for number, whole in enumerate(target.whole):
            (corpus / str(number)).write_text(whole)
        words.write_text("".join(f'"{_escaped(piece)}"\n' for piece in target.pieces))
        limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=4096", "-verbosity=1"]
        atheris.Setup(
            [sys.argv[0], *limits, f"-dict={words}", f"-artifact_prefix={folder}/", str(corpus)], target.check
        )
        atheris.Fuzz()


def _escaped(piece: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in piece.encode())


if __name__ == "__main__":
    sys.exit(main())
