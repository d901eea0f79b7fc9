"""Finds what was missed or is out of date, and has it fetched or computed again."""
