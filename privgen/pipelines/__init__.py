"""How tiles became pixels (JPEG, scaling), and bringing all roles to one way."""
