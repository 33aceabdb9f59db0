"""The audit log: who asked what model when, without any text; lines that vouch for each other."""
