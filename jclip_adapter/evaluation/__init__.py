"""What is measured: accuracy, the choice of hyper-parameters, benchmarks, tables and pictures."""
