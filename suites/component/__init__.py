"""Every service alone, its neighbours mocked."""
