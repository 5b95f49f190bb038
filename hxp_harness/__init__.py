"""Measures and judges any OpenAI-compatible LLM serving stack."""

__version__ = "3.0.0"
