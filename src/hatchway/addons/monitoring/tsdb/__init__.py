"""The time-series store: series by labels, samples in compressed chunks, a journal that survives `kill -9`."""
