"""Small weights of our own for DCT-Net and GPEN, and how they were trained."""
