"""The verdict, tried on thousands of virtual runs against servers whose truth is known."""
