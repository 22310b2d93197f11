"""``okta-m2m key rotate``: shows each step as it is done, and how to continue after an interruption.

Invariant: a rotation continues even if its output cannot be written. If Ctrl-C interrupts it, the next run continues
from there.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Final

from rich.live import Live
from rich.text import Text

from .. import ServiceApp
from ..admin.errors import RotationFailed
from ..admin.rotation import Progress, Rotated, Rotation, Step, rotatable_key_file
from ..keys import PrivateKey
from ..settings import Settings, find_setting
from .exits import Exit, fail, is_closed_pipe, is_device_failure
from .options import ALGORITHMS, AppName, Json, KeyFile, PassphraseFile, days, flag, option, seconds
from .printing import echo_json, note, report
from .secrets import configured_key_file, default_key_file, passphrase_of
from .sign_in import SignIn, signed_in, target_app
from .terminal import LEAD, Output, glyphs_for
from .trust import trusted_settings

KEY_FILE_VARIABLE: Final = "OKTA_M2M_KEY_FILE"
"""The environment variable in which the command of ``--exec`` finds the path of the key file."""

_EXEC_HELP = f"Run this in a shell, with the key file in {KEY_FILE_VARIABLE}, each time its key has changed."


@signed_in
def rotate(
    sign_in: SignIn,
    app_name: AppName = None,
    key_file: KeyFile = None,
    passphrase_file: PassphraseFile = None,
    alg: Annotated[
        str | None, option("--alg", "ALG", "Algorithm of the new key; by default that of the old key.", ALGORITHMS)
    ] = None,
    bits: Annotated[
        int | None, option("--bits", "BITS", "Bits of a new RSA key; by default the size of the old key.")
    ] = None,
    grace: Annotated[
        float, seconds("--grace", "How long to wait for running processes to read the new key.", min=0)
    ] = 60.0,
    dry_run: Annotated[bool, flag("--dry-run", "Check everything, list the steps, change nothing.")] = False,
    if_older_than: Annotated[
        int | None, days("--if-older-than", "Do nothing if the key was registered later than this: 90d.")
    ] = None,
    command: Annotated[str | None, option("--exec", "COMMAND", _EXEC_HELP)] = None,
    abandon: Annotated[bool, flag("--abandon", "Undo an interrupted rotation. The old key stays.")] = False,
    as_json: Json = False,
) -> None:
    """Replace the key without losing a call: make, register, prove, switch, publish, wait, prove, delete the old key.

    If it is interrupted, run it again to continue. After a failure, the old key stays in use.
    """
    settings, file, passphrase = _find_settings(key_file or default_key_file(), passphrase_file)

    def make_app(key: Any) -> ServiceApp:
        return ServiceApp(**{**settings.arguments(), "key": key})

    view = _View(quiet=as_json)
    api, owner = target_app(sign_in, app_name or settings.client_id)
    rotation = Rotation(
        api,
        owner.id,
        file,
        service=make_app,
        password=passphrase(),
        alg=None if alg is None else alg.upper(),
        bits=bits,
        grace=grace,
        publish=None if command is None else partial(_run_command, command),
        progress=view.show,
    )
    if if_older_than is not None and not abandon and _is_younger(rotation, if_older_than, as_json):
        return
    if dry_run:
        _print_plan(rotation, as_json)
    elif abandon:
        _abandon(rotation, as_json)
    else:
        _run_rotation(rotation, view)


def _find_settings(file: Path | None, passphrase_file: Path | None) -> tuple[Settings, Path, Callable[[], str | None]]:
    """The settings with which running processes use the key file, the file (by default the configured one), and its passphrase.

    Refuses a file whose ``kid`` those processes do not use.
    """
    configured = configured_key_file()
    is_configured = file is None or (configured is not None and os.path.realpath(file) == os.path.realpath(configured))
    path = file or configured

    @cache
    def passphrase() -> str | None:  # a function, because a crash report would show a variable
        return None if path is None else passphrase_of(path, passphrase_file, configured=is_configured)

    if path is not None and passphrase() is not None:
        # Pass the key, not variables that include the passphrase: a crash report would show those.
        settings = trusted_settings(key=PrivateKey.from_file(path, password=passphrase()))
        kid = find_setting("kid", "privateKeyId", "keyId")
        if kid is not None and (is_configured or find_setting("privateKey", "jwk") is None):
            settings = replace(settings, sources={**settings.sources, "kid": kid.place})
    elif file is None or is_configured:
        settings = trusted_settings()
    elif find_setting("privateKey", "jwk") is not None:  # a kid in the settings belongs to the key in the settings
        settings = trusted_settings(key=PrivateKey.from_file(file))
    else:
        settings = trusted_settings(environ={**os.environ, "OKTA_CLIENT_PRIVATEKEY": str(file)})
    found = rotatable_key_file(settings)
    return settings, file or found, passphrase


def _is_younger(rotation: Rotation, days: int, as_json: bool) -> bool:
    """Whether the key need not be replaced yet, which is then reported. An interrupted rotation is continued."""
    age = rotation.key_age()
    if age is None or age >= days:
        return False
    line = f"Nothing was done: the key is {age} days old, and is replaced after {days}."
    report({"age_days": age, "if_older_than": days}, [line], as_json)
    return True


def _run_command(command: str, key_file: Path) -> None:
    """Runs the user's own command in a shell, and shows on stderr what it prints."""
    with subprocess.Popen(  # noqa: S602 (the user's own, from their command line)
        command,
        shell=True,
        env={
            **os.environ,
            KEY_FILE_VARIABLE: str(key_file),
        },  # a crash report would show a variable, with the SSWS token
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            note(line.rstrip("\r\n"))
    if process.returncode:
        raise RotationFailed(
            f"The command of --exec ended with {process.returncode}.", remedy="Correct what it reports above."
        )


def _print_plan(rotation: Rotation, as_json: bool) -> None:
    plan = rotation.plan()
    lines = [f"{plan.app_name} ({plan.app_id}), {plan.key_file}, kid {plan.old_kid}"]
    if plan.unfinished is not None:
        lines.append(f"a rotation was interrupted after: {plan.unfinished}; it would continue with kid {plan.new_kid}")
    lines += [f"next steps: {', '.join(plan.steps)}", "Nothing was changed."]
    report({**asdict(plan), "key_file": str(plan.key_file)}, lines, as_json)


def _abandon(rotation: Rotation, as_json: bool) -> None:
    undone = rotation.abandon()
    done = "The rotation was undone: the old key is in use, and the new key is deleted."
    report({"undone": undone}, [done if undone else "There was no rotation to undo."], as_json)


def _run_rotation(rotation: Rotation, view: _View) -> None:
    try:
        with view.live or nullcontext():
            rotated = rotation.run()
    except KeyboardInterrupt:
        after = f"after the step {view.last.value!r}" if view.last is not None else "before its first step"
        remedy = "Continue with: okta-m2m key rotate; or undo what was done with: okta-m2m key rotate --abandon"
        problem = f"interrupted {after}. The key in the key file is in use, and no call is lost."
        fail(Exit.INTERRUPTED, problem, remedy)
    view.end(rotated)


class _View:
    """A line for each step that is done; on a terminal also the step in progress. ``quiet``: one JSON document at the end."""

    def __init__(self, *, quiet: bool) -> None:
        self.last: Step | None = None
        self._quiet = quiet
        self._steps: list[dict[str, str]] = []
        self._output = Output()
        self._marks = glyphs_for(self._output)
        self._failure: OSError | None = None
        redraws = self._output.can_redraw and not quiet
        self.live = Live(console=self._output, auto_refresh=False, transient=True) if redraws else None

    def show(self, progress: Progress) -> None:
        name = f"{progress.step.value:<{LEAD - 2}}"
        if progress.state == "begun":
            self._print(in_progress=Text(f"{self._marks.skipped} {name}", "dim").append("in progress"))
            return
        self.last = progress.step
        self._steps.append({"step": progress.step, "state": progress.state, "detail": progress.detail})
        line = Text(f"{self._marks.ok} ", "green").append(name, "bold").append(progress.detail, "not bold default")
        self._print(line)

    def end(self, rotated: Rotated) -> None:
        if self._quiet:
            echo_json({**asdict(rotated), "steps": self._steps})
            return
        lines = (f"{rotated.new_kid} is in use.", f"{rotated.old_kid} is deleted.")
        self._print(Text(), *(Text(line, "bold") for line in lines))
        if self._failure is not None:
            raise self._failure

    def _print(self, *lines: Text, in_progress: Text | None = None) -> None:
        """Prints lines, unless that has failed before: the rotation continues without output."""
        if self._quiet or self._failure is not None:
            return
        try:
            if self.live is not None:
                self.live.update(in_progress or Text(), refresh=True)
            for line in lines:
                self._output.print(line, soft_wrap=True)
        except OSError as error:
            if not (is_closed_pipe(error) or is_device_failure(error)):
                raise
            self._failure = error
