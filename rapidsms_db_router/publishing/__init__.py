"""Putting tasks into the broker: doorbells, which tell a worker that there is something to do."""
