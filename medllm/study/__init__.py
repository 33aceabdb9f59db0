"""study: the same model, quantized with several calibration sets, several times, and compared."""
