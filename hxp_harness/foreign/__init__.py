"""Runs that other tools made: their result files read, and judged as far as they carry a judgement."""
