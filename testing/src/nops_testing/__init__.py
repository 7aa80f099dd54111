"""Test kit of the workspace: a pytest plugin, strategies and contract suites."""
