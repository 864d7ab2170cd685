"""The database that messages are stored in: its connection, its clock, its passing errors."""
