"""Moving in: the tables of ``rapidsms.router.db`` are taken over where they are.

Of the old app only the tables are needed: it may be installed or not. Nothing is written to them.
A run copies what is not here yet, chunk by chunk, and follows what the old router has changed since
an earlier run. A chunk is one transaction, and a row keeps its primary key: so a run that is
repeated, or that has died, stores nothing twice and leaves nothing out.
"""
