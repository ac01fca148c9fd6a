"""Faces of a photo: finding them, their five points, and the aligned crops that networks take."""

from cameo.faces.face import Face, Matrix, Points

__all__ = ["Face", "Matrix", "Points"]
