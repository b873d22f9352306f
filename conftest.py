"""Scenario files are tests here too: `./teambed test scenarios/library`."""

pytest_plugins = ("scenarios.pytest_plugin", "pytester")
