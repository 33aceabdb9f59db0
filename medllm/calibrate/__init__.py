"""calibrate: a mix of datasets → the text that a quantizer looks at."""
