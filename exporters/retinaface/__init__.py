"""RetinaFace: where the faces of a photo are."""
