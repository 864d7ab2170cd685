"""The settings of the project that publishes every task once, word for word."""

from tests.storms.project.settings import *  # noqa: F403
