"""The management API that administers apps: ``/api/v1/apps`` with keys and grants, ``/oauth2/v1/clients`` with roles.

Invariant: statuses, formats and the words of a refusal are those of Okta's published OpenAPI documents and of recorded
traffic. Where Okta publishes no words for a refusal, the refusal names the field and the words are ours. An app created here
is an :class:`~okta_m2m.testing.App` like any other.
"""
