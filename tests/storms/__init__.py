"""Faults at their worst moment: servers of the tests' own, real workers, and nothing lost.

Every storm lets something happen to workers, broker or database while messages are under way, and
then compares what the gateway was given with what it should have been given. In short by default;
at full size with ``DB_ROUTER_STORMS=full``, several times over with ``DB_ROUTER_STORMS_RUNS=10``,
and as in an earlier run with the seed that it printed, ``DB_ROUTER_STORMS_SEED=4711``. The storms
of the documentation's table alone are run with ``PYTEST_ADDOPTS="-m table"``.
"""
