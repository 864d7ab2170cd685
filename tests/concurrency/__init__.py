"""What holds when several threads or processes do the same at once, on real connections."""
