"""Changes lines that a change touched, one at a time, to see whether a test notices::

    python .ci/mutate_changed_lines.py [BASE] [--at-most 60]

Needs cosmic-ray (``.ci/environment FOLDER dev,mutation dev``). A line is touched if it differs from BASE: by default from where
the branch left origin/main; on main itself, from what it was ten commits to these files ago.

In ``_core``, ``_clients`` and ``stores``, all mutants are tried if there are at most 60, and a survivor that is not listed in
``.ci/mutants.md`` fails the run. If there are more, and in the other folders, eight are tried, and survivors are printed: each
may mean the same as the source, so someone has to read it. A run that shows nothing fails too: tests that fail without a mutant,
a mutant that cannot be tried. A clone without the history that is needed says so.

Invariant: the source is changed in a clone, which has what is committed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, WorkerOutcome, WorkResult

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent
SETTINGS = tomllib.loads((ROOT / "tests" / "mutation.toml").read_text("utf-8"))["cosmic-ray"]
EQUIVALENTS = ROOT / ".ci" / "mutants.md"
STRICT = ("src/okta_m2m/_core/", "src/okta_m2m/_clients/", "src/okta_m2m/stores/")
FEW = 8
SECONDS_EACH = 60  # a mutant that runs for ever counts as noticed
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]

Mutant = tuple[MutationSpec, ...]

# The tests of a module are those that have its name, and these; for adapters and stores, only those listed below.
TESTS_OF_ALL = [
    "tests/rules/test_dpop_calls.py",
    "tests/rules/test_echoes.py",
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
TESTS_OF_REQUESTS = [f"tests/promises/test_conformance_{part}.py" for part in ("401", "origins", "sending")]
TESTS_OF_TOKEN_REQUESTS = ["tests/promises/test_bombs.py", "tests/promises/test_conformance_token_endpoint.py"]
FOCUSED_TESTS = {
    "client_keys": ["tests/rules/test_derived_apps.py", "tests/rules/test_refused_keys.py"],
    "derived_apps": ["tests/rules/test_derived_apps.py"],
    "grants": ["tests/rules/test_derived_apps.py"],
    "auth_object": ["tests/rules/test_mistakes.py"],
    "failures": ["tests/promises/test_failures.py"],
    "file": ["tests/stores/test_file_store.py"],
    "httpx_flows": [*TESTS_OF_REQUESTS, "tests/promises/test_fapi_clients.py"],
    "limits": [*TESTS_OF_TOKEN_REQUESTS, "tests/rules/test_deadlines.py"],
    "private_copy": ["tests/promises/test_conformance_sending.py"],
    "proxies": ["tests/promises/test_loopback_proxy.py"],
    "redis": ["tests/stores/test_redis_store.py"],
    "requests_flows": [
        *TESTS_OF_REQUESTS,
        "tests/promises/test_requests_flows.py",
        "tests/promises/test_fapi_clients.py",
    ],
    "sealing": ["tests/stores/test_sealing.py"],
    "ssl_contexts": ["tests/rules/test_ssl_contexts.py"],
    "token_request": TESTS_OF_TOKEN_REQUESTS,
    "verified_tls": ["tests/rules/test_fapi.py", "tests/promises/test_fapi_clients.py"],
}
CLIENTS = {
    "httpx_flows": "(httpx- or test_an_) and not httpx2 and not trio and not bearer",
    "requests_flows": "(requests or test_requests_flows) and not bearer",
}
"""The tests of these modules that are enough, as pytest's ``-k``: those with one client."""

OTHER_TESTS = {
    "__init__": [*TESTS_OF_KEYS, *TESTS_OF_SETTINGS],
    "_arguments": ["tests/rules/test_mistakes.py", "tests/promises/test_closing.py"],
    "_key_algorithms": TESTS_OF_KEYS,
    "_sources": [*TESTS_OF_SETTINGS, "tests/rules/test_file_modes.py"],
    "crash_reports": ["tests/rules/test_crash_reports.py"],
    "fleet": [
        "tests/stores/test_fleet_simulated.py",
        "tests/stores/test_hostile_stores.py::test_the_times_of_a_claim",
        "tests/rules/test_jobs.py",
    ],
    "fetching": ["tests/rules/test_interleavings.py"],
    "flights": TESTS_OF_TOKEN_STATE,
    "landings": ["tests/rules/test_waiting_threads.py", "tests/rules/test_interleavings.py"],
    "forced_renewals": TESTS_OF_TOKEN_STATE,
    "key_formats": TESTS_OF_KEYS,
    "okta_yaml": TESTS_OF_SETTINGS,
    "org_url": TESTS_OF_SETTINGS,
    "renewal_times": TESTS_OF_TOKEN_STATE,
    "proofs": ["tests/rules/test_proofs.py", "tests/rules/test_fapi.py"],
    "service_app": [
        "tests/rules/test_arguments.py",
        "tests/rules/test_crash_reports.py",
        "tests/rules/test_derived_apps.py",
        "tests/rules/test_fapi.py",
        "tests/rules/test_made_again.py",
        "tests/rules/test_mistakes.py",
        "tests/promises/test_closing.py",
    ],
    "token_state": TESTS_OF_TOKEN_STATE,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", help="a commit")
    parser.add_argument("--at-most", type=int, default=60, metavar="MUTANTS")
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
    os.environ["PYTHONPATH"] = str(clone / "src")
    strict, others = _mutants(clone, base, changed)
    count = len(strict) + len(others)
    is_strict = len(strict) <= at_most
    chosen = [*(strict if is_strict else _some(strict)), *_some(others)]
    print(f"{count} mutants of the lines that differ from {base[:12]}; {count - len(chosen)} left out", flush=True)
    if not chosen:
        return 0
    # Bytecode of tests is read by its time. That of the source is compared with the source, which changes within a second.
    _run(sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "src")
    results = _try_all(clone, chosen)
    untried = [result for result in results if result.worker_outcome != WorkerOutcome.NORMAL]
    survivors = [
        (mutant[0].module_path, result)
        for mutant, result in zip(chosen, results, strict=True)
        if result not in untried and not result.is_killed
    ]
    known = _equivalents()
    unknown = [(path, result) for path, result in survivors if _lines(path, result.diff) not in known]
    print(
        f"{len(chosen)} tried, {len(survivors)} survived ({len(survivors) - len(unknown)} known), {len(untried)} untried"
    )
    for result in [*(result for _, result in unknown), *untried]:
        print(result.diff or result.output)
    missed = [path for path, _ in unknown if is_strict and path.as_posix().startswith(STRICT)]
    if missed:
        print(f"Write a test for each, or explain it in {EQUIVALENTS.relative_to(ROOT)}: {len(missed)} survived.")
    return 1 if untried or missed else 0


def _mutants(clone: Path, base: str, changed: list[str]) -> tuple[list[Mutant], list[Mutant]]:
    """The mutants of the changed lines: those that must be noticed, and the others."""
    config, session = clone.with_name("mutation.toml"), clone.with_name("mutants.sqlite")
    config.write_text(_config(base, changed))
    _run(TOOLS / "cosmic-ray", "init", config, session)
    _run(TOOLS / "cr-filter-operators", session, config)
    _run(TOOLS / "cr-filter-git", "--config", config, session)
    with use_db(session, WorkDB.Mode.open) as work:
        found: list[Mutant] = sorted((tuple(item.mutations) for item in work.pending_work_items), key=str)
    strict = [mutant for mutant in found if mutant[0].module_path.as_posix().startswith(STRICT)]
    return strict, [mutant for mutant in found if mutant not in strict]


def _some(mutants: Sequence[Mutant]) -> list[Mutant]:
    count = min(FEW, len(mutants))
    return [mutants[number * len(mutants) // count] for number in range(count)]


def _try_all(clone: Path, mutants: Sequence[Mutant]) -> list[WorkResult]:
    """Tries them in several copies of the clone at once."""
    context = get_context("spawn")
    copies: SimpleQueue[str] = context.SimpleQueue()
    processes = os.cpu_count() or 1
    for number in range(processes):
        copies.put(str(shutil.copytree(clone, clone.with_name(f"copy{number}"), symlinks=True)))
    modules = dict.fromkeys(mutant[0].module_path for mutant in mutants)
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_enter, initargs=(copies,)) as pool:
        if not all(pool.map(_passes, modules)):
            raise SystemExit("Tests fail on the unchanged source, so nothing was tried.")
        return list(pool.map(_try, mutants))


def _enter(copies: SimpleQueue[str]) -> None:
    copy = copies.get()
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(Path(copy, "src"))


def _passes(module: Path) -> bool:
    """Whether the tests of a module pass on the unchanged source."""
    done = subprocess.run(_command(module), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        print(done.stdout)
    return done.returncode == 0


def _try(mutant: Mutant) -> WorkResult:
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    return mutate_and_test(mutant, shlex.join(_command(mutant[0].module_path)), SECONDS_EACH)


def _command(module: Path) -> list[str]:
    return [*PYTEST, "-x", *_tests(module), *(["-k", CLIENTS[module.stem]] if module.stem in CLIENTS else [])]


def _lines(path: Path, diff: Iterable[str] | str) -> tuple[str, ...]:
    """The file of a mutant, and the lines that it removes and adds, without the numbers of lines."""
    lines = diff.splitlines() if isinstance(diff, str) else diff
    changes = [line for line in lines if re.match(r"[-+](?![-+]{2} )", line)]
    return (path.as_posix(), *(f"{line[0]} {line[1:].strip()}" for line in changes))


def _equivalents() -> set[tuple[str, ...]]:
    """The mutants that no test can notice: a heading with the file, why, and a diff without context."""
    entries = re.findall(r"^## `(\S+)`\n.+?```diff\n(.+?)```", EQUIVALENTS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return {_lines(Path(file), diff) for file, diff in entries}


def _tests(module: Path) -> list[str]:
    if module.stem in FOCUSED_TESTS:
        return FOCUSED_TESTS[module.stem]
    own = f"tests/rules/test_{module.stem}.py"
    paths = dict.fromkeys([own, *OTHER_TESTS.get(module.stem, []), *TESTS_OF_ALL])
    return [path for path in paths if Path(path.partition("::")[0]).exists()]


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
