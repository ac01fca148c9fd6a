"""What conversions to another precision share: calibration photos, ranges, half arithmetic, and the search."""
