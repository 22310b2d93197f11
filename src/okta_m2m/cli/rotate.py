"""``okta-m2m key rotate``: the steps as they are done, and where it stands if it is broken off.

Invariant: that nobody reads what is printed, or that it cannot be written, does not break a rotation off; Ctrl-C does, and
the next run goes on from there.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from .._core.service_app import ServiceApp
from ..keys import PrivateKey
from ..settings import Settings, read_settings
from ..settings import find_setting as named
from .exits import Exit, complain, needs, reader_gone, unwritable
from .secrets import KeyFile, configured_key_file, configured_path
from .sign_in import AppName, As, MaxWait, TokenFile, configured_org, meant_app, signed_in
from .terminal import Output, marks_for

if TYPE_CHECKING:
    from ..admin.rotation import Progress, Rotated, Rotation, Step

__all__ = ["rotate"]

LEAD = 16  # columns for mark and step


def rotate(
    app_name: AppName = None,
    key_file: KeyFile = None,
    alg: Annotated[str | None, typer.Option(help="Algorithm of the new key; otherwise that of the old one.")] = None,
    bits: Annotated[int | None, typer.Option(help="Bits of a new RSA key; otherwise as many as the old one's.")] = None,
    grace: Annotated[
        float,
        typer.Option(
            min=0, max=86_400, help="Seconds for every running process to read the new key, before the old goes."
        ),
    ] = 60.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, change nothing, say the steps.")
    ] = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Take a rotation back that was broken off: the old key stays.")
    ] = False,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
) -> None:
    """Replace the key without losing a call: make, register, prove, switch, wait, prove, take the old one away.

    Broken off at any moment, it goes on from there when it is run again. On any failure the old key stays in force.
    """
    with needs("cli", "okta-m2m key rotate"):
        from ..admin.rotation import Rotation
    settings, file = _settings_for(key_file or configured_key_file())

    def service(key: Any) -> ServiceApp:
        return ServiceApp(**{**settings.arguments(), "key": key})

    view = _View()
    with signed_in("okta-m2m key rotate", token_file, as_, max_wait) as api:
        rotation = Rotation(
            api,
            meant_app(api, app_name or settings.client_id).id,
            file,
            service=service,
            alg=alg,
            bits=bits,
            grace=grace,
            progress=view.told,
        )
        if dry_run:
            _planned(rotation)
        elif abandon:
            _abandoned(rotation)
        else:
            _rotated(rotation, view)


def _settings_for(file: Path | None) -> tuple[Settings, Path]:
    """The settings with which running processes use the key file, and the file; by default the configured one.

    Refuses a file from which they do not take the ``kid``.
    """
    from ..admin.rotation import rotatable_key_file

    configured = named("privateKey", "jwk")
    if file is None or (configured is not None and _same(file, configured_path())):
        settings = read_settings()
        found = rotatable_key_file(settings)
        return settings, file or found
    key = PrivateKey.from_file(file)
    # That a key from elsewhere signs for the org of this folder is worth a warning; one of this folder is none.
    here = Path(os.path.realpath(file)).is_relative_to(os.path.realpath(Path.cwd()))
    org_url = configured_org() if here else None
    if configured is not None:  # a kid that is set belongs to that key
        return read_settings(org_url=org_url, key=key), file
    settings = read_settings(org_url=org_url, environ={**os.environ, "OKTA_CLIENT_PRIVATEKEY": str(file)})
    rotatable_key_file(settings)
    return settings, file


def _same(file: Path, other: Path | None) -> bool:
    return other is not None and os.path.realpath(file) == os.path.realpath(other)


def _planned(rotation: Rotation) -> None:
    plan = rotation.plan()
    typer.echo(f"{plan.app_name} ({plan.app_id}), {plan.key_file}, kid {plan.old_kid}")
    if plan.unfinished is not None:
        typer.echo(f"a rotation was broken off after: {plan.unfinished}; it would go on with kid {plan.new_kid}")
    typer.echo(f"to come: {', '.join(plan.steps)}")
    typer.echo("Nothing was changed.")


def _abandoned(rotation: Rotation) -> None:
    if rotation.abandon():
        typer.echo("The rotation was taken back: the old key is in force, and the new one is gone.")
    else:
        typer.echo("There was no rotation to take back.")


def _rotated(rotation: Rotation, view: _View) -> None:
    try:
        with view:
            rotated = rotation.run()
    except KeyboardInterrupt:
        _broken_off(view)
    view.end(rotated)


def _broken_off(view: _View) -> NoReturn:
    after = f"after the step {view.last.value!r}" if view.last is not None else "before its first step was done"
    complain(
        f"interrupted {after}. The key that the key file holds is in force, and no call is lost. Go on with: okta-m2m key "
        "rotate; or take it back with: okta-m2m key rotate --abandon"
    )
    raise typer.Exit(Exit.INTERRUPTED)


class _View:
    """A line for each step; on a terminal the one under way is shown as well."""

    def __init__(self) -> None:
        self.last: Step | None = None
        self._output = Output()
        self._marks = marks_for(self._output)
        self._live: Live | None = None
        self._lost: OSError | None = None

    def __enter__(self) -> None:
        if self._output.moves:
            self._live = Live(console=self._output, auto_refresh=False, transient=True)
            self._live.start()

    def __exit__(self, *failure: object) -> None:
        with self._live or nullcontext():
            pass
        self._live = None

    def told(self, progress: Progress) -> None:
        if progress.state != "begun":
            self.last = progress.step
        self._print(self._lines(progress), under_way=progress.state == "begun")

    def end(self, rotated: Rotated) -> None:
        text = f"{rotated.new_kid} is in force; {rotated.old_kid} is gone."
        self._print([Text(), Text(text, "bold")], under_way=False)
        if self._lost is not None:
            raise self._lost

    def _lines(self, progress: Progress) -> list[Text]:
        if progress.state == "begun":
            return [Text(f"{self._marks.skipped} {progress.step.value:<{LEAD - 2}}", "dim").append("under way")]
        line = Text(f"{self._marks.ok} ", "green").append(f"{progress.step.value:<{LEAD - 2}}", "bold")
        return [line.append(progress.detail, "not bold default")]

    def _print(self, lines: list[Text], *, under_way: bool) -> None:
        if self._lost is not None:
            return
        try:
            if self._live is not None:
                self._live.update(Group(*lines) if under_way else Text(), refresh=True)
            if not under_way:
                for line in lines:
                    self._output.print(line, soft_wrap=True)
        except OSError as error:
            if not (reader_gone(error) or unwritable(error)):
                raise
            self._lost = error
