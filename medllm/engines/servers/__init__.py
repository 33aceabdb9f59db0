"""Engines in other processes: started and supervised here, or there already at some address."""
