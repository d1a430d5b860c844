"""preforkd and its peers under the same faults: who loses one, who runs one twice? `python -m benchmarks.chaos`"""
