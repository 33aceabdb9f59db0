"""Drugs that are advised together and should not be, and the same ingredient twice."""
