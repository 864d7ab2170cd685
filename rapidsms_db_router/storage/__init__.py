"""Messages and their batches, stored before anything else happens to them."""
