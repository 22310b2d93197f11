"""``okta-m2m demo``: shows the library at work, with a stand-in for Okta on this machine."""
