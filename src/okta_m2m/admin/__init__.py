"""Tasks of an administrator: create a service app, grant it scopes and roles, rotate its keys, and find out what is wrong.

Import from the module for your task. :mod:`~okta_m2m.admin.management` signs in to Okta's management API,
:mod:`~okta_m2m.admin.provisioning` creates and changes service apps, :mod:`~okta_m2m.admin.rotation` replaces a key,
:mod:`~okta_m2m.admin.doctor` checks a configuration, :mod:`~okta_m2m.admin.introspection` introspects or revokes a
token. Their errors are in :mod:`~okta_m2m.admin.errors`.
"""

__all__: list[str] = []
