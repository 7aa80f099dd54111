"""Formulas broken on purpose, to see a test go red: `python -m nops_testing.mutants`."""
