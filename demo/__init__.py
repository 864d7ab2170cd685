"""A small health-worker service on RapidSMS, to try the router with: ``python -m demo``."""
