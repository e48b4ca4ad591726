"""Measures the service beside an echo and the seed's stack, and how it grows: see bench/README.md."""
