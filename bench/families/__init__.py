"""What is promised of each family, and how it is measured: one file per family."""
