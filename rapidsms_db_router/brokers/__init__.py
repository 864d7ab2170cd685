"""kombu's transports, mended where a message could be lost or a worker end."""
