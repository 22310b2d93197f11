"""Replaces the key of a service app without losing a call. The new key is registered beside the old one, tested, put
into the key file and tested again. Only then is the old one deleted::

    step         what it does                                            what undoes it
    -----------  ------------------------------------------------------  ----------------------------------
    make         writes a new key next to the key file                   removing it
    register     registers its public half at Okta, beside the old one   deactivating and deleting it there
    prove        obtains a token with it                                 -
    switch       puts it into the key file, in one atomic step           the old key, which is kept beside
    publish      hands the file to where other machines read it          handing it the old key
    wait         lets running processes read the file again              -
    prove again  obtains a token with the key in the key file            -
    deactivate   deactivates the old key at Okta                         activating it
    confirm      obtains a token once more                               -
    delete       deletes the old key, at Okta and here                   nothing

``publish`` is done only if the caller wants it. Each step may be done twice without harm, and a journal next to the key file
records the last completed step. A rotation that was killed continues when it is run again; before ``switch`` it starts over
with the same new key. After a failure up to ``confirm``, the old key is in use again before the error is raised.

Invariant: at every moment the key in the key file is registered and active at Okta.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from .. import ServiceApp
from .._base.crash_reports import without_locals
from ..errors import ConfigurationError, InvalidClient, OktaM2MError, TokenError, quoted
from ..keys import PrivateKey, Signer
from ..requests import OktaAuth
from ..settings import Settings
from ._app_keys import (
    AppKey,
    activate_key,
    confirm_key,
    deactivate_key,
    delete_key,
    key_age,
    keys_path,
    list_keys,
    listed_key,
    register_key,
)
from ._apps import App, get_app
from ._changes import shown_id
from ._rotation_files import STEPS, Journal, RotationFiles, Step
from .errors import (
    InvalidRequest,
    NotFound,
    NotSignedIn,
    PermissionMissing,
    RotationFailed,
    ScopeMissing,
    SuperAdminNeeded,
    response_details,
)
from .management import ManagementApi

__all__ = ["Plan", "Progress", "Rotated", "Rotation", "Step", "rotatable_key_file"]

GRACE: Final = 60.0
"""Default seconds between the switch and the second proof. A process reads the key file before each assertion, which it
sends at once, so a moment is enough on one machine. A change to a shared or synchronized file is seen later."""

SETTLING: Final = 60.0
"""Default seconds for which the token endpoint may not yet know a key that was just registered: Okta is eventually
consistent."""

MAX_KEYS: Final = 50
"""Okta's limit on the number of keys per app."""

_NOTHING_DONE: Final = (PermissionMissing, ScopeMissing, NotSignedIn, NotFound, InvalidRequest, ConfigurationError)
"""The errors after which Okta has certainly not registered the key, so there is none to remove."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of a rotation.

    - ``step``: the step.
    - ``state``: ``begun``, ``done``, or ``resumed`` if an earlier run did it.
    - ``detail``: the result, in a few words; empty while the step has only begun.
    """

    step: Step
    state: Literal["begun", "done", "resumed"]
    detail: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a rotation.

    - ``key_file``: the key file, as it was named.
    - ``app_id``, ``app_name``: the app.
    - ``old_kid``: the ``kid`` of the key to replace.
    - ``new_kid``: the ``kid`` of the new key; ``None`` if it does not exist yet.
    - ``unfinished``: the last step of an interrupted rotation; ``None`` if there is none.
    - ``steps``: the remaining steps.
    """

    key_file: Path
    app_id: str
    app_name: str
    old_kid: str
    new_kid: str | None
    unfinished: Step | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Rotated:
    """The result of a complete rotation.

    - ``old_kid``: the ``kid`` of the deleted key.
    - ``new_kid``: the ``kid`` of the key that is in use.
    - ``resumed``: whether an earlier run, which was interrupted or failed, had begun it.
    """

    old_kid: str
    new_kid: str
    resumed: bool


class Rotation:
    """The rotation of the key of one app.

    - ``api``: signed in as an account that may change the app's keys. It may be the app itself, which follows its key
      file like every process.
    - ``app_id``: :attr:`okta_m2m.admin.provisioning.App.id`.
    - ``key_file``: a JWK or PEM file with a ``kid``; a PEM has it in a line ``kid: ...`` above the key. The new key is
      written in the same form. For a symlink, the file that it leads to is replaced.
    - ``service``: makes a :class:`~okta_m2m.ServiceApp` that signs with the given key, with the settings of the running
      processes. A key is proved by a token that this app obtains.
    - ``password``: the passphrase of an encrypted PEM. The new key is encrypted with it too.
    - ``alg``: algorithm of the new key (``RS256``, ``ES256``, ...); by default that of the old one.
    - ``bits``: size of a new RSA key in bits; by default that of the old one, and at least 2048.
    - ``grace``: seconds to wait after the switch. Default 60.
    - ``settling``: seconds for which the token endpoint may not know the new key yet. Default 60.
    - ``publish``: called with the path of the key file whenever the file has got another key: the new one, after a token was
      obtained with it, or the old one, if the new one was published and the rotation then failed or is undone. It copies the
      key to where other machines read it, such as a secret manager, and may be called again for the same key. If it raises,
      the rotation fails, and the old key stays. Default ``None``: the key is in this file only.
    - ``progress``: called with a :class:`Progress` as each step begins and ends. Default: not called.
    """

    @without_locals
    def __init__(
        self,
        api: ManagementApi,
        app_id: str,
        key_file: str | os.PathLike[str],
        *,
        service: Callable[[Signer], ServiceApp],
        password: str | bytes | None = None,
        alg: str | None = None,
        bits: int | None = None,
        grace: float = GRACE,
        settling: float = SETTLING,
        publish: Callable[[Path], object] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._api = api
        self._app_id = app_id
        self._files = RotationFiles(key_file, password)
        self._service = service
        self._alg = alg
        self._bits = bits
        self._grace = grace
        self._settling = settling
        self._publish = publish
        self._progress = progress

    def key_age(self) -> int | None:
        """The whole days since the key in the file was registered, by Okta's clock. ``None`` if a rotation has begun, which
        :meth:`run` continues, or if Okta does not return the age of that key.

        Raises :class:`~okta_m2m.admin.errors.RotationFailed` if the file cannot be rotated.
        """
        self._files.open()
        if self._files.read_journal(self._api.org_url, self._app_id) is not None:
            return None
        thumbprint = self._files.replaceable_key().thumbprint()
        found = (key for key in list_keys(self._api, self._app_id) if key.thumbprint == thumbprint)
        return next((key_age(self._api, key) for key in found), None)

    def plan(self) -> Plan:
        """The plan that :meth:`run` would follow now. Makes every check that changes nothing, including whether the account that
        signs in may change the app's keys.

        Raises the same errors as :meth:`run` before its first step.
        """
        self._files.open()
        journal = self._files.read_journal(self._api.org_url, self._app_id)
        app = get_app(self._api, self._app_id)
        shown = self._files.shown
        if journal is None:
            old, _ = self._check_start()
            self._files.new_key_text(self._alg, self._bits)
            self._check_permission()
            return Plan(shown, app.id, app.name, str(old.kid), None, None, self._steps)
        self._check_publishing(journal)
        steps = tuple(step for step in STEPS[journal.steps_to_skip :] if step in self._steps)
        return Plan(shown, app.id, app.name, journal.old_kid, journal.new_kid or None, journal.last_step, steps)

    def run(self) -> Rotated:
        """Rotates the key, or continues a rotation that was interrupted.

        Raises :class:`~okta_m2m.admin.errors.RotationFailed` (also as :class:`~okta_m2m.admin.errors.SuperAdminNeeded`)
        or :class:`~okta_m2m.errors.ConfigurationError`, whose message says which key is in use. After anything else,
        such as :class:`KeyboardInterrupt`, this method continues the rotation.
        """
        actions: dict[Step, Callable[[Journal], str]] = {
            Step.MAKE: self._make,
            Step.REGISTER: self._register,
            Step.PROVE: self._prove,
            Step.SWITCH: self._switch,
            Step.PUBLISH: self._publish_new_key,
            Step.WAIT: self._wait,
            Step.PROVE_AGAIN: self._prove_key_in_use,
            Step.DEACTIVATE: self._deactivate,
            Step.CONFIRM: self._prove_key_in_use,
            Step.DELETE: self._delete,
        }
        with self._files.locked():
            journal = self._files.read_journal(self._api.org_url, self._app_id)
            resumed = journal is not None
            if journal is None:
                old, registered = self._check_start()
                journal = Journal(self._api.org_url, self._app_id, str(old.kid), old.thumbprint(), registered.id)
                journal.publishing = "" if self._publish is None else "wanted"
                self._files.write_journal(journal)
            self._check_publishing(journal)
            skipped = STEPS[: journal.steps_to_skip]
            for step in self._steps:
                if step in skipped:
                    self._report(step, "resumed", "done by an earlier run")
                    continue
                self._report(step, "begun", "")
                try:
                    detail = actions[step](journal)
                    self._files.write_journal(replace(journal, done=step))
                except (OktaM2MError, OSError) as error:
                    raise self._fail(step, journal, error, resumed=resumed) from error
                journal.done = step
                self._report(step, "done", detail)
            self._files.clear()
            return Rotated(journal.old_kid, journal.new_kid, resumed)

    def abandon(self) -> bool:
        """Undoes an interrupted rotation: the old key is in use, and the new one is deleted.

        Returns whether there was one. Raises :class:`~okta_m2m.admin.errors.RotationFailed` if the old key is already
        deleted; in that case, :meth:`run` completes the rotation.
        """
        with self._files.locked():
            journal = self._files.read_journal(self._api.org_url, self._app_id)
            if journal is None:
                return False
            if journal.has_done(Step.DELETE) or not any(
                key.thumbprint == journal.old_thumbprint for key in list_keys(self._api, self._app_id)
            ):
                raise RotationFailed(
                    f"The old key {journal.old_kid!r} is already deleted at Okta, so the rotation cannot be undone.",
                    remedy="Run it again; it only has to clean up.",
                )
            if journal.publishing == "begun":
                self._check_publishing(journal)
            switched = self._files.old_key_is_kept()
            self._put_old_key_back(journal)
            self._publish_old_key(journal)
            if switched:
                self._api.pause(self._grace, "until every running process has read the old key again")
            self._prove_key(self._files.key_in_use())
            for key in list_keys(self._api, self._app_id):
                if journal.new_thumbprint and key.thumbprint == journal.new_thumbprint:
                    deactivate_key(self._api, self._app_id, key.id)
                    delete_key(self._api, self._app_id, key.id)
            self._files.clear()
            return True

    def _check_start(self) -> tuple[PrivateKey, AppKey]:
        """The key in use, from the key file and as Okta lists it, if a rotation may begin."""
        old = self._files.replaceable_key()
        app = get_app(self._api, self._app_id)
        if app.jwks_uri is not None:
            raise RotationFailed(
                f"Okta fetches the keys of {app.name!r} from {quoted(app.jwks_uri, 200)}.",
                remedy="Publish the new key there beside the old one, switch the service to it, and then remove the old one.",
            )
        if not app.usable:
            problem = f"{app.name!r} is not a service app that signs in with a key."
            raise RotationFailed(problem, remedy="Name the app that the key is for.")
        registered = self._find_registered(app, list_keys(self._api, self._app_id), old)
        try:
            self._obtain_token(old)
        except TokenError as error:
            raise RotationFailed(
                f"The key in use cannot obtain a token, so nothing was changed. {error.problem}", remedy=error.remedy
            ) from error
        return old, registered

    def _find_registered(self, app: App, keys: Sequence[AppKey], key: PrivateKey) -> AppKey:
        """The key in use as Okta lists it, if the app can have a second one."""
        shown = self._files.shown
        if any(registered.kid is None for registered in keys):
            raise RotationFailed(
                f"A key of {app.name!r} is registered at Okta without a kid, and Okta accepts no second key beside it.",
                remedy="Set its kid there first (Admin Console: Applications > the app > Public keys > edit).",
            )
        same = next((registered for registered in keys if registered.thumbprint == key.thumbprint()), None)
        if same is None:
            raise RotationFailed(
                f"{shown} contains a key that Okta does not list for {app.name!r} (kid: {shown_id(key.kid)}).",
                remedy="Name the app that the key belongs to, or register the key first: okta-m2m key add",
            )
        if same.kid != key.kid:
            line, place = f"kid: {shown_id(same.kid)}", "Write this line at the top of the file"
            if not self._files.is_pem():
                line, place = f'"kid": "{shown_id(same.kid)}"', "Add this to the JWK"
            raise RotationFailed(
                f"{shown} has {'no kid' if key.kid is None else 'another kid than the key has at Okta'}, and Okta refuses "
                "what running processes sign with it while the app has two keys.",
                remedy=f"{place}: {line} (running processes read the file again; restart only those that name a kid "
                "themselves)",
            )
        if not same.active:
            raise RotationFailed(
                f"The key {shown_id(key.kid)!r} is inactive at Okta.", remedy="Activate it first: okta-m2m key activate"
            )
        if len(keys) >= MAX_KEYS:
            raise RotationFailed(
                f"The app has {len(keys)} keys, and Okta accepts at most {MAX_KEYS}.",
                remedy="Delete the keys that are not used: okta-m2m key list",
            )
        return same

    def _check_permission(self) -> None:
        """Checks whether the account may change the app's keys, by registering an object that can never be a key."""
        with _super_admin_needed(), suppress(InvalidRequest):
            self._api.call("POST", keys_path(self._app_id), {})

    @property
    def _steps(self) -> tuple[Step, ...]:
        return tuple(step for step in STEPS if step is not Step.PUBLISH or self._publish is not None)

    def _check_publishing(self, journal: Journal) -> None:
        """Refuses to continue without publishing what was to be published, or the other way round."""
        if bool(journal.publishing) != (self._publish is not None):
            without, remedy = ("with", "Name the same command again") if journal.publishing else ("without", "Omit it")
            raise RotationFailed(
                f"The interrupted rotation of {self._files.shown} was begun {without} a command that publishes the key file.",
                remedy=f"{remedy} (--exec, or publish= in Python).",
            )

    # ── the steps ────────────────────────────────────────────────────────────────────────────────────────────────

    def _make(self, journal: Journal) -> str:
        new = self._files.make_new_key(self._alg, self._bits)
        journal.new_kid, journal.new_thumbprint = str(new.kid), new.thumbprint()
        return f"{new.alg}, kid {new.kid}"

    def _register(self, journal: Journal) -> str:
        with _super_admin_needed():
            registered = register_key(self._api, self._app_id, self._files.new_key().jwks()["keys"][0])
            journal.new_id = registered.id
            confirm_key(self._api, self._app_id, registered)
            if not registered.active:  # an undo was interrupted
                activate_key(self._api, self._app_id, registered.id)
        return f"key id {journal.new_id}"

    def _prove(self, journal: Journal) -> str:
        return self._prove_key(self._files.new_key())

    def _switch(self, journal: Journal) -> str:
        self._files.switch(journal.new_thumbprint)
        journal.switched_at = time.time()
        return f"{self._files.shown} contains the new key"

    def _publish_new_key(self, journal: Journal) -> str:
        journal.publishing = "begun"
        self._files.write_journal(journal)
        self._hand_over_file()
        journal.switched_at = time.time()
        return f"{self._files.shown} was handed over"

    def _publish_old_key(self, journal: Journal) -> None:
        if journal.publishing == "begun":
            self._hand_over_file()

    def _hand_over_file(self) -> None:
        if self._publish is None:
            return
        try:
            self._publish(Path(os.path.abspath(self._files.shown)))
        except (OktaM2MError, OSError):
            raise
        except Exception as error:
            # Its message is not shown: it may hold the key.
            raise RotationFailed(
                f"Publishing the key file raised {type(error).__name__}.", remedy="Find out why."
            ) from error

    def _wait(self, journal: Journal) -> str:
        # Never wait longer than the grace time, even if the wall clock was set back since the switch.
        left = min(self._grace, journal.switched_at + self._grace - time.time())
        if left > 0:
            self._api.pause(left, "until every running process has read the new key")
        return f"{self._grace:g} s since the switch"

    def _deactivate(self, journal: Journal) -> str:
        if listed_key(self._api, self._app_id, journal.old_id) is not None:
            with _super_admin_needed():
                deactivate_key(self._api, self._app_id, journal.old_id)
        return f"kid {journal.old_kid}"

    def _delete(self, journal: Journal) -> str:
        # Only the list shows whether the key exists. A 404 response to a change does not.
        if listed_key(self._api, self._app_id, journal.old_id) is not None:
            # Deactivate it again, because a failure may have activated it and stopped there. Okta does not delete an active key.
            deactivate_key(self._api, self._app_id, journal.old_id)
            delete_key(self._api, self._app_id, journal.old_id)
        return f"kid {journal.old_kid}"

    # ── failure ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _fail(self, step: Step, journal: Journal, error: Exception, *, resumed: bool) -> RotationFailed:
        """Restores the old key, if necessary, and returns the error that reports this: with the details in ``error``, its
        problem, its remedy and Okta's response."""
        then = "Then run it again, or undo it with --abandon."
        if step is Step.DELETE:
            happened = (
                f"The rotation is done except for deleting the old key {journal.old_kid!r}; the new key is in use."
            )
            then = "Then run it again: only that step is left."
        else:
            if (
                step in (Step.MAKE, Step.REGISTER)
                and not journal.new_id  # Okta has not accepted the key
                and not resumed  # an earlier run may have registered it
                and isinstance(error, _NOTHING_DONE)
            ):
                self._files.clear()
                then = "Then run it again."
            try:
                self._put_old_key_back(journal)
                if step is not Step.PUBLISH:  # both keys work, so what that step has done is harmless
                    self._publish_old_key(journal)
                in_use = f"The old key {journal.old_kid!r} is in use."
            except (OktaM2MError, OSError) as other:
                in_use = (
                    f"Both keys are registered and active: restoring the old one also failed ({type(other).__name__})."
                )
            happened = f"The rotation failed at the step {step.value!r}. {in_use}"
        kind = SuperAdminNeeded if isinstance(error, SuperAdminNeeded) else RotationFailed
        failed = kind(
            f"{happened} {getattr(error, 'problem', error)}",
            remedy=" ".join(part for part in (getattr(error, "remedy", None), then) if part),
            **response_details(error),
        )
        failed.causes = getattr(error, "causes", ())
        return failed

    def _put_old_key_back(self, journal: Journal) -> None:
        # Keep this order: if the process is killed at any moment, both keys are active, and the journal claims no more than
        # was done.
        if journal.has_done(Step.PROVE_AGAIN):
            activate_key(self._api, self._app_id, journal.old_id)
        if journal.has_done(Step.SWITCH):
            self._files.write_journal(replace(journal, done=Step.PROVE))
            journal.done = Step.PROVE
        self._files.put_old_key_back(journal.old_thumbprint)

    # ── what the steps share ─────────────────────────────────────────────────────────────────────────────────────

    def _prove_key_in_use(self, journal: Journal) -> str:
        key = self._files.key_in_use()
        if key.thumbprint() != journal.new_thumbprint:
            raise RotationFailed(
                f"{self._files.shown} no longer contains the new key.", remedy="Find out what else writes to it."
            )
        return self._prove_key(key)

    def _prove_key(self, key: PrivateKey) -> str:
        """Obtains a token with the key; retries while Okta may not know it yet."""
        began, attempts = time.monotonic(), 0
        while True:
            attempts += 1
            try:
                self._obtain_token(key)
            except InvalidClient as error:
                pause = min(0.25 * 2.0**attempts, 5.0)
                if time.monotonic() - began + pause > self._settling:
                    raise
                self._api.pause(pause, f"until the token endpoint knows the key ({error.error})")
            else:
                return "token obtained"

    def _obtain_token(self, key: PrivateKey) -> None:
        with self._service(key) as app:  # each attempt has its own
            OktaAuth(app).token()

    def _report(self, step: Step, state: Literal["begun", "done", "resumed"], detail: str) -> None:
        if self._progress is not None:
            self._progress(Progress(step, state, detail))


@contextmanager
def _super_admin_needed() -> Iterator[None]:
    """Turns a refusal because of a missing role into one that names the role."""
    try:
        yield
    except PermissionMissing as error:
        raise SuperAdminNeeded(
            "Only a Super Admin may change the keys of an app once Okta scopes are granted to it (Okta: Implement "
            "OAuth for Okta with a service app).",
            remedy="Sign in with an SSWS token of a Super Admin, or as a service app with the role SUPER_ADMIN.",
            **response_details(error),
        ) from error


def rotatable_key_file(settings: Settings) -> Path:
    """The key file that a service app with these settings follows.

    - ``settings``: as :func:`okta_m2m.settings.read_settings` returns them.

    Raises :class:`~okta_m2m.admin.errors.RotationFailed` if the key cannot be rotated there: its ``kid`` is set separately,
    or it is not in a file (the content of an environment variable or of ``okta.yaml``, or your own signer).
    """
    if "kid" in settings.sources:
        raise RotationFailed(
            f"The kid is set separately from the key ({settings.sources['kid']}), so running processes would sign with "
            "the new key under the old kid.",
            remedy=(
                "Write the kid into the key file (in a PEM, as a line kid: ... above the key), remove that setting, and "
                "restart the processes."
            ),
        )
    path: Any = getattr(settings.key, "path", None)  # only a key that follows a file has one
    if path is None:
        raise RotationFailed(
            f"The key is not in a file ({settings.sources.get('key', 'argument')}), so running processes cannot see "
            "a new one.",
            remedy=(
                "Put it into a key file with its kid (okta-m2m key convert), set OKTA_CLIENT_PRIVATEKEY to its path, and "
                "restart them."
            ),
        )
    return Path(path)
