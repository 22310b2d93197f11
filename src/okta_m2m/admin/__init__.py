"""What an administrator does: create a service app, grant it scopes and roles, rotate its keys, and find out what is wrong.

Import from the module that is about the task. :mod:`~okta_m2m.admin.management` signs in to Okta's management API,
:mod:`~okta_m2m.admin.provisioning` creates and changes service apps, :mod:`~okta_m2m.admin.rotation` replaces a key,
:mod:`~okta_m2m.admin.doctor` checks a configuration, :mod:`~okta_m2m.admin.introspection` asks about a token or revokes it.
What they raise is in :mod:`~okta_m2m.admin.errors`.
"""

__all__: list[str] = []
