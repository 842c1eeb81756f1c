"""Processes killed at named and at random moments, and what the next run makes of it."""
