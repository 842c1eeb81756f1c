"""The files in docker/, run as far as a machine without Docker can."""
