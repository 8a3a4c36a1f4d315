"""Stands in for torchvision where none fits the installed PyTorch: MONAI Label imports two functions of it."""
