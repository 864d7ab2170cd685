"""The pages of operators with many rows: ``python -m benchmarks.pages postgres 10000000``."""
