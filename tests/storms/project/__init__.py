"""The project of the acceptance tests, with a slow gateway and little patience."""
