"""Face fusion: the face of one photo with the identity of another (ModelScope's image_face_fusion)."""
