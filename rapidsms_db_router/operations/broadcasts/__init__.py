"""Messages to many people: finding them, following them, and writing them."""
