"""Side-by-side benchmarks of Umbel and its peers: `python -m benchmarks`."""
