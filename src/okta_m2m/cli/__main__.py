"""``python -m okta_m2m.cli``."""

from . import main

main()
