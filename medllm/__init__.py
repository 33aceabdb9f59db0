"""medllm: from raw medical text to a served, checked model, on machines that keep their data."""

__version__ = "0.1.0"
