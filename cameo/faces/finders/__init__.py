"""Ways to find faces, one file each: a class that is a `Finder` (`cameo/faces/face.py`), which flows choose among.

cascade.py     OpenCV's Haar cascades: needs no network
dctnet.py      the detector and the landmarks of DCT-Net
retinaface.py  RetinaFace
"""
