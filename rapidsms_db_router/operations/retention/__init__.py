"""Retention: what is old is blanked, then deleted; and one person is forgotten on request."""
