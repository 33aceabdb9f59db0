"""quantize: one model and one calibration set → every format."""
