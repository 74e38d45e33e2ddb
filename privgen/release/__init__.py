"""What leaves the building: folders of synthetic tiles, the generator file and its card."""
