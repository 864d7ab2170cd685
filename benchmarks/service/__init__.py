"""What both projects have beside the router: a gateway, and a task that does nothing."""
