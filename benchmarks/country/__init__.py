"""A broadcast at the size of a country: ``python -m benchmarks.country``."""
