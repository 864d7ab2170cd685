"""Running the apps on a stored inbound message."""
