"""Contraindications: drugs that a patient must not take, or only with care."""
