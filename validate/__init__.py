"""Engine against original: fidelity, memory, latency, report."""
