"""The four models, and the engines that serve them."""
