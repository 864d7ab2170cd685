"""The service: health workers register by SMS and report the cases they see."""
