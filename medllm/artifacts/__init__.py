"""Artifacts: folders whose `medllm.json` says what they are and what they were made from."""
