"""RealESRNet: photos cleaned and enlarged."""
