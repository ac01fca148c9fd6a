"""The demo weights of DCT-Net and how they were trained."""
