"""The serving stack that this project ships: four models, a gateway and what they stand on."""

__version__ = "3.0.0"
