"""DCT-Net: a photo becomes a cartoon."""
