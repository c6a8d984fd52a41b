"""Accuracy, selection of hyper-parameters, benchmarks, tables and pictures."""
