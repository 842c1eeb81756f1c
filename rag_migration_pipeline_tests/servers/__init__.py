"""Servers that the tests start: real ones from wheels, and a double where no server can be installed.

What belongs here: starting, awaiting, stopping and breaking a server process on loopback ports.
What does not: fixtures (conftest files) and anything about a migration.
"""
