"""What is left after a process has died, and what becomes of it."""
