"""What both projects have beside the router: a gateway, and a task that does nothing."""

#: How many messages answer one text "count".
ANSWERS = 3
