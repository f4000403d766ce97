"""Reading files: pixels, headers, labels and what files say of their bands."""
