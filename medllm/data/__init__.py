"""Datasets: every source becomes Examples; everything downstream reads only Examples."""
