"""What is believed of images: numbers that are small for pictures and large for noise.

A prior takes one problem's images (B, C, H, W) and returns a number, which an attack adds to its
distance.
"""
