"""FakeOkta: an Okta org on a loopback port. Import it from ``okta_m2m.testing``; nothing in this folder is public.

Invariant: it shares no code with the client, so that an error in one cannot hide an error in the other.
"""

__all__: list[str] = []
