"""Why a distance is what it is: known damage in physical units, and the images that it comes from."""
