"""preforkd measured beside its peers, all in one run: `make bench`, or `python -m benchmarks.bench --only SECTION`."""
