"""The whole of it: real web servers, workers, brokers and databases, seen from the outside."""
