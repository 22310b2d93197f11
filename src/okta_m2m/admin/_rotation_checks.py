"""Checks of the key file and of the app at Okta, before a rotation changes anything.

Invariant: a check changes nothing, and its message says what to do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from ..errors import InvalidKey, quoted
from ..keys import PrivateKey
from ._app_keys import AppKey
from ._apps import App
from ._ids import shown_id
from ._rotation_files import RotationFiles
from .errors import RotationFailed
from .key_files import check_replaceable

__all__ = ["check_app", "check_key_file", "check_registered_key"]

MAX_KEYS: Final = 50
"""Okta's limit on the number of keys per app."""


def check_key_file(files: RotationFiles) -> PrivateKey:
    """The key in use, if it can be rotated in its file. Raises :class:`~okta_m2m.admin.errors.RotationFailed`."""
    try:
        key = files.key_in_use()
        is_jwks = files.is_jwks()
    except InvalidKey as error:
        raise RotationFailed(f"The key in use cannot be read. {error.problem}", remedy=error.remedy) from None
    if is_jwks:
        raise RotationFailed(
            f"{files.shown} contains a JWKS, and a rotation replaces a file with one key.",
            remedy="Convert the file, and make every process use the new one: okta-m2m key convert",
        )
    beside = files.beside_key()
    if beside is not None:
        raise RotationFailed(
            f"{files.shown} also contains a {beside}, and a rotation replaces the whole file.",
            remedy="Move it to another file.",
        )
    directory = files.key.parent
    if not os.access(directory, os.W_OK) or not os.access(files.key, os.W_OK):
        raise RotationFailed(
            f"{directory} or the key file in it is read-only here (a mounted secret?).",
            remedy=(
                "Rotate a copy of the file where the secret is kept, and update the secret from it before the "
                "grace time ends (--grace)."
            ),
        )
    check_replaceable(files.key)
    for leftover in files.leftovers():
        raise RotationFailed(
            f"{leftover} already exists, and does not belong to a known rotation.",
            remedy="Find out which key it contains, and move it elsewhere.",
        )
    return key


def check_app(app: App) -> None:
    """Refuses an app whose keys are not registered with it. Raises :class:`~okta_m2m.admin.errors.RotationFailed`."""
    if app.jwks_uri is not None:
        raise RotationFailed(
            f"Okta fetches the keys of {app.name!r} from {quoted(app.jwks_uri, 200)}.",
            remedy=(
                "Publish the new key there beside the old one, switch the service to it, and then remove the old one."
            ),
        )
    if not app.usable:
        raise RotationFailed(
            f"{app.name!r} is not a service app that signs in with a key.", remedy="Name the app that the key is for."
        )


def check_registered_key(app: App, keys: Sequence[AppKey], key: PrivateKey, files: RotationFiles) -> AppKey:
    """The key in use as Okta lists it, if the app can have a second one.

    Raises :class:`~okta_m2m.admin.errors.RotationFailed`.
    """
    if any(registered.kid is None for registered in keys):
        raise RotationFailed(
            f"A key of {app.name!r} is registered at Okta without a kid, and Okta accepts no second key beside it.",
            remedy="Set its kid there first (Admin Console: Applications > the app > Public keys > edit).",
        )
    if key.kid is None:
        raise _kid_missing(app, keys, key, files)
    same = next((registered for registered in keys if registered.kid == key.kid), None)
    if same is None or same.thumbprint != key.thumbprint():
        raise RotationFailed(
            f"{files.shown} has the kid {shown_id(key.kid)!r}, for which Okta lists "
            f"{'another key' if same else 'no key'} of {app.name!r}.",
            remedy="Name the app that the key belongs to, or register the key first: okta-m2m key add",
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


def _kid_missing(app: App, keys: Sequence[AppKey], key: PrivateKey, files: RotationFiles) -> RotationFailed:
    """The error for a key file without a ``kid``, which shows the line to add."""
    same = next((registered for registered in keys if registered.thumbprint == key.thumbprint()), None)
    if same is None:
        return RotationFailed(
            f"{files.shown} contains a key that Okta does not list for {app.name!r}.",
            remedy="Name the app that the key belongs to, or register the key first: okta-m2m key add",
        )
    if files.is_pem():
        write = f"Write this line at the top of the file: kid: {shown_id(same.kid)}"
    else:
        write = f'Add this to the JWK: "kid": "{shown_id(same.kid)}"'
    return RotationFailed(
        f"{files.shown} has no kid, so running processes sign without one, and Okta refuses that while the app has two keys.",
        remedy=f"{write} (running processes read the file again; restart only those that name a kid themselves)",
    )
