"""A RapidSMS project for the tests: an app, and backends that behave well or badly."""
