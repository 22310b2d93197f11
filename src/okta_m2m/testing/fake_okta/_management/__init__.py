"""The management API that administers apps: ``/api/v1/apps`` with keys and grants, ``/oauth2/v1/clients`` with roles;
and ``/api/v1/logs``, which shows what they did.

Invariant: statuses, formats and the texts of refusals are those of Okta's published OpenAPI documents and of recorded
traffic. If Okta publishes no text for a refusal, the text is ours and names the field. An app created here
is an :class:`~okta_m2m.testing.App` like any other.
"""
