"""Key rotation that loses no call: the new key is registered beside the old one, proved, put into the key file, proved
again, and only then does the old one go.

    step          what is done                                                     undone by
    ----------    ------------------------------------------------------------     ------------------------------
    make          a new key in a file beside the key file                          removing it
    register      its public half at Okta, beside the old one                      deactivating, deleting it there
    prove         a token is got with it                                           -
    switch        the key file holds it, in one atomic step                        the old key, kept beside
    wait          running processes read the file again; what is on its way ends   -
    prove again   a token is got with what the key file holds                      -
    deactivate    the old key counts no more at Okta                               activating it
    confirm       a token is got once more                                         -
    delete        the old key is gone, at Okta and here                            nothing

Each step may be done twice without harm, and a journal beside the key file says which one was done last. Whoever was
killed in mid-rotation runs it again, and it goes on from there; before ``switch`` from the beginning, because the new key
may be gone from Okta by then (taken back by half, or by somebody else), and only ``prove`` knows. A failure up to
``confirm`` leaves the old key in force: after ``switch`` the key file gets it back.

Invariant: at every moment the key that the key file holds is registered and active at Okta. The journal holds no secret.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal

from .._core.service_app import ServiceApp
from ..errors import ConfigurationError, InvalidClient, InvalidKey, OktaM2MError, TokenError, quoted
from ..keys import PrivateKey, Signer
from ..requests import OktaAuth
from ..settings import Settings
from .key_files import check_replaceable, key_text, new_key, read_jwk_file, replace_file, write_new_file
from .management import (
    InvalidRequest,
    ManagementApi,
    NotFound,
    NotSignedIn,
    PermissionMissing,
    ProvisioningError,
    ScopeMissing,
    public_id,
)
from .provisioning import AppKey, activate_key, add_key, deactivate_key, delete_key, get_app, list_keys

__all__ = [
    "Plan",
    "Progress",
    "Rotated",
    "Rotation",
    "RotationFailed",
    "Step",
    "SuperAdminNeeded",
    "rotatable_key_file",
]

GRACE: Final = 60.0
"""Seconds between the switch and the second proof. A process reads the key file before each assertion and sends that at
once, so a moment would do on one machine; a file that is shared or synchronised is seen later."""

SETTLING: Final = 60.0
"""Seconds for which a key that was just registered may be unknown to the token endpoint: Okta is eventually consistent."""

MOST_KEYS: Final = 50
"""Okta's limit of keys per app."""


class Step(StrEnum):
    """The steps, in their order."""

    MAKE = "make"
    REGISTER = "register"
    PROVE = "prove"
    SWITCH = "switch"
    WAIT = "wait"
    PROVE_AGAIN = "prove again"
    DEACTIVATE = "deactivate"
    CONFIRM = "confirm"
    DELETE = "delete"


STEPS: Final = tuple(Step)

# Refusals after which nothing new is at Okta, so that nothing here has to wait for another run.
_NOTHING_DONE: Final = (PermissionMissing, ScopeMissing, NotSignedIn, NotFound, InvalidRequest, ConfigurationError)


class RotationFailed(ProvisioningError):
    """A rotation could not begin or go on; the message says which key is in force."""


class SuperAdminNeeded(RotationFailed, PermissionMissing):
    """Okta lets only a Super Admin change the keys of an app that has scopes granted."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A step that begins, or is done; ``resumed``: it was done by an earlier run that did not come to its end."""

    step: Step
    state: Literal["begun", "done", "resumed"]
    detail: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rotation would do. ``unfinished`` is the last step that an earlier run did; ``steps`` are those to come."""

    key_file: Path
    app_id: str
    app_name: str
    old_kid: str
    new_kid: str | None
    unfinished: Step | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Rotated:
    """A rotation that came to its end; ``resumed``: with steps of an earlier run."""

    old_kid: str
    new_kid: str
    resumed: bool


@dataclass(slots=True)
class _Journal:
    org_url: str
    app_id: str
    old_kid: str
    old_thumbprint: str
    old_id: str
    new_kid: str = ""
    new_thumbprint: str = ""
    new_id: str = ""
    done: str = ""
    switched_at: float = 0.0


class Rotation:
    """The rotation of the key in ``key_file`` for one app.

    - ``app_id``: the app's id at Okta.
    - ``service``: builds the service app that signs with a given key, as the running processes do; a token that it gets
      proves the key.
    - ``alg``, ``bits``: of the new key; by default as the old one's.
    - ``grace``: seconds to wait after the switch, see :data:`GRACE`. ``settling``: see :data:`SETTLING`.
    - ``progress``: told of each step as it begins and ends.

    Whoever signs in to ``api`` may be the same app: it follows its key file as the others do.
    """

    def __init__(
        self,
        api: ManagementApi,
        app_id: str,
        key_file: str | os.PathLike[str],
        *,
        service: Callable[[Signer], ServiceApp],
        alg: str | None = None,
        bits: int | None = None,
        grace: float = GRACE,
        settling: float = SETTLING,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._api = api
        self._app_id = app_id
        # Through a symlink the file itself is replaced: the link stays.
        self._file = Path(os.path.realpath(key_file))
        self._shown = Path(key_file)
        self._service = service
        self._alg = alg
        self._bits = bits
        self._grace = grace
        self._settling = settling
        self._progress = progress
        self._journal_file = self._beside("rotation")
        self._new_file = self._beside("new")
        self._old_file = self._beside("old")

    # ── what is offered ──────────────────────────────────────────────────────────────────────────────────────────

    def plan(self) -> Plan:
        """What :meth:`run` would do now, after all checks that change nothing. Raises what it would raise first."""
        journal = self._read_journal()
        app = get_app(self._api, self._app_id)
        if journal is None:
            old, _ = self._checked_start()
            return Plan(self._shown, app.id, app.name, str(old.kid), None, None, STEPS)
        done = Step(journal.done) if journal.done else None
        return Plan(
            self._shown,
            app.id,
            app.name,
            journal.old_kid,
            journal.new_kid or None,
            done,
            STEPS[_resumed(journal) :],
        )

    def run(self) -> Rotated:
        """Rotates, or goes on with a rotation that was broken off.

        Raises :class:`RotationFailed` (:class:`SuperAdminNeeded` among them) or
        :class:`~okta_m2m.errors.ConfigurationError` with the old key in force; whatever else is raised, an interruption
        included, leaves a rotation that this method goes on with.
        """
        with self._alone():
            journal = self._read_journal()
            resumed = journal is not None
            if journal is None:
                old, registered = self._checked_start()
                journal = _Journal(self._api.org_url, self._app_id, str(old.kid), old.thumbprint(), registered.id)
                self._write_journal(journal)
            deeds: dict[Step, Callable[[_Journal], str]] = {
                Step.MAKE: self._make,
                Step.REGISTER: self._register,
                Step.PROVE: self._prove,
                Step.SWITCH: self._switch,
                Step.WAIT: self._wait,
                Step.PROVE_AGAIN: self._prove_again,
                Step.DEACTIVATE: self._deactivate,
                Step.CONFIRM: self._confirm,
                Step.DELETE: self._delete,
            }
            first = _resumed(journal)
            for step in STEPS[:first]:
                self._tell(step, "resumed", "done by an earlier run")
            for step in STEPS[first:]:
                self._tell(step, "begun", "")
                try:
                    detail = deeds[step](journal)
                    self._write_journal(replace(journal, done=step))
                except (OktaM2MError, OSError) as error:
                    raise self._failure(step, journal, error) from error
                journal.done = step
                self._tell(step, "done", detail)
            self._clear()
            return Rotated(journal.old_kid, journal.new_kid, resumed)

    def abandon(self) -> bool:
        """Takes a broken-off rotation back: the old key in force, the new one gone. Says whether there was one.

        Raises :class:`RotationFailed` where the old key is deleted already; then :meth:`run` ends the rotation.
        """
        with self._alone():
            journal = self._read_journal()
            if journal is None:
                return False
            if journal.done == Step.DELETE or not any(
                key.thumbprint == journal.old_thumbprint for key in list_keys(self._api, self._app_id)
            ):
                raise RotationFailed(
                    f"The old key {journal.old_kid!r} is deleted at Okta, so there is no way back. Run the rotation "
                    "again: it has "
                    "only to tidy up."
                )
            switched = self._old_file.exists()
            self._take_back(journal)
            if switched:
                self._api.pause(self._grace, "until every running process has read the old key again")
            self._proved(PrivateKey.from_file(self._file).snapshot())
            for key in list_keys(self._api, self._app_id):
                if journal.new_thumbprint and key.thumbprint == journal.new_thumbprint:
                    deactivate_key(self._api, self._app_id, key.id)
                    delete_key(self._api, self._app_id, key.id)
            self._clear()
            return True

    # ── before anything is changed ───────────────────────────────────────────────────────────────────────────────

    def _checked_start(self) -> tuple[PrivateKey, AppKey]:
        old = self._checked_file()
        app = get_app(self._api, self._app_id)
        if app.jwks_uri is not None:
            raise RotationFailed(
                f"Okta fetches the keys of {app.name!r} from {quoted(app.jwks_uri, 200)}. Publish the new key there "
                "beside the old "
                "one, switch, and take the old one away."
            )
        if not app.usable:
            raise RotationFailed(f"{app.name!r} is no service app that signs in with a key. Name the app of this key.")
        keys = list_keys(self._api, self._app_id)
        registered = next((key for key in keys if key.kid == old.kid), None)
        if any(key.kid is None for key in keys):
            raise RotationFailed(
                f"A key of {app.name!r} is registered at Okta without a kid, and Okta takes no second one beside it. "
                "Give it its kid "
                "there first (Admin Console: Applications > the app > Public keys > edit)."
            )
        if registered is None or registered.thumbprint != old.thumbprint():
            raise RotationFailed(
                f"{self._shown} has the kid {public_id(old.kid)!r}, under which Okta lists "
                f"{'another key' if registered else 'no key'} of {app.name!r}. Name the app that the key belongs to, "
                "or "
                "register it first: okta-m2m key add"
            )
        if not registered.active:
            raise RotationFailed(
                f"The key {public_id(old.kid)!r} is inactive at Okta. Activate it first: okta-m2m key activate"
            )
        if len(keys) >= MOST_KEYS:
            raise RotationFailed(
                f"The app has {len(keys)} keys, and Okta takes {MOST_KEYS}. Delete those that nobody uses: okta-m2m "
                "key list"
            )
        try:
            self._token(old)
        except TokenError as error:
            raise RotationFailed(f"The key in use gets no token, so nothing was changed. {error}") from error
        return old, registered

    def _checked_file(self) -> PrivateKey:
        try:
            key = PrivateKey.from_file(self._file).snapshot()
        except InvalidKey as error:
            raise RotationFailed(f"The key in use cannot be read. {error}") from None
        try:
            document = read_jwk_file(self._file)
        except InvalidKey:
            raise RotationFailed(
                f"{self._shown} is no JWK file. A new key has a new kid, which only a JWK brings along; processes "
                "that read a PEM "
                "would sign without one, and Okta refuses that as soon as there are two keys. Convert it, and let "
                "every process "
                "use the new file: okta-m2m key convert"
            ) from None
        if not document.get("kid"):
            raise RotationFailed(
                f"The JWK in {self._shown} has no kid, so running processes sign without one, and Okta refuses that "
                "as soon as there "
                "are two keys. Write it into the file under the name that Okta lists, and restart what has read it "
                "before: "
                "okta-m2m key convert"
            )
        directory = self._file.parent
        if not os.access(directory, os.W_OK) or not os.access(self._file, os.W_OK):
            raise RotationFailed(
                f"{directory} or the key file in it is read-only here (a mounted secret?). Rotate where the secret "
                "is kept: with "
                "a copy of the file, and then put what it holds into the secret before the grace time ends (--grace)."
            )
        check_replaceable(self._file)
        for leftover in (self._new_file, self._old_file):
            if leftover.exists():
                raise RotationFailed(
                    f"{leftover} is in the way, and belongs to no rotation that is known here. Look what key it is, "
                    "and move it away."
                )
        return key

    # ── the steps ────────────────────────────────────────────────────────────────────────────────────────────────

    def _make(self, journal: _Journal) -> str:
        if not self._new_file.exists():
            old = PrivateKey.from_file(self._file)
            alg = self._alg or old.alg
            bits = self._bits or max(2048, _modulus_bits(old))
            write_new_file(self._new_file, key_text(new_key(alg, bits=bits)))
        try:
            new = self._new_key()
        except InvalidKey:
            # Killed while it was written. Nobody has seen that key, so another may take its place.
            self._new_file.unlink()
            return self._make(journal)
        journal.new_kid, journal.new_thumbprint = str(new.kid), new.thumbprint()
        return f"{new.alg}, kid {new.kid}"

    def _register(self, journal: _Journal) -> str:
        try:
            registered = add_key(self._api, self._app_id, self._new_key().jwks()["keys"][0])
            journal.new_id = registered.id
            if not registered.active:  # taken back by half
                activate_key(self._api, self._app_id, registered.id)
        except PermissionMissing as error:
            raise _super_admin(error) from error
        return f"key id {journal.new_id}"

    def _prove(self, journal: _Journal) -> str:
        return self._proved(self._new_key())

    def _switch(self, journal: _Journal) -> str:
        if PrivateKey.from_file(self._file).thumbprint() != journal.new_thumbprint:
            content = self._file.read_bytes()
            if not self._old_file.exists():
                write_new_file(self._old_file, content)
            elif self._old_file.read_bytes() != content:
                self._old_file.unlink()  # cut short when this was killed
                write_new_file(self._old_file, content)
            replace_file(self._file, self._new_file.read_bytes())
        journal.switched_at = time.time()
        return f"{self._shown} holds the new key"

    def _wait(self, journal: _Journal) -> str:
        left = min(self._grace, journal.switched_at + self._grace - time.time())
        if left > 0:
            self._api.pause(left, "until every running process has read the new key")
        return f"{self._grace:g} s since the switch"

    def _prove_again(self, journal: _Journal) -> str:
        return self._proved(self._current(journal))

    def _deactivate(self, journal: _Journal) -> str:
        try:
            with suppress(NotFound):
                deactivate_key(self._api, self._app_id, journal.old_id)
        except PermissionMissing as error:
            raise _super_admin(error) from error
        return f"kid {journal.old_kid}"

    def _confirm(self, journal: _Journal) -> str:
        return self._proved(self._current(journal))

    def _delete(self, journal: _Journal) -> str:
        with suppress(NotFound):
            # Again, in case a failure's way back activated it and went no further. Okta deletes no active key.
            deactivate_key(self._api, self._app_id, journal.old_id)
            delete_key(self._api, self._app_id, journal.old_id)
        return f"kid {journal.old_kid}"

    # ── failure ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _failure(self, step: Step, journal: _Journal, error: Exception) -> RotationFailed:
        """Puts the old key back in force, as far as it is not, and says so."""
        kind = SuperAdminNeeded if isinstance(error, SuperAdminNeeded) else RotationFailed
        if step is Step.DELETE:
            return kind(
                f"The rotation is done but for deleting the old key {journal.old_kid!r}; the new key is in force. "
                f"{error} Then run it again: it goes on from there."
            )
        if step in (Step.MAKE, Step.REGISTER) and not journal.new_id and isinstance(error, _NOTHING_DONE):
            self._clear()
        try:
            self._take_back(journal)
        except (OktaM2MError, OSError) as other:
            in_force = (
                "Both keys are registered, and the key file holds the new one; the way back failed too "
                f"({type(other).__name__})."
            )
        else:
            in_force = f"The old key {journal.old_kid!r} is in force."
        failed = kind(
            f"The rotation failed at the step {step.value!r}. {in_force} {error} Then run it again, or take it back "
            "with --abandon.",
            status=getattr(error, "status", None),
            error=getattr(error, "error", None),
            error_description=getattr(error, "error_description", None),
            request_id=getattr(error, "request_id", None),
        )
        failed.causes = getattr(error, "causes", ())
        return failed

    def _take_back(self, journal: _Journal) -> None:
        # In this order: whoever is killed in between leaves both keys active, and a journal that claims no more than is so.
        done = STEPS.index(Step(journal.done)) if journal.done else -1
        if done + 1 >= STEPS.index(Step.DEACTIVATE):
            activate_key(self._api, self._app_id, journal.old_id)
        if done >= STEPS.index(Step.SWITCH):
            self._write_journal(replace(journal, done=Step.PROVE))
            journal.done = Step.PROVE
        if self._old_file.exists():
            content = self._old_file.read_bytes()
            with suppress(InvalidKey):
                if PrivateKey.from_text(content.decode()).thumbprint() == journal.old_thumbprint and not (
                    self._file.exists() and self._file.read_bytes() == content
                ):
                    replace_file(self._file, content)

    # ── what the steps share ─────────────────────────────────────────────────────────────────────────────────────

    def _new_key(self) -> PrivateKey:
        return PrivateKey.from_file(self._new_file).snapshot()

    def _current(self, journal: _Journal) -> PrivateKey:
        key = PrivateKey.from_file(self._file).snapshot()
        if key.thumbprint() != journal.new_thumbprint:
            raise RotationFailed(f"{self._shown} does not hold the new key any more. Find out what else writes to it.")
        return key

    def _proved(self, key: PrivateKey) -> str:
        """Gets a token with the key, patiently while Okta settles."""
        began, tries = time.monotonic(), 0
        while True:
            tries += 1
            try:
                self._token(key)
            except InvalidClient as error:
                pause = min(0.25 * 2.0**tries, 5.0)
                if time.monotonic() - began + pause > self._settling:
                    raise
                self._api.pause(pause, f"until the token endpoint knows the key ({error.error})")
            else:
                return "a token was got"

    def _token(self, key: PrivateKey) -> None:
        OktaAuth(self._service(key)).token()

    def _tell(self, step: Step, state: Literal["begun", "done", "resumed"], detail: str) -> None:
        if self._progress is not None:
            self._progress(Progress(step, state, detail))

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _beside(self, what: str) -> Path:
        return self._file.with_name(f"{self._file.name}.{what}")

    def _read_journal(self) -> _Journal | None:
        try:
            content = self._journal_file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            journal = _Journal(**json.loads(content.decode()))
            if journal.done:
                Step(journal.done)
        except (ValueError, TypeError):
            raise RotationFailed(
                f"{self._journal_file} is damaged. Look which keys Okta lists (okta-m2m key list) and which one "
                f"{self._shown} holds, "
                "and remove the file."
            ) from None
        if (journal.org_url, journal.app_id) != (self._api.org_url, self._app_id):
            raise RotationFailed(
                f"A rotation of {self._shown} for the app {quoted(journal.app_id, 60)} in "
                f"{quoted(journal.org_url, 100)} was broken "
                "off. Run that one again first."
            )
        return journal

    def _write_journal(self, journal: _Journal) -> None:
        replace_file(self._journal_file, json.dumps(asdict(journal), indent=2).encode() + b"\n")

    def _clear(self) -> None:
        # The journal last: as long as it is there, the next run ends what is left to do.
        for file in (self._new_file, self._old_file, self._journal_file):
            file.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One rotation of a key file at a time; a process that is killed lets go of the lock."""
        try:
            from filelock import FileLock, Timeout
        except ModuleNotFoundError:
            raise ConfigurationError("Key rotation needs filelock. Install it: pip install 'okta-m2m[cli]'") from None
        lock_file = self._beside("lock")
        lock = FileLock(lock_file, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise RotationFailed(f"Another rotation of {self._shown} is under way. Wait until it has ended.") from None
        except OSError as error:
            raise RotationFailed(
                f"{lock_file} cannot be written ({error.strerror}), so the directory is read-only here (a mounted "
                "secret?). Rotate "
                "where the secret is kept."
            ) from None
        try:
            yield
        finally:
            with suppress(OSError):
                os.unlink(
                    lock_file
                )  # while it is held, so nobody else's is removed; Windows removes nothing that is open
            lock.release()


def _resumed(journal: _Journal) -> int:
    """The place in ``STEPS`` of the step to go on with."""
    done = STEPS.index(Step(journal.done)) if journal.done else -1
    return done + 1 if done >= STEPS.index(Step.SWITCH) else 0


def _super_admin(error: PermissionMissing) -> SuperAdminNeeded:
    return SuperAdminNeeded(
        "Only a Super Admin may change the keys of an app once Okta scopes are granted to it (Okta: Implement OAuth "
        "for Okta with "
        "a service app). Sign in with an SSWS token of a Super Admin, or as a service app with the role SUPER_ADMIN.",
        status=error.status,
        error=error.error,
        error_description=error.error_description,
        request_id=error.request_id,
    )


def _modulus_bits(key: PrivateKey) -> int:
    modulus = key.public_jwk.get("n")
    return 0 if modulus is None else len(modulus) * 6 // 256 * 256


def rotatable_key_file(settings: Settings) -> Path:
    """The key file that a service app of these settings follows, if its key can be rotated there.

    Raises :class:`RotationFailed` for a key whose ``kid`` is set apart from it, and for one that is no file: the text of an
    environment variable, of ``okta.yaml``, or a signer of its own.
    """
    if "kid" in settings.sources:
        raise RotationFailed(
            f"The kid is set apart from the key ({settings.sources['kid']}), so running processes would sign with "
            "the new key under "
            "the old kid. Put it into a JWK file (okta-m2m key convert), remove that setting, and restart them."
        )
    path: Any = getattr(settings.key, "path", None)
    if path is None:
        raise RotationFailed(
            f"The key is no file ({settings.sources.get('key', 'argument')}), so running processes cannot see a new "
            "one. Put it into "
            "a JWK file (okta-m2m key convert), set OKTA_CLIENT_PRIVATEKEY to its path, and restart them."
        )
    return Path(path)
