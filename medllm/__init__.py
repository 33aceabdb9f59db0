"""medllm: from raw medical text to a served, checked model, on machines that keep their data."""

__version__ = "0.1.0"

from medllm.places import pin_library_folders

# before any library is imported, in a notebook too: libraries read these at their import
pin_library_folders()
