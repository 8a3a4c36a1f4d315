"""What can be trained on the server."""

from .train_bundle import TrainBundle

__all__ = ["TrainBundle"]
