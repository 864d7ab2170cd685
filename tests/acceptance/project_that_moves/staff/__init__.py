"""What the project's staff does."""
