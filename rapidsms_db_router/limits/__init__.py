"""Whether a backend may be called now: its rate, its slots, its circuit breaker and its pause."""
