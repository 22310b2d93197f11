"""Changes lines of the core, and of the floors below it, that a change touched, one at a time, to see whether a test notices::

    python .ci/mutate_changed_lines.py [BASE] [--at-most 8]

Needs cosmic-ray (``.ci/environment FOLDER dev,mutation dev``). A line is touched if it differs from BASE: by default from where
the branch left origin/main; on main itself, from what it was ten commits to these files ago.

A mutant that no test notices is printed, and fails nothing: it may mean the same as the source, so someone has to read it.
What fails is a run that tells nothing: tests that fail without a mutant, a mutant that cannot be tried. A clone without the
history that is needed says so.

Invariant: the source is changed in a clone, which has what is committed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import WorkerOutcome

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent
SETTINGS = tomllib.loads((ROOT / "tests" / "mutation.toml").read_text("utf-8"))["cosmic-ray"]
SECONDS_EACH = 60  # a mutant that runs for ever counts as noticed
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]

# The tests of a module are those that have its name, and these.
TESTS_OF_ALL = [
    "tests/rules/test_dpop_calls.py",
    "tests/rules/test_forced_renewals.py",
    "tests/rules/test_refused_keys.py",
    "tests/rules/test_rejected_tokens.py",
    "tests/rules/test_renewals.py",
    "tests/rules/test_replay.py",
    "tests/rules/test_reports.py",
    "tests/rules/test_retries.py",
    "tests/rules/test_shared_fetches.py",
    "tests/rules/test_slow_endpoints.py",
    "tests/rules/test_token_answers.py",
]
TESTS_OF_KEYS = ["tests/rules/test_keys.py", "tests/rules/test_invalid_keys.py", "tests/rules/test_key_files.py"]
TESTS_OF_SETTINGS = [
    "tests/rules/test_settings.py",
    "tests/rules/test_setting_values.py",
    "tests/rules/test_key_settings.py",
    "tests/rules/test_okta_yaml.py",
]
TESTS_OF_TOKEN_STATE = [
    "tests/rules/test_token_state.py",
    "tests/rules/test_token_state_rejections.py",
    "tests/rules/test_token_state_renewals.py",
]
OTHER_TESTS = {
    "__init__": [*TESTS_OF_KEYS, *TESTS_OF_SETTINGS],
    "_arguments": ["tests/rules/test_mistakes.py", "tests/promises/test_closing.py"],
    "_key_algorithms": TESTS_OF_KEYS,
    "_sources": TESTS_OF_SETTINGS,
    "crash_reports": ["tests/rules/test_crash_reports.py"],
    "fleet": ["tests/stores/test_fleet_simulated.py", "tests/rules/test_jobs.py"],
    "fetching": ["tests/rules/test_interleavings.py"],
    "flights": TESTS_OF_TOKEN_STATE,
    "landings": ["tests/rules/test_waiting_threads.py", "tests/rules/test_interleavings.py"],
    "forced_renewals": TESTS_OF_TOKEN_STATE,
    "key_formats": TESTS_OF_KEYS,
    "okta_yaml": TESTS_OF_SETTINGS,
    "org_url": TESTS_OF_SETTINGS,
    "renewal_times": TESTS_OF_TOKEN_STATE,
    "sealing": ["tests/stores/test_sealing.py"],
    "token_state": TESTS_OF_TOKEN_STATE,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", help="a commit")
    parser.add_argument("--at-most", type=int, default=8, metavar="MUTANTS")
    options = parser.parse_args()
    base = _git("rev-parse", "--verify", options.base) if options.base else _find_base()
    if base is None:
        print("This clone has no history, so nothing says which lines were changed: git fetch --unshallow")
        return 0
    changed = _git("diff", "--name-only", "--diff-filter=d", base, "HEAD", "--", *SETTINGS["module-path"]).splitlines()
    if not changed:
        print(f"Nothing was changed since {base[:12]} in {' and '.join(SETTINGS['module-path'])}.")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch, "clone")
        _git("clone", "--quiet", "--no-local", str(ROOT), str(clone))
        return _mutate(clone, base, changed, options.at_most)


def _find_base() -> str | None:
    head = _git("rev-parse", "HEAD")
    if _git("for-each-ref", "refs/remotes/origin/main"):
        left = _git("merge-base", "HEAD", "origin/main")
        if left != head:
            return left
    commits = _git("log", "-11", "--format=%H", "--", *SETTINGS["module-path"]).splitlines()
    return commits[10] if len(commits) > 10 else None


def _mutate(clone: Path, base: str, changed: list[str], at_most: int) -> int:
    os.chdir(clone)
    os.environ.update(PYTHONPATH=str(clone / "src"), PYTHONDONTWRITEBYTECODE="1")
    config, session = clone.with_name("mutation.toml"), clone.with_name("mutants.sqlite")
    config.write_text(_config(base, changed))
    _run(TOOLS / "cosmic-ray", "init", config, session)
    _run(TOOLS / "cr-filter-operators", session, config)
    _run(TOOLS / "cr-filter-git", "--config", config, session)
    with use_db(session, WorkDB.Mode.open) as work:
        mutants = sorted((item.mutations for item in work.pending_work_items), key=str)
    count = min(at_most, len(mutants))
    chosen = [mutants[number * len(mutants) // count] for number in range(count)]
    print(
        f"{len(mutants)} mutants of the lines that differ from {base[:12]}; {len(mutants) - count} left out", flush=True
    )
    if not chosen:
        return 0
    tests = {path for mutations in chosen for path in _tests(mutations[0].module_path)}
    _run(*PYTEST, "-n", "auto", *sorted(tests))
    results = [
        mutate_and_test(mutations, shlex.join([*PYTEST, "-x", *_tests(mutations[0].module_path)]), SECONDS_EACH)
        for mutations in chosen
    ]
    untried = [result for result in results if result.worker_outcome != WorkerOutcome.NORMAL]
    survivors = [result for result in results if not result.is_killed]
    print(f"{count} tried, {len(survivors)} survived, {len(untried)} could not be tried")
    for result in [*survivors, *untried]:
        print(result.diff or result.output)
    return 1 if untried else 0


def _tests(module: Path) -> list[str]:
    own = f"tests/rules/test_{module.stem}.py"
    paths = dict.fromkeys([own, *OTHER_TESTS.get(module.stem, []), *TESTS_OF_ALL])
    return [path for path in paths if Path(path).exists()]


def _config(base: str, changed: list[str]) -> str:
    return f"""
[cosmic-ray]
module-path = {json.dumps(changed)}
timeout = {SECONDS_EACH}.0
excluded-modules = []
test-command = ""
[cosmic-ray.distributor]
name = "local"
[cosmic-ray.filters.operators-filter]
exclude-operators = {json.dumps(SETTINGS["filters"]["operators-filter"]["exclude-operators"])}
[cosmic-ray.filters.git-filter]
branch = "{base}"
"""


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", ROOT, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"git {arguments[0]} failed.")
    return done.stdout.strip()


def _run(*command: object) -> None:
    if subprocess.run(list(map(str, command)), check=False).returncode != 0:
        raise SystemExit(f"{command[0]} failed, so nothing was tried.")


if __name__ == "__main__":
    sys.exit(main())
