"""Filling the tallies, at recovery's turn."""
