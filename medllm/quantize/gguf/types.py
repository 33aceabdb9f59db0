"""The quantization types of GGUF, by llama.cpp's names."""

QUANTIZATION_TYPES = {
    "F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q5_K_S": 16,
    "Q5_1": 9, "Q5_0": 8, "Q4_K_M": 15, "Q4_K_S": 14, "Q4_1": 3, "Q4_0": 2, "IQ4_NL": 25,
    "IQ4_XS": 30, "Q3_K_L": 13, "Q3_K_M": 12, "Q3_K_S": 11, "IQ3_M": 27, "IQ3_S": 26, "Q2_K": 10,
    "IQ3_XS": 22, "IQ3_XXS": 23, "Q2_K_S": 21, "IQ2_M": 29, "IQ2_S": 28, "IQ2_XS": 20,
    "IQ2_XXS": 19, "IQ1_M": 31, "IQ1_S": 24,
}  # fmt: skip
"""`enum llama_ftype` of llama.h."""
NEEDS_IMPORTANCE = frozenset(
    ("IQ3_XS", "IQ3_XXS", "Q2_K_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S")
)
"""Types that llama.cpp refuses to make without an importance matrix."""
WITHOUT_IMPORTANCE = frozenset(("F32", "F16", "BF16", "Q8_0"))
"""Types that it makes no difference to."""
